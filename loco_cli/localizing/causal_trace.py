"""
Causal tracing: corrupt the words of a concept, restore one state, and see what comes back.

Three kinds of pictures are made of a prompt. The *clean* one is the model's own. For the
*corrupted* one Gaussian noise is added to the word embeddings of the subject. A *restored* one is
corrupted as well, but the output of one module is taken from the clean run, at every step. A state
that brings the concept back carries it.

    symbol              here                          what
    x_clean             TracedRun(prompt, seed)       a picture of the model as it is
    x_corrupted         ... corrupt=Corrupt(...)      noise of `level` standard deviations
    x_restored          ... restore=(Restore(...),)   one state from the clean run
    AIE                 TraceScore.score              mean CLIP score of x_restored
    indirect effect     TraceScore.indirect_effect    mean of x_restored - x_corrupted

A state is what a module hands on: of attentions and feed-forwards what they add to the stream, of
resnets (and of DeepFloyd's attentions, which hold their shortcut) the stream itself.

Basu et al. 2023, arXiv:2310.13730, who score by the AIE; the noise is that of Meng et al. 2022,
arXiv:2202.05262.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, groupby, takewhile

from loco_cli.families.spec import TextEncoderSpec
from loco_cli.interventions import UNET, Corrupt, Restore, TracedBatch, TracedRun
from loco_cli.trace import StateKind, TraceScore, mean_and_errors

DEFAULT_LEVEL = 3.0  # standard deviations of noise, as Meng et al. have it

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


@dataclass(frozen=True)
class TraceTrial:
    """A run, and which state and place it restores; None where it is clean or corrupted."""

    run: TracedRun
    state: State | None = None
    place: TokenSpan | None = None


def unet_states(tensors: Iterable[str], text_layers: Sequence[str]) -> tuple[State, ...]:
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


def encoder_states(encoder: TextEncoderSpec, tensors: Iterable[str]) -> tuple[State, ...]:
    """Return self-attention and MLP of every block of a text encoder's tensors."""
    known, (out, _) = set(tensors), encoder.out_projection
    blocks = takewhile(
        lambda block: f"{encoder.self_attention(block)}.{out}.weight" in known, count()
    )
    return tuple(
        state
        for block in blocks
        for state in (
            State(encoder.component, encoder.self_attention(block), "self-attention", block),
            State(encoder.component, encoder.feed_forward(block), "mlp", block),
        )
    )


def places_of(subject: Sequence[int], start: int, end: int, limit: int) -> tuple[TokenSpan, ...]:
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


def plan(
    prompts: Sequence[TracedPrompt], seeds: Sequence[int], states: Sequence[State], level: float
) -> tuple[TraceTrial, ...]:
    """
    Return the trials of each prompt and seed: clean, corrupted, and every state restored.

    A state that cannot differ between clean and corrupted is restored by restoring nothing, so
    that its run is the corrupted one.
    """
    trials: list[TraceTrial] = []
    for prompt in prompts:
        for seed in seeds:
            noise = Corrupt(prompt.subject, level, seed)
            trials += [TraceTrial(TracedRun(prompt.text, seed))]
            trials += [TraceTrial(TracedRun(prompt.text, seed, noise))]
            trials += [
                TraceTrial(TracedRun(prompt.text, seed, noise, restore), state, place)
                for state in states
                for place, restore in _restores(prompt, state)
            ]
    return tuple(trials)


def batches_of(trials: Sequence[TraceTrial], size: int) -> Iterator[TracedBatch]:
    """
    Yield the runs of the trials, each once, with at most `size` of a prompt and seed at a time.

    Where the clean run has to ride in every batch there are two runs in one at least.
    """
    runs = dict.fromkeys(trial.run for trial in trials)
    for (prompt, seed), group in groupby(runs, key=lambda run: (run.prompt, run.seed)):
        clean, waiting = TracedRun(prompt, seed), list(group)
        while waiting:
            n = size
            batch = TracedBatch(clean, tuple(waiting[:n]))
            if len(batch.drawn) > max(size, 2):
                n = max(size - 1, 1)
                batch = TracedBatch(clean, tuple(waiting[:n]))
            yield batch
            waiting = waiting[n:]


def rank(
    trials: Sequence[TraceTrial], score_of: Mapping[TracedRun, float]
) -> tuple[TraceScore, ...]:
    """Return the score of every state and place, states in their order, places in the prompt's."""
    corrupted = {(run.prompt, run.seed): score_of[run] for run in corrupted_runs(trials)}
    groups: dict[State, dict[tuple[int, int], list[TraceTrial]]] = {}
    for trial in trials:
        if trial.state is not None:
            rank = trial.place.rank if trial.place else (0, 0)
            groups.setdefault(trial.state, {}).setdefault(rank, []).append(trial)
    return tuple(
        _score(state, at_place, score_of, corrupted)
        for state, places in groups.items()
        for _, at_place in sorted(places.items())
    )


def clean_runs(trials: Sequence[TraceTrial]) -> tuple[TracedRun, ...]:
    """Return the runs that nothing is done to, one for each prompt and seed."""
    return tuple(trial.run for trial in trials if trial.run.corrupt is None)


def corrupted_runs(trials: Sequence[TraceTrial]) -> tuple[TracedRun, ...]:
    """Return the runs in which nothing is restored, one for each prompt and seed."""
    return tuple(one.run for one in trials if one.state is None and one.run.corrupt is not None)


def _score(
    state: State,
    trials: Sequence[TraceTrial],
    score_of: Mapping[TracedRun, float],
    corrupted: Mapping[tuple[str, int], float],
) -> TraceScore:
    runs = [trial.run for trial in trials]
    score, std, stderr = mean_and_errors([score_of[run] for run in runs])
    effects = [score_of[run] - corrupted[run.prompt, run.seed] for run in runs]
    indirect, _, indirect_stderr = mean_and_errors(effects)
    return TraceScore(
        component=state.component,
        module_path=state.module_path,
        token=trials[0].place.label if trials[0].place else None,
        kind=state.kind,
        index=state.index,
        score=score,
        std=std,
        stderr=stderr,
        indirect_effect=indirect,
        indirect_effect_stderr=indirect_stderr,
        n=len(runs),
    )


def _restores(
    prompt: TracedPrompt, state: State
) -> Iterator[tuple[TokenSpan | None, tuple[Restore, ...]]]:
    """Yield every place at which a state is restored, and how."""
    if state.component == UNET:
        yield None, (Restore(UNET, state.module_path),)
        return
    for place in prompt.places:
        is_same = prompt.is_causal and place.positions[-1] < prompt.subject[0]
        restore = Restore(state.component, state.module_path, place.positions)
        yield place, () if is_same else (restore,)


def _execution_order(path: str) -> tuple[int, ...]:
    found = _NAME.fullmatch(path)
    assert found
    stage, block, part, number, deep, inner = found.group(
        "stage", "block", "part", "number", "deep", "inner"
    )
    is_last = _PARTS[part] == 2  # what changes the size comes behind every pair of the others
    rest = (is_last, int(number), _PARTS[part], int(deep or 0), _INNER[inner or ""])
    return (_STAGES[stage], int(block or 0), *rest)
