"""Pickles that are looked at: where their tensors lie, and that nothing in them ever runs."""

import io
import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from loco_cli.checkpoint.files import Entry, read_files
from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.checkpoint.pickles import read_pickle
from loco_cli.checkpoint.reader import read_range
from loco_cli.cli.app import app
from loco_cli.commands import diff as compare
from loco_cli.errors import CheckpointError
from tests.checkpoints import K_ORIGINAL, write_folder

UNET = "unet/diffusion_pytorch_model"
DTYPES = {torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16", torch.bool: "BOOL"}


def saved(path, content, **how):
    torch.save(content, path, **how)
    return path


def loco(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_tensors_lie_where_torch_reads_them(tmp_path):
    """
    Every dtype, parts of a shared storage, tied, empty and single numbers, parameters too: dtype,
    shape and bytes are those that `torch.load` gives.
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
    """The small model as a file of training has it: a `state_dict` among other things."""
    tensors = {"global_step": 7, "state_dict": load_file(single_file)}
    return saved(tmp_path / "model.ckpt", tensors)


def test_a_pickle_is_the_file_it_was_made_into(pickled, single_file):
    """
    Compared with its own conversion nothing differs; with another, the tensor that does is named.
    """
    same = compare.run(pickled, single_file)
    tensors = load_file(single_file)
    tensors[K_ORIGINAL] = tensors[K_ORIGINAL] + 1
    other = compare.run(saved(pickled.with_name("other.pt"), tensors), single_file)

    assert same.is_same
    assert same.counts.identical == len(tensors)
    assert [one.name for one in other.tensors] == [K_ORIGINAL]


def test_a_folder_is_compared_with_the_pickles_it_came_from(weights, tmp_path):
    """
    A component's pickle counts where it has nothing else, and what training left beside it not.
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


def test_a_pickle_is_looked_at_and_not_edited(pickled):
    """
    `models show` and `diff` read it, `edit` says how to convert it.
    """
    shown = loco("models", "show", pickled)
    edited = loco("edit", "van gogh style", "--layers", "8", "--model", pickled, "--dry-run")

    assert shown.exit_code == 0, shown.stderr
    assert "up_blocks.1.attentions.0.transformer_blocks.0.attn2" in shown.stdout
    assert edited.exit_code == 1
    assert "is a pickle, which may run code when it is read" in edited.stderr
    assert "safetensors.torch.save_file" in edited.stderr


class Payload:
    """An object whose unpickling makes a folder."""

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
    """Return a pickle that calls torch's function for tensors with anything."""
    head = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n"
    return head + pickle.dumps(arguments, 2)[2:-1] + b"R."


@pytest.mark.parametrize("protocol", range(1, 6))
def test_nothing_in_a_pickle_runs(protocol, tmp_path):
    """
    What would run is named and refused, in every protocol and beside honest tensors.
    """
    marker = tmp_path / "ran"
    path = saved(
        tmp_path / "model.ckpt",
        {"a": torch.ones(2), "b": Payload(marker)},
        pickle_protocol=protocol,
    )
    torch.load(path, weights_only=False)
    marker.rmdir()  # it does work

    named = r"names `\w+.mkdir`, which is no tensor and may run code: nothing of it is read"
    put_together = "puts names together while it runs: nothing of it is read"
    with pytest.raises(CheckpointError, match=named if protocol < 4 else put_together):
        read_pickle(path)

    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"mine", "is no zip of tensors"),
        (pickle.dumps({"a": 1}), "is no zip of tensors"),
        (zipped(b"mine", name="notes.txt"), "is no zip of tensors"),
        (zipped(b"mine"), "the pickle in .* is damaged"),
        (zipped(b"."), "the pickle in .* is damaged"),
        (zipped(pickle.dumps({})[:-3]), "the pickle in .* is damaged"),
        (zipped(rebuilt("no storage", 0, (1,), (1,))), "the pickle in .* is damaged"),
        (zipped(b"\x80\x02ccollections\nOrderedDict\n}X\x01\0\0\0aK\1sb."), "is damaged"),
        (zipped(b"\x80\x02cbuiltins\neval\nX\x01\0\0\0a\x85R."), "names `builtins.eval`"),
        (zipped(b"\x80\x02ctorch\nload\n."), "names `torch.load`"),
        (
            zipped(b"\x80\x04\x8c\x0bcollections\x8c\x1dOrderedDict.__init_subclass__\x93."),
            "puts names",
        ),
        (zipped(bytes(1 << 20), zipfile.ZIP_DEFLATED), "is compressed"),
        (written({"a": 1}), "holds no tensors"),
        (written([1]), "holds no tensors"),
    ],
    ids=lambda one: one[:24] if isinstance(one, str) else "",
)
def test_a_pickle_that_is_no_checkpoint_is_refused(content, words, tmp_path):
    """
    No zip, no tensors, programs that make no sense: one sentence each.
    """
    (tmp_path / "model.ckpt").write_bytes(content)

    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(tmp_path / "model.ckpt", with_pickles=True)


@pytest.mark.parametrize(
    ("tensor", "cut", "words"),
    [
        (
            torch.ones(4, 6).T,
            0,
            r"\[6, 4\] in steps of \[1, 6\]: its numbers do not follow one another",
        ),
        (torch.ones(1).expand(3), 0, r"\[3\] in steps of \[0\]"),
        (torch.ones(9), 40, "is no zip of tensors"),
        (
            torch.ones(9).to(torch.complex64),
            0,
            "has numbers of kind `complex64`, which `diff` cannot compare",
        ),
    ],
)
def test_tensors_that_cannot_be_compared_are_named(tensor, cut, words, tmp_path):
    """
    A tensor in another order than its numbers', of no known kind, or in a file that was cut.
    """
    path = saved(tmp_path / "model.ckpt", {"a": tensor})
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])

    with pytest.raises(CheckpointError, match=words):
        read_pickle(path)


def test_a_storage_must_be_as_large_as_is_said(tmp_path):
    """
    A member that is shorter than its tensor would show bytes of another.
    """
    path = saved(tmp_path / "model.ckpt", {"a": torch.ones(9)})
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "lie.ckpt", "w") as lie:
        for name in whole.namelist():
            content = whole.read(name)
            lie.writestr(name, content[:8] if name.endswith("data/0") else content)

    with pytest.raises(
        CheckpointError, match=r"takes 36 bytes from byte \d+, which its storage does not have"
    ):
        read_pickle(tmp_path / "lie.ckpt")


def test_a_pickle_is_read_only_where_it_is_wanted(pickled):
    """
    Whoever does not ask for pickles gets none, whatever is in them.
    """
    entry = Entry(pickled.name, pickled, pickled.stat().st_size)

    with pytest.raises(CheckpointError, match="is a pickle"):
        read_files(pickled, (entry,), with_pickles=False)
