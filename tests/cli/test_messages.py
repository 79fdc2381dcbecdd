"""
What is said of wrong files and rare requests: what is wrong, what is typed, exit code, sentence.

With the tables of `test_bad_input.py` this is every sentence that a command line can bring about
here; `tests/test_messages.py` looks for any that no test knows.
"""

import json
import os
import struct
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from platformdirs import user_config_path
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

import loco_cli
from loco_cli.cli.app import app
from tests.checkpoints import K, sd1_weights, tree_bytes, write_folder

UNET = Path("small/unet/diffusion_pytorch_model.safetensors")
ENCODER = Path("small/text_encoder/model.safetensors")
INDEX = UNET.with_name(f"{UNET.name}.index.json")
MODEL_HINT = "give a diffusers folder or a single `.safetensors` file"
PICKLE_HINT = (
    "convert it to safetensors first: load it with `torch.load(..., weights_only=True)`, which "
    "runs no code, and save the tensors with `safetensors.torch.save_file`"
)
BROKEN_OFF = "Expecting value: line 1 column 6 (char 5)"  # after `{"a":`
EDIT_SMALL = ["edit", "van gogh style", "--layers", "8", "--model", "./small"]
EDIT_TINY = ["edit", "van gogh style", "--layers", "8"]
NULL_SPACE = [*EDIT_TINY, "--set", "edit.preserve_form=null-space"]


