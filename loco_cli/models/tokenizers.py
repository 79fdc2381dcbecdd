"""
The tokenizers of a checkpoint, or packaged ones if it has none.

This module needs no torch, so a plan can check its prompts.
"""

from collections.abc import Iterable
from pathlib import Path

from loco_cli.checkpoint.reader import TensorSlot
from loco_cli.concept import PromptPair
from loco_cli.encoders.tokenizer import (
    PromptTokenizer,
    check_prompt_pair,
    load_clip_tokenizer,
    load_tokenizer,
    read_settings,
)
from loco_cli.errors import CheckpointError, printable
from loco_cli.families import registry
from loco_cli.families.spec import CLIP_POSITIONS, TextEncoderSpec
from loco_cli.models.locate import LocatedModel

_FILES = ("vocab.json", "tokenizer.json", "spiece.model")


def check_subjects(located: LocatedModel, pairs: Iterable[PromptPair]) -> None:
    """
    Check prompt pairs against every tokenizer of a model.

    Args:
        located: The model.
        pairs: The prompt pairs of the edits.

    Raises:
        ConceptError: A tokenizer cuts off a subject or the end of a target prompt, or finds no
            token of a subject.
        EditError: The model has no text encoder.
        CheckpointError: A tokenizer is not readable.
    """
    tokenizers = tokenizers_of(located)
    for pair in pairs:
        for tokenizer in tokenizers:
            check_prompt_pair(tokenizer, pair)


def tokenizers_of(located: LocatedModel) -> tuple[PromptTokenizer, ...]:
    """
    Load the tokenizer of each text encoder, or of the borrowed encoders of a bare UNet.

    Raises:
        EditError: The model has no text encoder, and this machine has none that fits.
        CheckpointError: A tokenizer is not readable, or has more tokens than its encoder.
    """
    texts = located.encoder_model
    return tuple(tokenizer_of(texts, encoder) for encoder in texts.spec.context.encoders)


def tokenizer_of(located: LocatedModel, encoder: TextEncoderSpec) -> PromptTokenizer:
    """Load the tokenizer of one text encoder, see `tokenizers_of`."""
    folder = located.path / encoder.tokenizer
    has_positions = located.checkpoint.holds(encoder.component, CLIP_POSITIONS)
    n_positions = encoder.n_tokens
    if encoder.kind == "clip" and has_positions:
        n_positions = located.checkpoint.slots(encoder.component, CLIP_POSITIONS)[0].shape[0]
    if located.checkpoint.is_folder and any((folder / name).is_file() for name in _FILES):
        tokenizer = load_tokenizer(folder, encoder.kind, n_positions)
    elif encoder.kind == "clip":
        tokenizer = _packaged(packaged_folder(located) / encoder.tokenizer, n_positions)
    else:
        raise CheckpointError(
            f"`{printable(located.path)}` has no tokenizer", "give the whole diffusers folder"
        )
    n_rows = token_table(located, encoder).shape[0]
    if tokenizer.vocabulary_size > n_rows:
        raise CheckpointError(
            f"the {encoder.component} of `{printable(located.path)}` has {n_rows} token "
            f"embeddings, but its tokenizer has {tokenizer.vocabulary_size} tokens"
        )
    return tokenizer


def token_table(located: LocatedModel, encoder: TextEncoderSpec) -> TensorSlot:
    """Return the slot of the token embedding of a text encoder; raises CheckpointError."""
    holds = located.checkpoint.holds
    names = [name for name in encoder.token_embedding_names if holds(encoder.component, name)]
    if not names:
        raise CheckpointError(
            f"`{printable(located.path)}` lacks `{encoder.token_embedding_names[0]}` in "
            f"`{encoder.component}`"
        )
    return located.checkpoint.slots(encoder.component, names[0])[0]


def packaged_folder(located: LocatedModel) -> Path:
    """Return the packaged configuration of a model, or that of its family for unknown widths."""
    folder = registry.config_folder(located.spec)
    folder = folder or registry.config_folder(registry.get(located.spec.family.standard))
    if folder is None:
        raise CheckpointError(
            f"`{printable(located.path)}` has no configuration, and none is known for its family",
            "give the whole diffusers folder",
        )
    return folder


def _packaged(folder: Path, n_positions: int) -> PromptTokenizer:
    files = folder / "vocab.json", folder / "merges.txt"
    if not files[0].is_file():
        files = registry.CLIP_VOCABULARY, registry.CLIP_MERGES
    return load_clip_tokenizer(read_settings(folder), *files, n_positions)
