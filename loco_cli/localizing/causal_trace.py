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

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from loco_cli.errors import CheckpointError, MachineError, RequestError, printable
from loco_cli.interventions import UNET, Corrupt, Restore, TracedBatch, TracedRun
from loco_cli.localization import ConceptName, ModelName
from loco_cli.localizing.methods import Cost, Named
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

_DEFAULT_LEVEL = 3.0  # standard deviations of noise, as Meng et al. have it
_SMALLEST_BATCH = 2  # runs that restore states of the UNet, with the clean one that rides along


def check(located: LocatedModel, recipe: Recipe, layers_of: Named = None) -> None:
    """Raise where a tracing cannot be made as asked."""
    settings = recipe.localize
    if settings.pooled:
        raise RequestError(
            "causal tracing swaps no prompt, so there is no pooled one", "leave `--pooled` out"
        )
    if settings.noise == 0:
        raise RequestError(
            "a noise of 0 corrupts nothing, so nothing can be restored", "give `--noise` above 0"
        )
    if not located.has_encoders:
        raise CheckpointError(
            f"`{printable(located.path)}` has not all of its text encoders, whose words are "
            "corrupted",
            "give the whole checkpoint",
        )
    check_steps(settings.steps)


def cost(
    located: LocatedModel,
    recipe: Recipe,
    layers_of: Named = None,
    *,
    allows_sets: bool = False,
    batch_size: int | None = None,
) -> Cost:
    """Return the pictures of the tracing of every concept, at most without a batch size."""
    settings, n_images, n_drawn = recipe.localize, 0, 0
    for entry in recipe.edits:
        trials = _trials(located, entry, settings)
        n_images += len({trial.run for trial in trials})
        batches = _batches_of(trials, batch_size or _SMALLEST_BATCH)
        n_drawn += sum(len(batch.drawn) for batch in batches)
    sampling = located.spec.sampling(settings.steps, settings.guidance)
    n_evaluations = PlannedRuns.of(n_drawn, sampling).unet_evaluations
    return PlannedRuns(n_pictures=n_images, unet_evaluations=n_evaluations), None


def run(
    context: SearchContext,
    recipe: Recipe,
    layers_of: Named = None,
    *,
    allows_sets: bool = False,
) -> tuple[TraceRun, ...]:
    """Return the trace of each concept, with pictures of the first seed."""
    return tuple(_trace(context, entry, recipe.localize) for entry in recipe.edits)


@dataclass(frozen=True)
class _TraceTrial:
    """A run, and which state and place it restores; None where it is clean or corrupted."""

    run: TracedRun
    state: State | None = None
    place: TokenSpan | None = None


def _plan_trials(
    prompts: Sequence[TracedPrompt], seeds: Sequence[int], states: Sequence[State], level: float
) -> tuple[_TraceTrial, ...]:
    """
    Return the trials of each prompt and seed: clean, corrupted, and every state restored.

    A state that cannot differ between clean and corrupted is restored by restoring nothing, so
    that its run is the corrupted one.
    """
    trials: list[_TraceTrial] = []
    for prompt in prompts:
        for seed in seeds:
            noise = Corrupt(prompt.subject, level, seed)
            trials += [_TraceTrial(TracedRun(prompt.text, seed))]
            trials += [_TraceTrial(TracedRun(prompt.text, seed, noise))]
            trials += [
                _TraceTrial(TracedRun(prompt.text, seed, noise, restore), state, place)
                for state in states
                for place, restore in _restores(prompt, state)
            ]
    return tuple(trials)


def _batches_of(trials: Sequence[_TraceTrial], size: int) -> Iterator[TracedBatch]:
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


def _rank(
    trials: Sequence[_TraceTrial], score_of: Mapping[TracedRun, float]
) -> tuple[TraceScore, ...]:
    """Return the score of every state and place, states in their order, places in the prompt's."""
    corrupted = {(run.prompt, run.seed): score_of[run] for run in _corrupted_runs(trials)}
    groups: dict[State, dict[tuple[int, int], list[_TraceTrial]]] = {}
    for trial in trials:
        if trial.state is not None:
            order = trial.place.rank if trial.place else (0, 0)
            groups.setdefault(trial.state, {}).setdefault(order, []).append(trial)
    return tuple(
        _score(state, at_place, score_of, corrupted)
        for state, places in groups.items()
        for _, at_place in sorted(places.items())
    )