def header(content):
    """Return what writes a file whose header is `content`, and that has no data."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda: Path("bad.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw)


def only(*names):
    """Return what writes a file that holds only tensors of these names."""
    return lambda: save_file({name: np.ones(2, np.float16) for name in names}, "bad.safetensors")


def without(path, ending):
    """Return what takes the tensors of an ending out of a file."""

    def take():
        kept = {n: t for n, t in load_file(path).items() if not n.endswith(ending)}
        save_file(kept, path, {"format": "pt"})

    return take


def variant_of_another_shape():
    tensors = load_file(UNET)
    tensors[K] = np.ones((9, 12), np.float16)
    save_file(tensors, UNET.with_suffix(".fp16.safetensors"), {"format": "pt"})


def of_another_shape():
    tensors = load_file(UNET)
    tensors[K] = np.ones((9, 12), np.float16)
    save_file(tensors, UNET, {"format": "pt"})


def sparse(path, n_bytes):
    """Return what writes a file of a size, all of it a hole."""

    def write():
        path.touch()
        os.truncate(path, n_bytes)

    return write


def text(path, content):
    """Return what writes a file of text or bytes."""
    raw = content if isinstance(content, bytes) else content.encode()

    def write():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(raw)

    return write


def places():
    text(user_config_path("loco", appauthor=False) / "models.yaml", "sd15:\n")()


def undo_of_two_files():
    base = {"files": [{"path": p, "bytes": 1, "sha256": "0" * 64} for p in "ab"]}
    base |= {"name": "two", "parent": None, "left_out": []}
    save_file({"a": np.ones(1)}, "out.safetensors")
    about = {"loco.schema": "loco.undo/1", "loco.base": json.dumps(base)}
    save_file({"a": np.ones(1)}, "out.undo.safetensors", about)


def scorer_that_breaks_off():
    copytree(Path(loco_cli.__file__).parent / "tiny/weights/scorer", "scorer")
    Path("scorer/preprocessor_config.json").write_text("{")


def reconfigure(**settings):
    """Have the UNet's configuration say something else, and its first weights follow."""
    config = Path("edited/unet/config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))
    weights = config.with_name(UNET.name)
    tensors = load_file(weights)
    width = settings.get("in_channels", 4)
    tensors["conv_in.weight"] = np.zeros((32, width, 3, 3), np.float32)
    save_file(tensors, weights, {"format": "pt"})


def lora_of_another_base():
    asked = [*EDIT_TINY, "--as", "lora", "--output", "lora.safetensors"]
    assert CliRunner().invoke(app, asked).exit_code == 0


# what is wrong with a file: how it comes about, what is typed, sentence, hint
FILES = {
    "parts of a model, none a UNet": (
        only("first_stage_model.quant_conv.bias", "cond_stage_model.transformer.text_model.a"),
        ["models", "show", "./bad.safetensors"],
        "`bad.safetensors` has no UNet, only text_encoder, vae",
        "pass the checkpoint of a complete model: a `.safetensors` file or a diffusers folder",
    ),
    "a dtype that is none": (
        header({"a": {"dtype": "F13", "shape": [1], "data_offsets": [0, 4]}}),
        ["models", "show", "./bad.safetensors"],
        "header of `bad.safetensors`: tensor `a` has the unknown dtype `F13`",
        None,
    ),
    "metadata that is no text": (
        header({"__metadata__": {"a": 1}}),
        ["models", "show", "./bad.safetensors"],
        "header of `bad.safetensors`: metadata `a` is 1, not text",
        None,
    ),
    "a header of millions of values": (
        header(b'{"a":[' + b"0," * 4_000_000 + b"0]}"),
        ["models", "show", "./bad.safetensors"],
        "header of `bad.safetensors` has about 4000002 values, loco reads at most 1000000",
        None,
    ),
    "a header that breaks off": (
        header(b'{"a":'),
        ["models", "show", "./bad.safetensors"],
        f"header of `bad.safetensors` is damaged: {BROKEN_OFF}",
        None,
    ),
    "an index that breaks off": (
        text(INDEX, '{"a":'),
        EDIT_SMALL,
        f"index `{INDEX}` is damaged: {BROKEN_OFF}",
        None,
    ),
    "an index of nothing": (
        text(INDEX, "{}"),
        EDIT_SMALL,
        f"index `{INDEX}` is damaged: `weight_map` must name a file for each tensor",
        None,
    ),
    "a configuration that is a list": (
        text("edited/text_encoder/config.json", "[]"),
        [*EDIT_TINY, "--model", "./edited"],
        "configuration `edited/text_encoder/config.json` is not a JSON object",
        None,
    ),
    "a scorer whose settings break off": (
        scorer_that_breaks_off,
        ["localize", "van gogh style", "--scorer", "scorer"],
        "`scorer/preprocessor_config.json` is not valid JSON",
        None,
    ),
    "a UNet that is not what its configuration says": (
        lambda: reconfigure(cross_attention_dim=7),
        ["generate", "a cat", "--model", "./edited"],
        "cannot load checkpoint `edited` as `sd1`: ",
        None,
    ),
    "a model that draws over pictures": (
        lambda: reconfigure(in_channels=9),
        ["generate", "a cat", "--model", "./edited"],
        "checkpoint `edited` needs a picture as input, as for inpainting: its UNet reads 9 "
        "channels, not 4",
        None,
    ),
    "a pipe": (
        lambda: os.mkfifo("pipe.safetensors"),
        ["models", "show", "./pipe.safetensors"],
        "`pipe.safetensors` is neither a file nor a folder",
        MODEL_HINT,
    ),
    "a pipe in a folder": (
        lambda: os.mkfifo("small/pipe"),
        EDIT_SMALL,
        "`small/pipe` is neither a file nor a folder",
        None,
    ),
    "a UNet in a pickle": (
        lambda: UNET.rename(UNET.with_suffix(".bin")),
        EDIT_SMALL,
        "`small` has its UNet only as a pickle, which can run code when it is loaded",
        PICKLE_HINT,
    ),
    "variants that are two models": (
        variant_of_another_shape,
        EDIT_SMALL,
        f"`{UNET.with_suffix('.fp16.safetensors')}` and `{UNET}` are different models: `{K}` is "
        "[9, 12] in one and [8, 12] in the other",
        None,
    ),
    "a projection that does not fit its block": (
        of_another_shape,
        EDIT_SMALL,
        f"tensor `{K}` of `small` has shape [9, 12], but its block implies [8, 12]",
        None,
    ),
    "an index without end": (
        sparse(INDEX, 100_000_001),
        EDIT_SMALL,
        f"index `{INDEX}` has 100000001 bytes, loco reads at most 100000000",
        None,
    ),
    "a name that is a path elsewhere": (
        text("small/a\\b", "mine"),
        EDIT_SMALL,
        "`small/a\\\\b` has a name that is a different path on Windows",
        "rename it",
    ),
    "a text encoder without its words": (
        without(ENCODER, "token_embedding.weight"),
        EDIT_SMALL,
        "`small` lacks `text_model.embeddings.token_embedding.weight` in `text_encoder`",
        None,
    ),
    "an undo file that is none": (
        lambda: save_file({"a": np.ones(1)}, "edited/loco-undo.safetensors"),
        ["undo", "edited", "--output", "restored"],
        "`edited/loco-undo.safetensors` is not an undo file of `loco`",
        None,
    ),
    "an undo file of more files than one": (
        undo_of_two_files,
        ["undo", "out.safetensors", "--output", "restored.safetensors"],
        "`out.undo.safetensors` lists 2 files for a base that is one file",
        None,
    ),
    "a manifest without end": (
        sparse(Path("edited/loco-manifest.json"), (64 << 20) + 1),
        ["undo", "edited", "--output", "restored"],
        "manifest `edited/loco-manifest.json` has 67108865 bytes, loco reads at most 67108864",
        None,
    ),
    "a manifest that breaks off": (
        text("edited/loco-manifest.json", '{"a":'),
        ["undo", "edited", "--output", "restored"],
        f"manifest `edited/loco-manifest.json` is not valid JSON: {BROKEN_OFF}",
        None,
    ),
    "a manifest of nothing": (
        text("edited/loco-manifest.json", "{}"),
        ["undo", "edited", "--output", "restored"],
        "manifest `edited/loco-manifest.json` is damaged: loco_version: field required",
        None,
    ),
    "a manifest that is no text": (
        text("edited/loco-manifest.json", b"\xff"),
        ["undo", "edited", "--output", "restored"],
        "manifest `edited/loco-manifest.json` is not UTF-8",
        None,
    ),
    "a recipe over a folder": (
        lambda: Path("folder").mkdir(),
        ["recipes", "new", "mine", "--output", "folder", "--force"],
        "`folder` cannot be written: is a directory",
        None,
    ),
    "nothing left to edit with": (
        lambda: None,
        NULL_SPACE,
        "keys to keep exactly span all 96 directions, so nothing can move",
        "preserve less, or use `--set edit.preserve_form=ridge`",
    ),
}

REQUESTS = {
    "a LoRA of another base": (
        lora_of_another_base,
        ["evaluate", "van gogh style", "--base", "tiny-plain", "--edited", "lora.safetensors"],
        "differs from its manifest",
        "give the base that it was made from with `--base`; remove `lora.loco.json` to "
        "apply it to any base that it fits",
    ),
    "a slot of another name": (
        lambda: None,
        ["localize", "van gogh style", "--prompt", "a {name} by {subject}"],
        "prompt `a {name} by {subject}` has the slot `{name}`, not `{subject}`",
        None,
    ),
    "a set of so many layers": (
        lambda: None,
        ["localize", "van gogh style", "--window", "set", "--width", "2"],
        "`--width 2` is for ranges; the size of a set is found by the search",
        "leave one of `--width` and `--window set` out",
    ),
    "every set of layers": (
        lambda: None,
        ["localize", "van gogh style", "--window", "set", "--search", "exhaustive"],
        "`--search exhaustive` tries every range, but there are too many sets to try",
        "leave one of `--search exhaustive` and `--window set` out",
    ),
    "a pooled prompt where there is none": (
        lambda: None,
        ["localize", "van gogh style", "--pooled"],
        "`tiny` has no pooled prompt to swap",
        "leave `--pooled` out",
    ),
    "an alias without a place": (
        places,
        ["models", "list"],
        "models.yaml` gives no location for `sd15`",
        "write lines like `sd21: owner/repository` or `sdxl: /models/sdxl.safetensors`",
    ),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("small") / "small", sd1_weights())


@pytest.fixture
def here(tmp_path, monkeypatch, small, edited):
    """A small model and an edit, to be damaged."""
    monkeypatch.chdir(tmp_path)
    copytree(small, "small")
    copytree(edited, "edited")
    return tmp_path


def refused(here, prepare, arguments, code, message, hint):
    """Bring it about, run the command, and hold what it says and leaves against the table."""
    prepare()
    sizes = {path: path.lstat().st_size for path in here.rglob("*")}

    result = CliRunner().invoke(app, [*arguments, "--quiet"])

    said, *way_out = result.stderr.rstrip("\n").split("\n\nhint: ")
    assert said.startswith("error: ")
    assert message in said
    assert way_out == ([hint] if hint else [])
    assert result.exit_code == code
    assert {path: path.lstat().st_size for path in here.rglob("*")} == sizes


@pytest.mark.parametrize("case", FILES)
def test_a_wrong_file(here, case):
    """
    What is wrong with a file is one sentence, exit code 1, and nothing is written.
    """
    prepare, arguments, message, hint = FILES[case]

    refused(here, prepare, arguments, 1, message, hint)


@pytest.mark.parametrize("case", REQUESTS)
def test_a_rare_request(here, case):
    """
    What is wrong with a request is one sentence, exit code 2, and nothing is written.
    """
    prepare, arguments, message, hint = REQUESTS[case]

    refused(here, prepare, arguments, 2, message, hint)


def test_a_name_that_is_no_text(here):
    """
    A file whose name no other system could read is refused by what can be shown of it.
    """

    def prepare():
        os.close(os.open(b"small/\xff", os.O_CREAT | os.O_WRONLY))

    refused(here, prepare, EDIT_SMALL, 1, "` is not UTF-8", None)


def test_a_time_that_is_none(here, monkeypatch):
    """
    A `SOURCE_DATE_EPOCH` beyond all calendars is refused.
    """
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "9" * 18)
    message = f"`SOURCE_DATE_EPOCH` is `{'9' * 18}`, which is no time"

    refused(here, lambda: None, EDIT_TINY, 2, message, None)


