"""Tokenizers that transformers cannot build alone."""

import json
import struct

import torch

from loco_cli.interventions import Run
from loco_cli.models.locate import locate
from loco_cli.models.session import load_model
from loco_cli.sampling.sample import sample_batch
from tests.families.layouts import write_folder
from tests.families.small import small_model
from tests.pipelines import CPU, running


def as_pieces(tokenizer):
    """Return a vocabulary as a sentencepiece model: pieces with scores and types."""
    entries = b""
    for piece, score in tokenizer["model"]["vocab"]:
        kind = {"<pad>": 3, "</s>": 3, "<unk>": 2}.get(piece, 1)
        text = piece.encode()
        entry = bytes([0x0A, len(text)]) + text + b"\x15" + struct.pack("<f", score)
        entries += bytes([0x0A, len(entry) + 2]) + entry + bytes([0x18, kind])
    return entries


def test_deepfloyd_needs_no_library_for_its_pieces(tmp_path):
    """With only a sentencepiece model, DeepFloyd draws the same picture."""
    folder = write_folder(tmp_path / "if", small_model("deepfloyd"), torch.float32)
    whole = folder / "tokenizer" / "tokenizer.json"
    pieces = as_pieces(json.loads(whole.read_text("utf-8")))
    (folder / "tokenizer" / "spiece.model").write_bytes(pieces)
    whole.unlink()
    run = Run("A house in the style of van gogh. ", seed=0)

    found = load_model(locate(str(folder)), CPU)

    picture, expected = (
        sample_batch(one, [run], steps=1, guidance=4.0) for one in (found, running("deepfloyd"))
    )
    assert torch.equal(picture, expected)
