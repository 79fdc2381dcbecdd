"""The tensors of pickles, and the refusal to run any code in them."""

import io
import os
import pickle
import re
import zipfile

import pytest
import torch
from safetensors.torch import load_file

from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.checkpoint.pickles import read_pickle
from loco_cli.checkpoint.reader import read_range
from loco_cli.commands import diff as compare
from loco_cli.errors import CheckpointError
from tests.checkpoints import K_ORIGINAL, write_folder

UNET = "unet/diffusion_pytorch_model"
DTYPES = {torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16", torch.bool: "BOOL"}


def saved(path, content, **how):
    torch.save(content, path, **how)
    return path


def test_locates_tensors_as_torch_does(tmp_path):
    """
    Dtype, shape and bytes of each tensor equal `torch.load`: views, ties, scalars and parameters.
    """
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {str(dtype): whole.to(dtype) for dtype in (*DTYPES, torch.float32, torch.int64)}
    tensors |= {"rows": whole[1:], "tied": whole, "empty": torch.empty(0, 4)}
    tensors |= {"number": torch.tensor(7), "parameter": torch.nn.Parameter(whole[:, :1].clone())}
    path = saved(tmp_path / "some.ckpt", torch.nn.Module().state_dict() | tensors)

    found = read_pickle(path)

    assert found.tensors.keys() == tensors.keys()
    for name, wanted in torch.load(path, weights_only=True).items():
        info = found.tensors[name]
        assert info.shape == wanted.shape
        assert info.dtype == DTYPES.get(wanted.dtype, info.dtype)
        content = wanted.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        assert read_range(path, *found.span(name)) == content


@pytest.fixture
def pickled(single_file, tmp_path):
    """The small model as a training checkpoint: a `state_dict` beside other entries."""
    tensors = {"global_step": 7, "state_dict": load_file(single_file)}
    return saved(tmp_path / "model.ckpt", tensors)


def test_a_pickle_equals_its_conversion(pickled, single_file):
    """
    A pickle and its conversion have no differences; a changed tensor is listed.
    """
    same = compare.run(pickled, single_file)
    tensors = load_file(single_file)
    tensors[K_ORIGINAL] = tensors[K_ORIGINAL] + 1
    other = compare.run(saved(pickled.with_name("other.pt"), tensors), single_file)

    assert same.is_same
    assert same.counts.identical == len(tensors)
    assert [tensor.name for tensor in other.tensors] == [K_ORIGINAL]


def test_a_pickle_stands_for_a_component_without_safetensors(weights, tmp_path):
    """
    A folder of pickles equals its conversion, and files of a training run are ignored.
    """
    folder, old = (write_folder(tmp_path / name, weights) for name in ("new", "old"))
    for file in ("unet/diffusion_pytorch_model", "text_encoder/model"):
        weights_of = old / f"{file}.safetensors"
        name = weights_of.with_name(f"{weights_of.stem.replace('model', 'model', 1)}.bin")
        saved(name, load_file(weights_of))
        weights_of.unlink()
    (old / "unet" / "optimizer.bin").write_bytes(b"anything")

    found = compare.run(old, folder)

    assert {key: n for key, n in found.counts.model_dump().items() if n} == {
        "identical": found.b.tensors
    }


def test_a_pickle_is_shown_but_not_edited(pickled, loco, golden):
    """
    `models show` reads a pickle, and `edit` explains how to convert it.
    """
    shown = loco("models", "show", pickled)
    edited = loco("edit", "van gogh style", "--layers", "8", "--model", pickled, "--dry-run")

    assert shown.exit_code == 0, shown.stderr
    assert "up_blocks.1.attentions.0.transformer_blocks.0.attn2" in shown.stdout
    assert edited.exit_code == 1
    golden(edited.stderr)


class Payload:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def zipped(content, how=zipfile.ZIP_STORED, name="archive/data.pkl"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def written(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def rebuilt(*arguments):
    """Return a pickle that calls torch's tensor function with any arguments."""
    head = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n"
    return head + pickle.dumps(arguments, 2)[2:-1] + b"R."


def test_no_code_of_a_pickle_runs(tmp_path, golden):
    """
    A pickle that runs code is refused in every protocol, although it has tensors as well.
    """
    marker = tmp_path / "ran"
    for protocol in range(1, 6):
        content = {"a": torch.ones(2), "b": Payload(marker)}
        path = saved(tmp_path / "model.ckpt", content, pickle_protocol=protocol)
        torch.load(path, weights_only=False)
        marker.rmdir()  # the payload works

        with pytest.raises(CheckpointError) as caught:
            read_pickle(path)

        golden(caught.value.message.replace("nt.mkdir", "posix.mkdir"))  # the name on Windows
        assert not marker.exists()


FOREIGN_FILES = (
    b"mine",
    pickle.dumps({"a": 1}),
    zipped(b"mine", name="notes.txt"),
    zipped(b"mine"),
    zipped(b"."),
    zipped(pickle.dumps({})[:-3]),
    zipped(rebuilt("no storage", 0, (1,), (1,))),
    zipped(b"\x80\x02ccollections\nOrderedDict\n}X\x01\0\0\0aK\1sb."),
    zipped(b"\x80\x02cbuiltins\neval\nX\x01\0\0\0a\x85R."),
    zipped(b"\x80\x02ctorch\nload\n."),
    zipped(b"\x80\x04\x8c\x0bcollections\x8c\x1dOrderedDict.__init_subclass__\x93."),
    zipped(bytes(1 << 20), zipfile.ZIP_DEFLATED),
    written({"a": 1}),
    written([1]),
)


def test_refuses_pickles_that_are_not_checkpoints(tmp_path, golden):
    """
    A file that is not a zip, is damaged, names other objects or has no tensors is refused.
    """
    for content in FOREIGN_FILES:
        (tmp_path / "model.ckpt").write_bytes(content)

        with golden.raises(CheckpointError, "model.ckpt"):
            open_checkpoint(tmp_path / "model.ckpt", with_pickles=True)


def test_refuses_tensors_that_cannot_be_compared(tmp_path, golden):
    """
    A tensor that is not contiguous, has an unknown dtype, or exceeds its storage is refused.
    """
    complex_tensor = torch.ones(9).to(torch.complex64)
    tensors = (torch.ones(4, 6).T, torch.ones(1).expand(3), complex_tensor)
    whole = saved(tmp_path / "whole.ckpt", {"a": torch.ones(9)})
    cut, short = tmp_path / "cut.ckpt", tmp_path / "short.ckpt"
    cut.write_bytes(whole.read_bytes()[:-40])
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(short, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content[:8] if name.endswith("data/0") else content)
    paths = [saved(tmp_path / f"{n}.ckpt", {"a": t}) for n, t in enumerate(tensors)]

    for path in (*paths, cut):
        with golden.raises(CheckpointError, path.name):
            read_pickle(path)
    with pytest.raises(CheckpointError) as caught:
        read_pickle(short)
    golden(re.sub(r"from byte \d+", "from byte N", caught.value.message))