@pytest.fixture(scope="module")
def broken(tiny, tmp_path_factory):
    """`tiny` with a decoder that makes no numbers of anything."""
    folder = copytree(tiny.path, tmp_path_factory.mktemp("broken") / "broken")
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["decoder.conv_out.bias"] = np.full_like(tensors["decoder.conv_out.bias"], np.nan)
    save_file(tensors, path, {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["localize", "van gogh style", "--layers", "8", "--prompt", "by {subject}"],
        ["localize", "van gogh style", "--method", "causal-trace", "--prompt", "by {subject}"],
        ["localize", "van gogh style", "--method", "neurons", "--layers", "8"],
    ],
    ids=lambda words: "-".join(words[:4:3]),
)
def test_pictures_that_are_no_numbers(here, broken, arguments):
    """
    A model that makes no numbers is told by the prompt that was drawn, and is no success.
    """
    before = tree_bytes(here)
    how = ["--model", str(broken), "--seeds", "1", "--steps", "1", "--scorer", "tiny", "--quiet"]

    result = CliRunner().invoke(app, [*arguments, *how])

    assert result.exit_code == 1
    assert result.stderr.startswith("error: a picture of `")
    assert result.stderr.endswith("` contains NaN or infinity\n\nhint: try `--dtype float32`\n")
    assert tree_bytes(here) == before