def _clean_runs(trials: Sequence[_TraceTrial]) -> tuple[TracedRun, ...]:
    """Return the runs that nothing is done to, one for each prompt and seed."""
    return tuple(trial.run for trial in trials if trial.run.corrupt is None)


def _corrupted_runs(trials: Sequence[_TraceTrial]) -> tuple[TracedRun, ...]:
    """Return the runs in which nothing is restored, one for each prompt and seed."""
    return tuple(one.run for one in trials if one.state is None and one.run.corrupt is not None)


def _score(
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


def _component(settings: LocalizeSettings) -> Component:
    """Return where states are restored."""
    return settings.component or "text-encoder"


def _level(settings: LocalizeSettings) -> float:
    """Return the noise, in standard deviations of the word embeddings."""
    return _DEFAULT_LEVEL if settings.noise is None else settings.noise


def _trials(
    located: LocatedModel, entry: EditEntry, settings: LocalizeSettings
) -> tuple[_TraceTrial, ...]:
    """Return the trials of one concept: its source prompts, every seed, every state."""
    return _plan_trials(
        traced_prompts(located, entry),
        localize_seeds(settings.seeds),
        states_of(located, _component(settings)),
        _level(settings),
    )


def _trace(context: SearchContext, entry: EditEntry, settings: LocalizeSettings) -> TraceRun:
    """Return the trace of one concept, with pictures of the first seed."""
    started = time.monotonic()
    trials = _trials(context.located, entry, settings)
    steps, guidance = context.located.spec.sampling(settings.steps, settings.guidance)
    drawn = _draw(context, trials, entry.subject, (steps, guidance))
    document = _document(context, entry, settings, trials, drawn)
    seconds = round(time.monotonic() - started, 3)
    document = document.model_copy(update={"seconds": seconds})
    return TraceRun(document, _strips(trials, drawn, document.best()))


@dataclass(frozen=True)
class _Drawn:
    """The score of every run, the pictures to show, and how many samples the UNet took."""

    score_of: dict[TracedRun, float]
    picture_of: dict[TracedRun, bytes]
    n_evaluations: int


def _draw(
    context: SearchContext, trials: Sequence[_TraceTrial], subject: str, sampling: tuple[int, float]
) -> _Drawn:
    """Return the score of every run, each drawn once."""
    from loco_cli.sampling.sample import (
        count_unet_calls,
        to_png,
    )  # diffusers lives behind this line
    from loco_cli.sampling.traced import sample_traced

    steps, guidance = sampling
    n_steps = count_unet_calls(context.pipeline, steps)
    n_runs = len({trial.run for trial in trials})
    drawn, n_samples = _Drawn({}, {}, 0), 0
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
    return _Drawn(drawn.score_of, drawn.picture_of, n_evaluations)


def _document(
    context: SearchContext,
    entry: EditEntry,
    settings: LocalizeSettings,
    trials: Sequence[_TraceTrial],
    drawn: _Drawn,
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
        noise=_level(settings),
        scores=_rank(trials, drawn.score_of),
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
    trials: Sequence[_TraceTrial], drawn: _Drawn, best: TraceScore
) -> tuple[TracedStrip, ...]:
    """Return clean, corrupted and best restored pictures of every prompt, first seed."""
    chosen = {
        trial.run.prompt: trial.run
        for trial in trials
        if trial.state is not None
        and trial.run.seed == 0
        and trial.state.module_path == best.module_path
        and trial.state.component == best.component
        and (trial.place.label if trial.place else None) == best.token
    }
    strips = []
    clean_and_corrupted = zip(_clean_runs(trials), _corrupted_runs(trials), strict=True)
    for clean, corrupted in clean_and_corrupted:
        if clean.seed == 0:
            runs = [clean, corrupted, *filter(None, [chosen.get(clean.prompt)])]
            pictures = tuple((drawn.picture_of[run], drawn.score_of[run]) for run in runs)
            strips.append(TracedStrip(clean.prompt, pictures))
    return tuple(strips)
