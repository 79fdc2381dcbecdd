"""
Prompts to text embeddings, and where in them a subject stands.

The encoder is built from the checkpoint's own tensors, so that no pipeline is needed. Tokens are
found by character offsets, never by counting words.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from loco_cli.errors import CheckpointError, ConceptError


@dataclass(frozen=True)
class EncodedPrompt:
    """
    A prompt as the UNet reads it: states [n_tokens, d_text], and where its words end.

    `offsets` are the characters of each token; `end` is the position of the first end token: the
    words stand before it, padding follows.
    """

    text: str
    states: Tensor
    offsets: tuple[tuple[int, int], ...]
    end: int

    def positions_of(self, subject: str) -> tuple[int, ...]:
        """Return the positions of the subject's tokens, its last mention; raises ConceptError."""
        start, stop = last_mention(self.text, subject)
        found = tuple(
            position
            for position, (first, last) in enumerate(self.offsets[: self.end])
            if max(start, first) < min(stop, last)
        )
        if not found:
            raise ConceptError(f"prompt `{_shortened(self.text)}` holds no token of `{subject}`")
        return found


class TextEncoder:
    """A CLIP text encoder with its tokenizer: prompts in, `EncodedPrompt` out."""

    def __init__(self, model: CLIPTextModel, tokenizer: CLIPTokenizer) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> list[EncodedPrompt]:
        """Return the last hidden states (after the final norm) of each prompt, in float32."""
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        ids = tokens.input_ids.to(self.model.device)  # [n, t]
        states = self.model(ids).last_hidden_state.float().cpu()  # [n, t, d_text]
        ends = (tokens.input_ids == self.tokenizer.eos_token_id).int().argmax(1).tolist()
        offsets = [tuple(map(tuple, row)) for row in tokens.offset_mapping.tolist()]
        rows = zip(prompts, states, offsets, ends, strict=True)
        return [EncodedPrompt(*row) for row in rows]


def last_mention(prompt: str, subject: str) -> tuple[int, int]:
    """
    Return the characters of the last mention of a subject, whole words first, in any case.

    (0, 0) where it is not mentioned: "cat" is found in "a cat in a cathedral" at (2, 5).
    """
    words = re.escape(subject)
    for pattern in (rf"(?<!\w){words}(?!\w)", words):
        mentions = list(re.finditer(pattern, prompt, re.IGNORECASE))
        if mentions:
            return mentions[-1].span()
    return (0, 0)


def check_fits(tokenizer: CLIPTokenizer, prompt: str, subject: str) -> None:
    """Raise ConceptError where the subject's tokens are cut off by the encoder's length."""
    tokens = tokenizer(prompt, return_offsets_mapping=True)
    n_tokens, limit = len(tokens.input_ids), tokenizer.model_max_length
    if n_tokens <= limit:
        return
    # the last place that is left belongs to the end token
    n_kept_letters = max((stop for _, stop in tokens.offset_mapping[: limit - 1]), default=0)
    if n_kept_letters < last_mention(prompt, subject)[1]:
        raise ConceptError(
            f"`{_shortened(subject)}` is cut off in `{_shortened(prompt)}`: "
            f"{n_tokens} tokens, the text encoder reads {limit}",
            "use a shorter subject or a shorter prompt",
        )


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Return the tokenizer of a folder; raises CheckpointError."""
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"folder `{folder}` holds no tokenizer that can be read") from error


def load_text_encoder(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    tokenizer: CLIPTokenizer,
) -> TextEncoder:
    """
    Return an encoder of these weights on the CPU, in float32.

    Tensor names may carry the prefix `text_model.` or not. Raises CheckpointError where a tensor
    is missing, or is not as the configuration says.
    """
    try:
        model = CLIPTextModel(CLIPTextConfig(**config))
    except (TypeError, ValueError) as error:
        raise CheckpointError("the configuration of the text encoder is not CLIP's") from error
    own = model.state_dict()
    bare = {name.removeprefix("text_model."): value for name, value in tensors.items()}
    given = {name: bare.get(name.removeprefix("text_model.")) for name in own}
    missing = sorted(name for name, value in given.items() if value is None)
    if missing:
        raise CheckpointError(
            f"the text encoder lacks {len(missing)} tensors, among them `{missing[0]}`"
        )
    weights = {name: value.float() for name, value in given.items() if value is not None}
    for name, value in weights.items():
        if value.shape != own[name].shape:
            raise CheckpointError(
                f"`{name}` of the text encoder is {list(value.shape)}, "
                f"its configuration says {list(own[name].shape)}"
            )
    model.load_state_dict(weights)
    return TextEncoder(model, tokenizer)


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration of a text encoder; raises CheckpointError."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"configuration `{path}` cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"configuration `{path}` is not a JSON object")
    return config


def _shortened(text: str, width: int = 60) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
