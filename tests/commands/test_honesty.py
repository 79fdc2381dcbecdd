"""What does not hold of an output is said: each alteration has its sentences, and no others."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from loco_cli.commands import verify
from tests.checkpoints import sd1_weights, write_single_file
from tests.edits import edit

TENSOR = "model.diffusion_model.output_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
STAMP = "`out.safetensors` is stamped with"
NO_BASE = "`out.safetensors` does not give back the base's hash when it is undone"


def write(home, name, *, seed=0, stamp=True):
    home.mkdir(exist_ok=True)
    weights = sd1_weights(seed)
    base = write_single_file(home / f"{name}-base.safetensors", weights, metadata={"format": "pt"})
    return edit(base, home / name, stamp=stamp).paths


@pytest.fixture(params=[True, False], ids=["stamped", "plain"])
def output(request, tmp_path):
    return write(tmp_path, "out", stamp=request.param)


def said(paths):
    found = verify.run(paths.root)
    assert found.ok is not bool(found.failures)
    return found.failures


def alter(paths, change):
    tree = json.loads(paths.manifest.read_text())
    change(tree)
    paths.manifest.write_text(json.dumps(tree))


def is_stamped(paths):
    return json.loads(paths.manifest.read_text())["output"]["stamped"]


def matches(failures, *words):
    assert len(failures) == len(words), failures
    for failure, word in zip(failures, words, strict=True):
        assert word in failure


# what is changed in a manifest -> what is said beside the stamp, if anything
ALTERED = {
    "a subject": (lambda tree: tree["edits"][0].update(subject="monet"), ()),
    "a figure": (lambda tree: tree["tensors"][0].update(relative_change=0.5), ()),
    "a tensor's hash": (
        lambda tree: tree["tensors"][0].update(sha256_after="0" * 64),
        (f"`out.loco.json` does not tell the truth of tensor `{TENSOR}`",),
    ),
    "what it was before": (
        lambda tree: tree["tensors"][0].update(sha256_before="0" * 64),
        (f"`out.loco.json` does not tell the truth of tensor `{TENSOR}`",),
    ),
    "a tensor's shape": (
        lambda tree: tree["tensors"][0].update(shape=[12, 16]),
        (f"`out.loco.json` does not tell the truth of tensor `{TENSOR}`",),
    ),
    "the recipe": (
        lambda tree: tree["recipe"].update(text="loco: 1\n"),
        ("`out.loco.json` holds another recipe than its digest is of",),
    ),
    "the base": (
        lambda tree: tree["base"]["files"][0].update(sha256="0" * 64),
        ("`out.undo.safetensors` belongs to another base than the manifest's", NO_BASE),
    ),
}


@pytest.mark.parametrize("case", ALTERED)
def test_an_altered_manifest(case, output):
    """
    The stamp tells any change of what it covers; without one, what can be measured is.
    """
    change, words = ALTERED[case]

    alter(output, change)

    matches(said(output), *((STAMP,) if is_stamped(output) else ()), *words)


def test_a_manifest_that_disowns_its_stamp(tmp_path):
    """
    To say that nothing was stamped does not help: the stamp is there.
    """
    paths = write(tmp_path, "out")

    alter(paths, lambda tree: tree["output"].update(stamped=False))
    assert said(paths) == ()
    alter(paths, lambda tree: tree["edits"][0].update(subject="monet"))

    matches(said(paths), STAMP)


def test_a_manifest_that_calls_a_model_a_lora(output):
    """
    A LoRA has no base to give back; what is none is held against its base.
    """
    alter(output, lambda tree: tree["output"].update(kind="lora"))

    matches(said(output), "`out.safetensors` is no LoRA, which the manifest says it is")


def test_an_undo_file_of_another_base(output, tmp_path):
    """
    It is told as such, and so is that undoing would lead elsewhere.
    """
    other = write(tmp_path / "other", "out", seed=1)

    output.undo.write_bytes(other.undo.read_bytes())

    matches(
        said(output),
        "`out.undo.safetensors` belongs to another base than the manifest's",
        NO_BASE,
        "`out.undo.safetensors` is not the file that was written: tensor",
    )


def resave(path, *, keeps_metadata, change=lambda tensors: tensors):
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    save_file(change(load_file(path)), path, metadata if keeps_metadata else None)


@pytest.mark.parametrize("keeps_metadata", [True, False])
def test_a_file_that_another_tool_saved_again(keeps_metadata, tmp_path):
    """
    Every tensor is as it was, and only the header is another; the stamp is told where it is lost.
    """
    paths = write(tmp_path, "out")

    resave(paths.root, keeps_metadata=keeps_metadata)

    lost = () if keeps_metadata else ("`out.safetensors` has lost its stamp",)
    matches(said(paths), *lost, "were written: the change is in its header")


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {name: value.astype(np.float32) for name, value in tensors.items()},
        lambda tensors: {name: value for name, value in tensors.items() if name != TENSOR},
    ],
    ids=["float32", "a tensor less"],
)
def test_a_file_that_another_tool_converted(change, output):
    """
    Neither can it be undone, nor is it what was written; both are told.
    """
    resave(output.root, keeps_metadata=True, change=change)

    matches(said(output), "does not fit", f"were written: tensor `{TENSOR}`")


def test_an_edit_of_an_edit_without_a_stamp(tmp_path):
    """
    The header is the base's, and with it the stamp of the edit before.
    """
    first = write(tmp_path, "first")

    second = edit(first.root, tmp_path / "second", stamp=False, size=0.25).paths

    assert said(second) == ()
    alter(second, lambda tree: tree["base"].update(parent=None))
    matches(said(second), "`second.safetensors` is stamped with", "belongs to another base")
