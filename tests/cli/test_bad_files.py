"""Damaged, foreign and unusual files: one sentence each, and nothing written."""

import json
import os
import shlex
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.checkpoints import K_ORIGINAL, K, sd1_weights, write_folder, write_single_file

UNET = Path("small/unet/diffusion_pytorch_model.safetensors")
ENCODER = Path("small/text_encoder/model.safetensors")
INDEX = UNET.with_name(f"{UNET.name}.index.json")
EDIT = "edit 'van gogh style' --layers 8"
LOCALIZE = "localize 'van gogh style'"


def written(path, content):
    """Return a function that writes a file of text or bytes."""
    raw = content if isinstance(content, bytes) else content.encode()

    def write():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(raw)

    return write


def header(content):
    """Return a function that writes a safetensors file with this header and no data."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return written("bad.safetensors", struct.pack("<Q", len(raw)) + raw)


def tensors(path, *names):
    """Return a function that writes a file with small tensors of these names."""
    return lambda: save_file({name: np.ones(2, np.float16) for name in names}, path)


def sparse(path, n_bytes):
    """Return a function that writes a sparse file of this size."""

    def write():
        path.touch()
        os.truncate(path, n_bytes)

    return write


def changed_header(change):
    """Return a function that changes the header of a good checkpoint but not its data."""

    def write():
        content = Path("good.safetensors").read_bytes()
        end = 8 + struct.unpack("<Q", content[:8])[0]
        entries = json.loads(content[8:end])
        change(entries)
        raw = json.dumps(entries).encode()
        Path("bad.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + content[end:])

    return write


def variant_with_another_shape():
    weights = load_file(UNET) | {K: np.ones((9, 12), np.float16)}
    save_file(weights, UNET.with_suffix(".fp16.safetensors"), {"format": "pt"})


def cut_short():
    Path("bad.safetensors").write_bytes(Path("good.safetensors").read_bytes()[:-100])


def lora():
    names = ("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", "alpha")
    save_file({name: np.ones((1, 8), np.float16) for name in names}, "bad.safetensors")


def encoder_without_token_embedding():
    weights = load_file(ENCODER)
    kept = {name: weights[name] for name in weights if "token_embedding" not in name}
    save_file(kept, ENCODER, {"format": "pt"})


def undo_of_two_files():
    base = {"files": [{"path": p, "bytes": 1, "sha256": "0" * 64} for p in "ab"]}
    base |= {"name": "two", "parent": None, "left_out": []}
    save_file({"a": np.ones(1)}, "out.safetensors")
    metadata = {"loco.schema": "loco.undo/1", "loco.base": json.dumps(base)}
    save_file({"a": np.ones(1)}, "out.undo.safetensors", metadata)


def name_that_is_not_utf8():
    os.close(os.open(b"small/\xff", os.O_CREAT | os.O_WRONLY))


# a file that every command refuses, and a name in the error
CHECKPOINTS = {
    "short": (cut_short, "bad.safetensors"),
    "lora": (lora, "LoRA"),
    "fp8": (
        changed_header(lambda entries: entries[K_ORIGINAL].update(dtype="F8_E4M3", shape=[16, 12])),
        "F8_E4M3",
    ),
}

# a wrong file, a command line that reads it, and a name in the error
SHOW = "models show ./bad.safetensors"
UNDO = "undo edited --output restored"
SMALL = f"{EDIT} --model ./small"
FILES = {
    "no UNet": (
        tensors(
            "bad.safetensors",
            "first_stage_model.quant_conv.bias",
            "cond_stage_model.transformer.text_model.a",
        ),
        SHOW,
        "bad.safetensors",
    ),
    "metadata number": (header({"__metadata__": {"a": 1}}), SHOW, "bad.safetensors"),
    "damaged index": (written(INDEX, '{"a":'), SMALL, str(INDEX)),
    "empty index": (written(INDEX, "{}"), SMALL, "weight_map"),
    "huge index": (sparse(INDEX, 100_000_001), SMALL, "100000001"),
    "pipe": (lambda: os.mkfifo("bad.safetensors"), SHOW, "bad.safetensors"),
    "pipe in a folder": (lambda: os.mkfifo("small/pipe"), SMALL, "small/pipe"),
    "variants with different shapes": (
        variant_with_another_shape,
        SMALL,
        "[9, 12]",
    ),
    "backslash in a file name": (written("small/a\\b", "mine"), SMALL, "small/a"),
    "file name that is not UTF-8": (name_that_is_not_utf8, SMALL, "UTF-8"),
    "no token embedding": (encoder_without_token_embedding, SMALL, "token_embedding.weight"),
    "foreign undo file": (
        tensors("edited/loco-undo.safetensors", "a"),
        UNDO,
        "edited/loco-undo.safetensors",
    ),
    "undo file for two files": (
        undo_of_two_files,
        "undo out.safetensors --output restored.safetensors",
        "2 files",
    ),
    "huge manifest": (sparse(Path("edited/loco-manifest.json"), (64 << 20) + 1), UNDO, "67108865"),
    "damaged manifest": (written("edited/loco-manifest.json", '{"a":'), UNDO, "loco-manifest.json"),
    "empty manifest": (written("edited/loco-manifest.json", "{}"), UNDO, "loco_version"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory, edited):
    """A folder with a small model, a small single file and an edit."""
    folder = tmp_path_factory.mktemp("models")
    weights = sd1_weights()
    write_folder(folder / "small", weights)
    write_single_file(folder / "good.safetensors", weights)
    shutil.copytree(edited, folder / "edited")
    return folder


@pytest.fixture(autouse=True)
def here(here, models):
    """Fill the current folder with copies of the models."""
    shutil.copytree(models, here, dirs_exist_ok=True)
    return here


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_bad_checkpoint(refused, case):
    """
    Every command that reads a model refuses a bad file, and so does a dry run.
    """
    damage, name = CHECKPOINTS[case]
    damage()
    words = [*shlex.split(EDIT), "--model", "bad.safetensors"]

    refused(*words, "--quiet", exit_code=1, names=[name])
    refused(*words, "--dry-run", exit_code=1, is_same=True)
    refused(*shlex.split(LOCALIZE), *words[-2:], "--quiet", exit_code=1, names=[name])
    refused("diff", "good.safetensors", "bad.safetensors", "--quiet", exit_code=1, names=[name])


@pytest.mark.parametrize("case", FILES)
def test_bad_file(refused, case):
    """
    A bad file is refused with exit code 1.
    """
    damage, line, name = FILES[case]
    damage()

    refused(*shlex.split(line), "--quiet", exit_code=1, names=[name])


def test_configuration_that_does_not_fit_the_weights(loco):
    """
    A model that diffusers cannot load is refused with the family that was expected.
    """
    config = Path("edited/unet/config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"cross_attention_dim": 7}))

    result = loco("generate", "a cat", "--model", "./edited", "--quiet")

    # the rest of the sentence is that of diffusers
    assert result.stderr.startswith("error: cannot load checkpoint `edited` as `sd1`: ")
    assert result.exit_code == 1


def test_invalid_build_time(refused, monkeypatch):
    """
    A `SOURCE_DATE_EPOCH` after the year 9999 is refused.
    """
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "9" * 18)

    refused(*shlex.split(EDIT), exit_code=2, names=["SOURCE_DATE_EPOCH", "9" * 18])


def test_images_with_nan(refused, tiny, here):
    """
    A model whose images are not finite fails with the prompt, whatever the method.
    """
    shutil.copytree(tiny.path, "broken")
    path = here / "broken" / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["decoder.conv_out.bias"] = np.full_like(weights["decoder.conv_out.bias"], np.nan)
    save_file(weights, path, {"format": "pt"})
    model = "--model ./broken --seeds 1 --steps 1 --scorer tiny --quiet"

    one_prompt = "--prompt 'by {subject}'"
    for method in (
        f"--layers 8 {one_prompt}",
        f"--method causal-trace {one_prompt}",
        "--method neurons --layers 8",
    ):
        words = shlex.split(f"{LOCALIZE} {method} {model}")
        refused(*words, exit_code=1, names=["--dtype float32"])
