"""
Prompts to text embeddings, and where in them a subject stands.

The encoders run from the checkpoint's own tensors, so that no pipeline is needed, and a layer at a
time, so that no encoder has to be in memory whole.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from loco_cli.checkpoint.layout import ComponentReader
from loco_cli.encoders.clip import ClipShape, Prefixes, clip_states
from loco_cli.encoders.t5 import T5Shape, t5_states
from loco_cli.encoders.tokenizer import PromptTokenizer, Tokens, positions_in, shortened
from loco_cli.errors import CheckpointError, ConceptError

EncoderShape: TypeAlias = ClipShape | T5Shape
SHAPES: Mapping[str, type[EncoderShape]] = {"clip": ClipShape, "t5": T5Shape}


@dataclass(frozen=True)
class EncodedPrompt:
    """
    A prompt as the UNet is given it: states [n_tokens, d], and where its words begin and end.

    `offsets` are the characters of each token; `end` is the position of the first end token: the
    words stand from `start` up to it, padding follows.
    """

    text: str
    states: Tensor
    offsets: tuple[tuple[int, int], ...]
    end: int
    start: int = 1

    def positions_of(self, subject: str) -> tuple[int, ...]:
        """Return the positions of the subject's tokens, its last mention; raises ConceptError."""
        positions = positions_in(self.text, self.offsets[: self.end], subject)
        if not positions:
            raise ConceptError(f"prompt `{shortened(self.text)}` holds no token of `{subject}`")
        return positions


class TextEncoder(Protocol):
    """An encoder of prompts."""

    def encode(
        self, prompts: Sequence[str], *, padded: bool | Collection[str] = True
    ) -> list[EncodedPrompt]:
        """
        Return each prompt's embeddings, float32, on the CPU.

        Those that are not `padded` stop at their end token, which costs a fraction of all
        positions.
        """
        ...

    @property
    def first(self) -> "TextEncoder":
        """The first of several text encoders, the smallest in every published model."""
        ...


@dataclass(frozen=True)
class EncoderPart:
    """
    One text encoder of a checkpoint: its tokenizer, its shape, and its weights.

    `token_table` is the name of the token embedding.
    """

    tokenizer: PromptTokenizer
    shape: EncoderShape
    reader: ComponentReader
    token_table: str

    def states(self, prompts: Sequence[Tokens], sizes: Sequence[int]) -> Tensor:  # [n, t, d]
        """
        Return the states of prompts, each cut or padded to its size in tokens.

        The states behind that are undefined.
        """
        # an end token that was typed closes a prompt early
        ids = [prompt.ids[:size] for prompt, size in zip(prompts, sizes, strict=True)]
        n_tokens, pad = max(sizes), self.tokenizer.pad
        lengths = sizes if isinstance(self.shape, ClipShape) else [n_tokens] * len(ids)
        rows = [(*row, *[pad] * (n - len(row))) for row, n in zip(ids, lengths, strict=True)]
        if isinstance(self.shape, ClipShape):
            prefixes, read = Prefixes.of(rows), self.reader.read
            return clip_states(self._embedded(prefixes.tokens), prefixes, self.shape, read)
        is_word = torch.arange(n_tokens) < torch.tensor([len(row) for row in ids])[:, None]
        states = self._embedded(torch.tensor(rows))  # [n, t, d]
        return t5_states(states, is_word, self.shape, self.reader.read)

    def _embedded(self, tokens: Tensor) -> Tensor:  # [*] -> [*, d]
        used, places = tokens.unique(return_inverse=True)
        return self.reader.read_rows(self.token_table, used.tolist())[places]


# how the states of several encoders become those of a prompt, by the word of a family's context
_JOIN: Mapping[str, Callable[[Sequence[Tensor]], Tensor]] = {"width": partial(torch.cat, dim=-1)}


class CheckpointEncoder:
    """The text encoders of a checkpoint together: prompts in, `EncodedPrompt` out."""

    def __init__(self, parts: Sequence[EncoderPart], join: str = "width") -> None:
        self.parts, self.join = tuple(parts), join

    @property
    def first(self) -> "CheckpointEncoder":
        """Its first part alone, which ranks prompts by their likeness at a fraction of the cost."""
        return CheckpointEncoder(self.parts[:1], self.join)

    def encode(
        self, prompts: Sequence[str], *, padded: bool | Collection[str] = True
    ) -> list[EncodedPrompt]:
        """Return each prompt as the network is given it, each encoded once."""
        unique = list(dict.fromkeys(prompts))
        if not unique:
            return []
        tokens = [[part.tokenizer.tokenize(prompt) for prompt in unique] for part in self.parts]
        first = tokens[0]
        if any([t.end for t in others] != [t.end for t in first] for others in tokens[1:]):
            raise CheckpointError("the tokenizers of the text encoders do not agree")
        limit = min(part.tokenizer.limit for part in self.parts)
        padded = unique if padded is True else padded or ()
        sizes = [
            limit if prompt in padded else read.end + 1
            for prompt, read in zip(unique, first, strict=True)
        ]
        states = _JOIN[self.join](
            [part.states(of_part, sizes) for part, of_part in zip(self.parts, tokens, strict=True)]
        )
        start = self.parts[0].tokenizer.start
        encoded = {
            prompt: EncodedPrompt(
                read.text,
                states=of_prompt[:size],
                offsets=(*read.offsets, *[(0, 0)] * size)[:size],
                end=read.end,
                start=start,
            )
            for prompt, read, of_prompt, size in zip(unique, first, states, sizes, strict=True)
        }
        return [encoded[prompt] for prompt in prompts]


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration of a text encoder; raises CheckpointError."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"configuration `{path}` cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"configuration `{path}` is not a JSON object")
    return config
