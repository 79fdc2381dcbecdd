"""The states and token spans that causal tracing restores, from headers and tokenizers alone."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, takewhile

from loco_cli.errors import RequestError
from loco_cli.families.spec import TextEncoderSpec
from loco_cli.interventions import UNET
from loco_cli.models.locate import LocatedModel
from loco_cli.models.tokenizers import tokenizers_of
from loco_cli.recipe.record import EditEntry
from loco_cli.trace import Component, StateKind

# what tells a module of the UNet by its tensors
_UNET_KINDS: dict[str, StateKind] = {
    ".conv1.weight": "resnet",
    ".to_q.weight": "self-attention",
    ".net.0.proj.weight": "feed-forward",
}
_STAGES = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
_PARTS = {"resnets": 0, "attentions": 1, "downsamplers": 2, "upsamplers": 2}
_INNER = {"": 0, "attn1": 0, "attn2": 1, "ff": 2}
_NAME = re.compile(
    r"(?P<stage>down_blocks|mid_block|up_blocks)(?:\.(?P<block>\d+))?"
    r"\.(?P<part>\w+)\.(?P<number>\d+)"
    r"(?:\.transformer_blocks\.(?P<deep>\d+)\.(?P<inner>attn1|attn2|ff))?"
)


@dataclass(frozen=True)
class State:
    """
    A module whose output is restored: `State("text_encoder", "...0.mlp", "mlp", 0)`.

    `index` counts those of its kind in execution order; in a text encoder it is the block.
    """

    component: str
    module_path: str
    kind: StateKind
    index: int


@dataclass(frozen=True)
class TokenSpan:
    """
    Positions that are restored together: `TokenSpan("last subject", (8,), rank=(2, 2))`.

    `rank` puts places of prompts of any length in order.
    """

    label: str
    positions: tuple[int, ...]
    rank: tuple[int, int]


@dataclass(frozen=True)
class TracedPrompt:
    """
    A prompt, the positions of its subject, and every place of it.

    Where `is_causal`, what stands before the subject is the same in a clean and a corrupted run.
    """

    text: str
    subject: tuple[int, ...]
    places: tuple[TokenSpan, ...]
    is_causal: bool


def states_of(located: LocatedModel, component: Component) -> tuple[State, ...]:
    """Return the states of a model in execution order; of several encoders one after another."""
    names = located.checkpoint.names
    if component == UNET:
        return _unet_states(names(located.spec.network), located.spec.module_paths)
    return tuple(
        state
        for encoder in located.spec.context.encoders
        for state in _encoder_states(encoder, names(encoder.component))
    )


def _unet_states(tensors: Iterable[str], text_layers: Sequence[str]) -> tuple[State, ...]:
    """Return attentions, feed-forwards and resnets of a UNet's tensors, in execution order."""
    found: dict[str, StateKind] = {}
    for name in tensors:
        for end, kind in _UNET_KINDS.items():
            path = name.removesuffix(end)
            if path != name and _NAME.fullmatch(path):
                found[path] = "cross-attention" if path in text_layers else kind
    counts: dict[str, Iterator[int]] = {}
    return tuple(
        State(UNET, path, found[path], next(counts.setdefault(found[path], count())))
        for path in sorted(found, key=_execution_order)
    )


def _encoder_states(encoder: TextEncoderSpec, tensors: Iterable[str]) -> tuple[State, ...]:
    """Return self-attention and MLP of every block of a text encoder's tensors."""
    known, (out, _) = set(tensors), encoder.out_projection
    blocks = takewhile(
        lambda block: f"{encoder.self_attention_path(block)}.{out}.weight" in known, count()
    )
    return tuple(
        state
        for block in blocks
        for state in (
            State(encoder.component, encoder.self_attention_path(block), "self-attention", block),
            State(encoder.component, encoder.feed_forward_path(block), "mlp", block),
        )
    )


def _places_of(subject: Sequence[int], start: int, end: int, limit: int) -> tuple[TokenSpan, ...]:
    """
    Return every position of a prompt by its name, in order, padding as one.

    Words begin at `start`, the end token stands at `end`, and the encoder reads `limit` tokens. A
    subject of one token is its own last one.
    """
    first, last = subject[0], subject[-1]
    names = {first: "first subject", last: "last subject"}
    places = [TokenSpan("start", tuple(range(start)), (0, 0))]
    places += [
        TokenSpan(f"subject-{first - at}", (at,), (1, at - first)) for at in range(start, first)
    ]
    for nth, at in enumerate(range(first, last + 1), 1):
        places.append(TokenSpan(names.get(at, f"subject {nth}"), (at,), (2, nth)))
    places += [
        TokenSpan(f"subject+{at - last}", (at,), (3, at - last)) for at in range(last + 1, end)
    ]
    places += [
        TokenSpan("end", (end,), (4, 0)),
        TokenSpan("padding", tuple(range(end + 1, limit)), (5, 0)),
    ]
    return tuple(place for place in places if place.positions)


def traced_prompts(located: LocatedModel, entry: EditEntry) -> tuple[TracedPrompt, ...]:
    """Return the source prompts of an edit, with the positions of their subjects."""
    tokenizers, encoders = tokenizers_of(located), located.spec.context.encoders
    limit = min(tokenizer.limit for tokenizer in tokenizers)
    prompts = []
    for pair in entry.localize_pairs:
        tokens = tokenizers[0].tokenize(pair.source)
        subject = tokens.positions_of(pair.subject)
        if not subject:
            raise RequestError(f"prompt `{pair.source}` contains no token of `{pair.subject}`")
        places = _places_of(subject, tokenizers[0].start, tokens.end, limit)
        is_causal = all(encoder.is_causal for encoder in encoders)
        prompts.append(TracedPrompt(pair.source, subject, places, is_causal))
    return tuple(prompts)


def _execution_order(path: str) -> tuple[int, ...]:
    found = _NAME.fullmatch(path)
    assert found
    stage, block, part, number, deep, inner = found.group(
        "stage", "block", "part", "number", "deep", "inner"
    )
    is_last = _PARTS[part] == 2  # what changes the size comes behind every pair of the others
    rest = (is_last, int(number), _PARTS[part], int(deep or 0), _INNER[inner or ""])
    return (_STAGES[stage], int(block or 0), *rest)
