"""
Text embeddings of prompts, with the positions of their words.

The encoders run directly on the tensors of a checkpoint, without a pipeline. They run layer by
layer, so a whole encoder never has to fit in memory.
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
    An encoded prompt: the input of the network, and the positions of the words.

    Args:
        text: The prompt as the tokenizer read it.
        states: The text embeddings, [n_tokens, d].
        offsets: The range of characters of each token.
        end: The position of the first end token; padding follows it.
        start: The position of the first word.
    """

    text: str
    states: Tensor
    offsets: tuple[tuple[int, int], ...]
    end: int
    start: int = 1

    def positions_of(self, subject: str) -> tuple[int, ...]:
        """Return the token positions of the last mention of a subject; raises ConceptError."""
        positions = positions_in(self.text, self.offsets[: self.end], subject)
        if not positions:
            raise ConceptError(f"prompt `{shortened(self.text)}` contains no token of `{subject}`")
        return positions


class TextEncoder(Protocol):
    """The text encoders of a model."""

    def encode(
        self, prompts: Sequence[str], *, padded: bool | Collection[str] = True
    ) -> list[EncodedPrompt]:
        """
        Encode prompts to float32 states on the CPU.

        Args:
            prompts: The prompts. Duplicates are encoded once.
            padded: The prompts to encode with all their padding, True for every prompt. The others
                stop at their end token, which is much faster.
        """
        ...

    @property
    def first(self) -> "TextEncoder":
        """The first text encoder, which is the smallest one in every published model."""
        ...


@dataclass(frozen=True)
class EncoderPart:
    """
    One text encoder of a checkpoint.

    Args:
        tokenizer: The tokenizer of the encoder.
        shape: The settings of the encoder.
        reader: Reads the tensors of the encoder.
        token_table: The name of the token embedding.
    """

    tokenizer: PromptTokenizer
    shape: EncoderShape
    reader: ComponentReader
    token_table: str

    def states(self, prompts: Sequence[Tokens], sizes: Sequence[int]) -> Tensor:  # [n, t, d]
        """
        Encode prompts, each cut or padded to its size in tokens.

        States after that size are undefined.
        """
        # a prompt can contain an end token, so its size may be less than its number of tokens
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


# functions that join the states of several encoders, by the name in a family's context
_JOIN: Mapping[str, Callable[[Sequence[Tensor]], Tensor]] = {"width": partial(torch.cat, dim=-1)}


class CheckpointEncoder:
    """
    All text encoders of a checkpoint.

    Args:
        parts: The encoders in the order in which their states are joined.
        join: `width` concatenates the states of each token.

    Example:
        >>> (prompt,) = encoder_of(locate("tiny")).encode(["a painting by van gogh"])
        >>> prompt.states[prompt.positions_of("van gogh")[-1]]  # [d], the subject's last token
    """

    def __init__(self, parts: Sequence[EncoderPart], join: str = "width") -> None:
        self.parts, self.join = tuple(parts), join

    @property
    def first(self) -> "CheckpointEncoder":
        """The first part alone, which is enough to rank prompts by similarity and much faster."""
        return CheckpointEncoder(self.parts[:1], self.join)

    def encode(
        self, prompts: Sequence[str], *, padded: bool | Collection[str] = True
    ) -> list[EncodedPrompt]:
        """
        Encode prompts as the network receives them, see `TextEncoder.encode`.

        Raises:
            CheckpointError: The tokenizers of two encoders disagree on the end of a prompt.
        """
        unique = list(dict.fromkeys(prompts))
        if not unique:
            return []
        tokens = [[part.tokenizer.tokenize(prompt) for prompt in unique] for part in self.parts]
        first = tokens[0]
        if any([t.end for t in others] != [t.end for t in first] for others in tokens[1:]):
            raise CheckpointError("the tokenizers of the text encoders disagree")
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
    """Read the configuration of a text encoder; raises CheckpointError."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read configuration `{path}`: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"configuration `{path}` is not a JSON object")
    return config
