"""The states and token spans that causal tracing restores, from tensor names and tokenizers."""

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

# the tensor that identifies each kind of module in a UNet
_KIND_BY_TENSOR: dict[str, StateKind] = {
    ".conv1.weight": "resnet",
    ".to_q.weight": "self-attention",
    ".net.0.proj.weight": "feed-forward",
}
_STAGE_ORDER = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
_PART_ORDER = {"resnets": 0, "attentions": 1, "downsamplers": 2, "upsamplers": 2}
_INNER_ORDER = {"": 0, "attn1": 0, "attn2": 1, "ff": 2}
_MODULE_PATH = re.compile(
    r"(?P<stage>down_blocks|mid_block|up_blocks)(?:\.(?P<block>\d+))?"
    r"\.(?P<part>\w+)\.(?P<number>\d+)"
    r"(?:\.transformer_blocks\.(?P<deep>\d+)\.(?P<inner>attn1|attn2|ff))?"
)


@dataclass(frozen=True)
class State:
    """
    A module whose output can be restored: `State("text_encoder", "...0.mlp", "mlp", 0)`.

    `index` counts the modules of a kind in execution order. In a text encoder it is the block.
    """

    component: str
    module_path: str
    kind: StateKind
    index: int


@dataclass(frozen=True)
class TokenSpan:
    """
    Token positions that are restored together: `TokenSpan("last subject", (8,), rank=(2, 2))`.

    `rank` orders spans across prompts of any length.
    """

    label: str
    positions: tuple[int, ...]
    rank: tuple[int, int]


@dataclass(frozen=True)
class TracedPrompt:
    """
    A prompt with the positions of its subject and all of its token spans.

    If `is_causal`, tokens before the subject are the same in the clean and the corrupted run.
    """

    text: str
    subject: tuple[int, ...]
    spans: tuple[TokenSpan, ...]
    is_causal: bool


def states_of(located: LocatedModel, component: Component) -> tuple[State, ...]:
    """
    Return the states of a component in execution order, one text encoder after the other.

    Args:
        located: The model; only the names of its tensors are read.
        component: The UNet, or all text encoders.
    """
    names = located.checkpoint.names
    if component == UNET:
        return _unet_states(names(located.spec.network), located.spec.module_paths)
    return tuple(
        state
        for encoder in located.spec.context.encoders
        for state in _encoder_states(encoder, names(encoder.component))
    )


def _unet_states(tensors: Iterable[str], text_layers: Sequence[str]) -> tuple[State, ...]:
    """Return the attentions, feed-forwards and resnets of a UNet in execution order."""
    found: dict[str, StateKind] = {}
    for name in tensors:
        for end, kind in _KIND_BY_TENSOR.items():
            path = name.removesuffix(end)
            if path != name and _MODULE_PATH.fullmatch(path):
                found[path] = "cross-attention" if path in text_layers else kind
    counts: dict[str, Iterator[int]] = {}
    return tuple(
        State(UNET, path, found[path], next(counts.setdefault(found[path], count())))
        for path in sorted(found, key=_execution_order)
    )


def _encoder_states(encoder: TextEncoderSpec, tensors: Iterable[str]) -> tuple[State, ...]:
    """Return the self-attention and the MLP of every block of a text encoder."""
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


def _token_spans(subject: Sequence[int], start: int, end: int, limit: int) -> tuple[TokenSpan, ...]:
    """
    Return the token spans of a prompt in order: one per position, and one for all padding.

    The words start at `start`, the end token is at `end`, and the encoder reads `limit` tokens. A
    subject of one token is the "last subject".
    """
    first, last = subject[0], subject[-1]
    names = {first: "first subject", last: "last subject"}
    spans = [TokenSpan("start", tuple(range(start)), (0, 0))]
    spans += [TokenSpan(f"subject-{first - i}", (i,), (1, i - first)) for i in range(start, first)]
    for nth, i in enumerate(range(first, last + 1), 1):
        spans.append(TokenSpan(names.get(i, f"subject {nth}"), (i,), (2, nth)))
    spans += [TokenSpan(f"subject+{i - last}", (i,), (3, i - last)) for i in range(last + 1, end)]
    spans += [
        TokenSpan("end", (end,), (4, 0)),
        TokenSpan("padding", tuple(range(end + 1, limit)), (5, 0)),
    ]
    return tuple(span for span in spans if span.positions)


def traced_prompts(located: LocatedModel, entry: EditEntry) -> tuple[TracedPrompt, ...]:
    """
    Return the source prompts of an edit with their token spans.

    Raises:
        RequestError: A prompt does not contain its subject.
    """
    tokenizers, encoders = tokenizers_of(located), located.spec.context.encoders
    limit = min(tokenizer.limit for tokenizer in tokenizers)
    prompts = []
    for pair in entry.localize_pairs:
        tokens = tokenizers[0].tokenize(pair.source)
        subject = tokens.positions_of(pair.subject)
        if not subject:
            raise RequestError(f"prompt `{pair.source}` contains no token of `{pair.subject}`")
        spans = _token_spans(subject, tokenizers[0].start, tokens.end, limit)
        is_causal = all(encoder.is_causal for encoder in encoders)
        prompts.append(TracedPrompt(pair.source, subject, spans, is_causal))
    return tuple(prompts)


def _execution_order(path: str) -> tuple[int, ...]:
    found = _MODULE_PATH.fullmatch(path)
    assert found
    stage, block, part, number, deep, inner = found.group(
        "stage", "block", "part", "number", "deep", "inner"
    )
    is_last = _PART_ORDER[part] == 2  # samplers run after all resnets and attentions of a block
    rest = (is_last, int(number), _PART_ORDER[part], int(deep or 0), _INNER_ORDER[inner or ""])
    return (_STAGE_ORDER[stage], int(block or 0), *rest)
