"""
Causal tracing: corrupt the subject's embeddings, restore one state, and score the picture.

Each prompt has three kinds of pictures. The *clean* picture is that of the unchanged model. The
*corrupted* picture has Gaussian noise on the word embeddings of the subject. A *restored* picture
is corrupted too, but takes the output of one module from the clean run, at every step. A state that
brings the concept back carries the concept.

    symbol              here                          meaning
    x_clean             TracedRun(prompt, seed)       picture of the unchanged model
    x_corrupted         ... corrupt=Corrupt(...)      noise of `level` standard deviations
    x_restored          ... restore=(Restore(...),)   one state from the clean run
    AIE                 TraceScore.score              mean CLIP score of x_restored
    indirect effect     TraceScore.indirect_effect    mean score of x_restored - x_corrupted

A state is the output of a module. Attentions and feed-forwards output what they add to the residual
stream. Resnets output the stream itself, and so do DeepFloyd's attentions, which include their
shortcut.

Basu et al. 2023, arXiv:2310.13730, for the method and the AIE; Meng et al. 2022, arXiv:2202.05262,
for the noise.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from loco_cli.errors import CheckpointError, MachineError, RequestError, printable
from loco_cli.interventions import UNET, Corrupt, Restore, TracedBatch, TracedRun
from loco_cli.localization import ConceptName, ModelName
from loco_cli.localizing.methods import Cost, GivenLayers
from loco_cli.localizing.runs import SearchContext
from loco_cli.localizing.states import (
    State,
    TokenSpan,
    TracedPrompt,
    states_of,
    traced_prompts,
)
from loco_cli.models.locate import LocatedModel, check_steps
from loco_cli.plan import PlannedRuns
from loco_cli.protocol.seeds import localize_seeds
from loco_cli.recipe.record import EditEntry, LocalizeSettings, Recipe
from loco_cli.trace import (
    Component,
    Trace,
    TracedStrip,
    TraceRun,
    TraceScore,
    mean_and_errors,
)

_DEFAULT_NOISE = 3.0  # standard deviations of the word embeddings, as in Meng et al.
_MIN_BATCH_SIZE = 2  # a restored run of the UNet needs the clean run in the same batch


def check(located: LocatedModel, recipe: Recipe, layers_of: GivenLayers = None) -> None:
    """Raise an error if the settings do not fit the model or the method."""
    settings = recipe.localize
    if settings.pooled:
        raise RequestError(
            "causal tracing swaps no prompts, so `--pooled` has no effect", "omit `--pooled`"
        )
    if settings.noise == 0:
        raise RequestError(
            "with a noise of 0, there is nothing to restore", "set `--noise` above 0"
        )
    if not located.has_encoders:
        raise CheckpointError(
            f"`{printable(located.path)}` lacks a text encoder, which causal tracing corrupts",
            "pass the complete checkpoint",
        )
    check_steps(settings.steps)


def cost(
    located: LocatedModel,
    recipe: Recipe,
    layers_of: GivenLayers = None,
    *,
    allows_sets: bool = False,
    batch_size: int | None = None,
) -> Cost:
    """Return the cost of tracing every concept; an upper limit if the batch size is unknown."""
    settings, n_images, n_drawn = recipe.localize, 0, 0
    for entry in recipe.edits:
        trials = _trials(located, entry, settings)
        n_images += len({trial.run for trial in trials})
        batches = _batches_of(trials, batch_size or _MIN_BATCH_SIZE)
        n_drawn += sum(len(batch.drawn) for batch in batches)
    sampling = located.spec.sampling(settings.steps, settings.guidance)
    n_evaluations = PlannedRuns.of(n_drawn, sampling).unet_evaluations
    return PlannedRuns(n_pictures=n_images, unet_evaluations=n_evaluations), None


def run(
    context: SearchContext,
    recipe: Recipe,
    layers_of: GivenLayers = None,
    *,
    allows_sets: bool = False,
) -> tuple[TraceRun, ...]:
    """
    Trace each concept of a recipe.

    Args:
        context: The loaded model and its scorer.
        recipe: The recipe, with the concepts and the settings.
        layers_of: Unused; part of the interface.
        allows_sets: Unused; part of the interface.

    Returns:
        One trace for each edit of the recipe, with the pictures of the first seed.
    """
    return tuple(_trace(context, entry, recipe.localize) for entry in recipe.edits)


@dataclass(frozen=True)
class _TraceTrial:
    """A run with the state and the token span that it restores, if any."""

    run: TracedRun
    state: State | None = None
    span: TokenSpan | None = None


def _plan_trials(
    prompts: Sequence[TracedPrompt], seeds: Sequence[int], states: Sequence[State], level: float
) -> tuple[_TraceTrial, ...]:
    """
    Return the trials of each prompt and seed: clean, corrupted, and one per restored state.

    A state that noise cannot reach shares the corrupted run, since restoring it has no effect.
    """
    trials: list[_TraceTrial] = []
    for prompt in prompts:
        for seed in seeds:
            noise = Corrupt(prompt.subject, level, seed)
            trials += [_TraceTrial(TracedRun(prompt.text, seed))]
            trials += [_TraceTrial(TracedRun(prompt.text, seed, noise))]
            trials += [
                _TraceTrial(TracedRun(prompt.text, seed, noise, restore), state, span)
                for state in states
                for span, restore in _restore_points(prompt, state)
            ]
    return tuple(trials)


def _batches_of(trials: Sequence[_TraceTrial], size: int) -> Iterator[TracedBatch]:
    """
    Yield batches of at most `size` distinct runs; a batch has one prompt and one seed.

    If every batch needs the clean run, a batch has at least two runs.
    """
    runs = dict.fromkeys(trial.run for trial in trials)
    for (prompt, seed), group in groupby(runs, key=lambda run: (run.prompt, run.seed)):
        clean, remaining = TracedRun(prompt, seed), list(group)
        while remaining:
            n = size
            batch = TracedBatch(clean, tuple(remaining[:n]))
            if len(batch.drawn) > max(size, 2):
                n = max(size - 1, 1)
                batch = TracedBatch(clean, tuple(remaining[:n]))
            yield batch
            remaining = remaining[n:]


def _score_states(
    trials: Sequence[_TraceTrial], score_of: Mapping[TracedRun, float]
) -> tuple[TraceScore, ...]:
    """Return the score of each state and token span, in the order of states and tokens."""
    corrupted = {(run.prompt, run.seed): score_of[run] for run in _corrupted_runs(trials)}
    groups: dict[State, dict[tuple[int, int], list[_TraceTrial]]] = {}
    for trial in trials:
        if trial.state is not None:
            order = trial.span.rank if trial.span else (0, 0)
            groups.setdefault(trial.state, {}).setdefault(order, []).append(trial)
    return tuple(
        _score_state(state, at_span, score_of, corrupted)
        for state, spans in groups.items()
        for _, at_span in sorted(spans.items())
    )


def _clean_runs(trials: Sequence[_TraceTrial]) -> tuple[TracedRun, ...]:
    """Return the clean runs, one for each prompt and seed."""
    return tuple(trial.run for trial in trials if trial.run.corrupt is None)


def _corrupted_runs(trials: Sequence[_TraceTrial]) -> tuple[TracedRun, ...]:
    """Return the corrupted runs without a restored state, one for each prompt and seed."""
    return tuple(one.run for one in trials if one.state is None and one.run.corrupt is not None)


def _score_state(
    state: State,
    trials: Sequence[_TraceTrial],
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
        token=trials[0].span.label if trials[0].span else None,
        kind=state.kind,
        index=state.index,
        score=score,
        std=std,
        stderr=stderr,
        indirect_effect=indirect,
        indirect_effect_stderr=indirect_stderr,
        n=len(runs),
    )


def _restore_points(
    prompt: TracedPrompt, state: State
) -> Iterator[tuple[TokenSpan | None, tuple[Restore, ...]]]:
    """Yield each token span of a state (None in the UNet) with its interventions."""
    if state.component == UNET:
        yield None, (Restore(UNET, state.module_path),)
        return
    for span in prompt.spans:
        is_unreachable = prompt.is_causal and span.positions[-1] < prompt.subject[0]
        restore = Restore(state.component, state.module_path, span.positions)
        yield span, () if is_unreachable else (restore,)


def _component(settings: LocalizeSettings) -> Component:
    """Return the component whose states are restored."""
    return settings.component or "text-encoder"


def _noise_level(settings: LocalizeSettings) -> float:
    """Return the noise, in standard deviations of the word embeddings."""
    return _DEFAULT_NOISE if settings.noise is None else settings.noise


def _trials(
    located: LocatedModel, entry: EditEntry, settings: LocalizeSettings
) -> tuple[_TraceTrial, ...]:
    """Return the trials of one concept: all source prompts, seeds and states."""
    return _plan_trials(
        traced_prompts(located, entry),
        localize_seeds(settings.seeds),
        states_of(located, _component(settings)),
        _noise_level(settings),
    )


def _trace(context: SearchContext, entry: EditEntry, settings: LocalizeSettings) -> TraceRun:
    """Trace one concept."""
    started = time.monotonic()
    trials = _trials(context.located, entry, settings)
    steps, guidance = context.located.spec.sampling(settings.steps, settings.guidance)
    drawn = _draw(context, trials, entry.subject, (steps, guidance))
    document = _document(context, entry, settings, trials, drawn)
    seconds = round(time.monotonic() - started, 3)
    document = document.model_copy(update={"seconds": seconds})
    return TraceRun(document, _strips(trials, drawn, document.best()))


@dataclass(frozen=True)
class _DrawnRuns:
    """The score of each run, the pictures to show, and the number of UNet evaluations."""

    score_of: dict[TracedRun, float]
    picture_of: dict[TracedRun, bytes]
    n_evaluations: int


def _draw(
    context: SearchContext, trials: Sequence[_TraceTrial], subject: str, sampling: tuple[int, float]
) -> _DrawnRuns:
    """Draw and score each distinct run once."""
    from loco_cli.sampling.sample import count_unet_calls, to_png  # imports diffusers
    from loco_cli.sampling.traced import sample_traced

    steps, guidance = sampling
    n_steps = count_unet_calls(context.pipeline, steps)
    n_runs = len({trial.run for trial in trials})
    drawn, n_samples = _DrawnRuns({}, {}, 0), 0
    tick = context.events.ticker(f"tracing {subject}", n_runs * n_steps)
    for batch in _batches_of(trials, context.batch_size):
        images = sample_traced(context.pipeline, batch, steps=steps, guidance=guidance, tick=tick)
        scores = context.scorer.scores(images, [run.prompt for run in batch.runs])
        n_samples += len(batch.drawn)
        for run, image, score in zip(batch.runs, images, scores, strict=True):
            if score != score:
                raise MachineError(
                    f"a picture of `{run.prompt}` contains NaN or infinity", "try `--dtype float32`"
                )
            drawn.score_of[run] = score
            if run.seed == 0:
                drawn.picture_of[run] = to_png(image)
    n_evaluations = n_samples * n_steps * (2 if guidance > 1 else 1)
    return _DrawnRuns(drawn.score_of, drawn.picture_of, n_evaluations)


def _document(
    context: SearchContext,
    entry: EditEntry,
    settings: LocalizeSettings,
    trials: Sequence[_TraceTrial],
    drawn: _DrawnRuns,
) -> Trace:
    concept, located = entry.concept, context.located
    steps, guidance = located.spec.sampling(settings.steps, settings.guidance)
    clean, _, clean_error = mean_and_errors([drawn.score_of[run] for run in _clean_runs(trials)])
    corrupted, _, corrupted_error = mean_and_errors(
        [drawn.score_of[run] for run in _corrupted_runs(trials)]
    )
    return Trace(
        model=ModelName(name=located.name, family=located.spec.family.name),
        concept=ConceptName(kind=concept.kind, subject=concept.subject, to=concept.to),
        component=_component(settings),
        noise=_noise_level(settings),
        scores=_score_states(trials, drawn.score_of),
        clean_score=clean,
        clean_stderr=clean_error,
        corrupted_score=corrupted,
        corrupted_stderr=corrupted_error,
        prompts=tuple(pair.source for pair in entry.localize_pairs),
        seeds=localize_seeds(settings.seeds),
        steps=steps,
        guidance=guidance,
        scorer=context.scorer.name,
        unet_evaluations=drawn.n_evaluations,
        seconds=0.0,
    )


def _strips(
    trials: Sequence[_TraceTrial], drawn: _DrawnRuns, best: TraceScore
) -> tuple[TracedStrip, ...]:
    """Return the clean, corrupted and best restored picture of each prompt at the first seed."""
    chosen = {
        trial.run.prompt: trial.run
        for trial in trials
        if trial.state is not None
        and trial.run.seed == 0
        and trial.state.module_path == best.module_path
        and trial.state.component == best.component
        and (trial.span.label if trial.span else None) == best.token
    }
    strips = []
    clean_and_corrupted = zip(_clean_runs(trials), _corrupted_runs(trials), strict=True)
    for clean, corrupted in clean_and_corrupted:
        if clean.seed == 0:
            runs = [clean, corrupted, *filter(None, [chosen.get(clean.prompt)])]
            pictures = tuple((drawn.picture_of[run], drawn.score_of[run]) for run in runs)
            strips.append(TracedStrip(clean.prompt, pictures))
    return tuple(strips)
