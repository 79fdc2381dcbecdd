"""The runs of one concept's localization: planned, drawn, scored, cached and counted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from loco_cli.concept import Concept, ConceptKind, PromptPair
from loco_cli.errors import MachineError
from loco_cli.events import SILENT_EVENTS, Events
from loco_cli.interventions import Run, SwapPrompt
from loco_cli.layers import LayerSet, sliding_windows
from loco_cli.localization import (
    ConceptName,
    LayerName,
    Localization,
    LocalizationRun,
    ModelName,
    PromptNames,
    SwapPicture,
    WindowScore,
    better_direction,
)
from loco_cli.localizing.cache import CachedRun, RunCache
from loco_cli.localizing.scoreboard import Scoreboard
from loco_cli.models.locate import LocatedModel
from loco_cli.models.session import RunOptions, find_scorer, load_model, load_scorer
from loco_cli.protocol.seeds import localize_seeds
from loco_cli.recipe.record import EditEntry, LocalizeSettings
from loco_cli.sampling.processes import Team

if TYPE_CHECKING:
    from torch import Tensor

    from loco_cli.sampling.clip_score import ClipScorer
    from loco_cli.sampling.pipeline import Pipeline

AUTO_WIDTHS = (1, 2, 3, 4)  # tried in this order for `width: auto`, until one is enough


@dataclass(frozen=True)
class SwapTrial:
    """
    A run in which some layers read the target prompt, and the caption that it is scored against.

    No layers is the original run, all layers the full swap.
    """

    layers: LayerSet
    run: Run
    caption: str


def _plan_trials(
    candidates: Sequence[LayerSet],
    pairs: Sequence[PromptPair],
    seeds: Sequence[int],
    kind: ConceptKind,
    *,
    with_pooled: bool = False,
) -> tuple[SwapTrial, ...]:
    """
    Return one trial per candidate, prompt pair and seed, candidates of a pair and seed together.

    Style and object are scored against the source prompt, a fact against the target prompt. With
    `with_pooled` each swap is also one of the prompt that is read past the layers.
    """
    return tuple(
        SwapTrial(
            layers,
            Run(pair.source, seed, SwapPrompt(layers, pair.target, with_pooled)),
            pair.target if kind == "fact" else pair.source,
        )
        for pair in pairs
        for seed in seeds
        for layers in candidates
    )


def widths_of(width: int | Literal["auto"]) -> tuple[int, ...]:
    """Return the widths to try, narrowest first."""
    return AUTO_WIDTHS if width == "auto" else (width,)


def windows_of(width: int | Literal["auto"], n_layers: int) -> tuple[LayerSet, ...]:
    """Return every window of the widths to try, narrow ones first."""
    return tuple(w for width in widths_of(width) for w in sliding_windows(n_layers, width))


def candidates_of(windows: Iterable[LayerSet], n_layers: int) -> tuple[LayerSet, ...]:
    """Return no layers, all layers and every window, each once: originals, full swap, trials."""
    return (LayerSet(), *dict.fromkeys((LayerSet(range(n_layers)), *windows)))


@dataclass(frozen=True)
class SearchContext:
    """The machinery of a search: the loaded model, its scorer, and how many runs share a call."""

    located: LocatedModel
    pipeline: "Pipeline"
    scorer: "ClipScorer"
    batch_size: int
    events: Events = SILENT_EVENTS
    cache: RunCache | None = None  # runs that were made before; None ignores them
    team: Team = field(default_factory=Team)  # the processes that share the work

    @classmethod
    def load(
        cls, located: LocatedModel, options: RunOptions, events: Events = SILENT_EVENTS
    ) -> "SearchContext":
        """Return the model and its scorer, loaded, with the cache of its runs."""
        from loco_cli.sampling.sample import choose_batch_size  # diffusers lives behind this line

        options.team.join()
        scorer = load_scorer(located, options)
        pipeline = load_model(located, options, events)
        batch_size = min(options.team.gather(choose_batch_size(options.batch_size, pipeline)))
        cache = None
        if options.is_cached:
            network = pipeline.network
            folder = find_scorer(options.scorer or located.spec.scorer)
            cache = RunCache.of(located, folder, f"{network.device.type} {network.dtype}")
        return cls(located, pipeline, scorer, batch_size, events, cache, options.team)


@dataclass
class RunRecorder:
    """
    One concept's runs as they are made: their scores, and the pictures to show.

    `evaluations` counts samples through the UNet, those of cached runs too: it is what the answer
    takes.
    """

    context: SearchContext
    concept: Concept
    pairs: Sequence[PromptPair]
    settings: LocalizeSettings
    pictures: list[SwapPicture] = field(default_factory=list)
    evaluations: int = 0

    @classmethod
    def of(
        cls, context: SearchContext, entry: EditEntry, settings: LocalizeSettings
    ) -> "RunRecorder":
        """Return the runs of an edit's concept, none made yet."""
        return cls(context, entry.concept, entry.localize_pairs, settings)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, from 0 on."""
        return localize_seeds(self.settings.seeds)

    @cached_property
    def order(self) -> list[tuple[PromptPair, int]]:
        """
        Every prompt with every seed: all prompts once, then all again, each time with other seeds.

        The first few then differ in both: what a seed does is seen as soon as what a prompt does.
        """
        left = [list(self.seeds) for _ in self.pairs]
        used = dict.fromkeys(self.seeds, 0)
        order = []
        for _ in self.seeds:
            for pair, seeds in zip(self.pairs, left, strict=True):
                seed = min(seeds, key=lambda seed: (used[seed], seed))
                seeds.remove(seed)
                used[seed] += 1
                order.append((pair, seed))
        return order

    @cached_property
    def board(self) -> Scoreboard:
        """The scores so far, of every set of layers in the order of the runs."""
        return Scoreboard(
            {},
            self.context.located.spec.n_layers,
            better_direction(self.concept.kind),
            self.settings.effect,
            is_auto=self.settings.width == "auto",
            widest=widths_of(self.settings.width)[-1],
            shared_swap_of=self.shared_swap_of(),
        )

    @property
    def first(self) -> list[tuple[PromptPair, int]]:
        """The first run of every prompt, of which pictures are kept."""
        return self.order[: len(self.pairs)]

    @property
    def sampling(self) -> tuple[int, float]:
        """Steps and guidance."""
        return self.context.located.spec.sampling(self.settings.steps, self.settings.guidance)

    @property
    def steps(self) -> int:
        """How often the UNet is called for a picture."""
        from loco_cli.sampling.sample import count_unet_calls

        return count_unet_calls(self.context.pipeline, self.sampling[0])

    @property
    def evaluations_per_picture(self) -> int:
        """Samples through the UNet that one picture takes."""
        return self.steps * (2 if self.sampling[1] > 1 else 1)

    def trials(
        self, candidates: Sequence[LayerSet], runs: Sequence[tuple[PromptPair, int]]
    ) -> list[SwapTrial]:
        """Return the trials of some sets of layers in some runs; those of a run together."""
        kind, with_pooled = self.concept.kind, self.settings.pooled
        return [
            trial
            for pair, seed in runs
            for trial in _plan_trials(candidates, (pair,), (seed,), kind, with_pooled=with_pooled)
        ]

    def originals(self) -> list[SwapTrial]:
        """Return the first run of every prompt, with nothing swapped."""
        return self.trials([LayerSet()], self.first)

    def shared_swap_of(self) -> list[int]:
        """Return for each run, in order, the first that has the same picture of the full swap."""
        everything = LayerSet(range(self.context.located.spec.n_layers))
        pictures = [self._picture(trial.run) for trial in self.trials([everything], self.order)]
        return [pictures.index(picture) for picture in pictures]

    def is_shown(self, run: Run) -> bool:
        """Whether the picture of a run is kept, to be shown."""
        target = run.swap.prompt if run.swap else None
        return any(
            (pair.source, pair.target, seed) == (run.prompt, target, run.seed)
            for pair, seed in self.first
        )

    def make(self, trials: Sequence[SwapTrial], stage: str, *, is_shared: bool) -> None:
        """Make and score pictures; with `is_shared` one that several trials have is made once."""
        waiting: dict[Any, list[SwapTrial]] = {}
        for i, trial in enumerate(trials):
            waiting.setdefault(self._picture(trial.run) if is_shared else i, []).append(trial)
        self.evaluations += len(waiting) * self.evaluations_per_picture
        fresh = [sharing for sharing in waiting.values() if not self.recall(sharing)]
        if fresh:
            self._make_fresh(fresh, stage)

    def _make_fresh(self, fresh: Sequence[Sequence[SwapTrial]], stage: str) -> None:
        """Make a picture for all trials of each, this process its share of them."""
        from loco_cli.sampling.sample import sample

        batches = self.context.team.own_batches(fresh, self.context.batch_size)
        mine = [sharing for batch in batches for sharing in batch]
        images = sample(
            self.context.pipeline,
            [sharing[0].run for sharing in mine],
            steps=self.sampling[0],
            guidance=self.sampling[1],
            batch_size=max(map(len, batches), default=1),
            tick=self.context.events.ticker(stage, len(mine) * self.steps),
        )
        made = [
            (trial, self.score(trial, image))
            for sharing, image in zip(mine, images, strict=True)
            for trial in sharing
        ]
        self.gather(made, [trial for sharing in fresh for trial in sharing])

    def recall(self, trials: Sequence[SwapTrial]) -> bool:
        """Take these trials from the cache; where one is missing none is taken."""
        cache, team = self.context.cache, self.context.team
        if cache is None:
            return False
        # a run that is cached meanwhile may be seen by one process and not by the next
        found, *_ = team.gather(
            [
                cache.find_run(*self._of(trial), needs_picture=self.is_shown(trial.run))
                for trial in (trials if team.is_first else ())
            ]
        )
        if None in found:
            return False
        for trial, run in zip(trials, found, strict=True):
            if run is not None:
                self._record(trial, run)
        return True

    def gather(
        self, made: Sequence[tuple[SwapTrial, CachedRun]], order: Sequence[SwapTrial]
    ) -> None:
        """Record the runs of all processes, in the order of a single one."""
        run_of = dict(pair for share in self.context.team.gather(made) for pair in share)
        for trial in order:
            self._record(trial, run_of[trial])

    def score(self, trial: SwapTrial, image: "Tensor") -> CachedRun:  # [3, h, w], 0 to 1
        """Score and cache a picture; raises MachineError where it contains NaN or infinity."""
        from loco_cli.sampling.sample import to_png

        (score,) = self.context.scorer.scores(image[None], [trial.caption])
        if score != score:
            raise MachineError(
                f"a picture of `{trial.run.prompt}` contains NaN or infinity",
                "try `--dtype float32`",
            )
        run = CachedRun(score, to_png(image) if self.is_shown(trial.run) else None)
        if self.context.cache is not None:
            self.context.cache.keep_run(run, *self._of(trial))
        return run

    def _record(self, trial: SwapTrial, run: CachedRun) -> None:
        assert trial.run.swap is not None
        source, target, seed = trial.run.prompt, trial.run.swap.prompt, trial.run.seed
        self.board.record(trial.layers, self._places[source, target, seed], run.score)
        if run.png is not None and self.is_shown(trial.run):
            picture = SwapPicture(source, target, seed, trial.layers, run.score, run.png)
            self.pictures.append(picture)

    @cached_property
    def _places(self) -> dict[tuple[str, str, int], int]:
        return {(pair.source, pair.target, seed): i for i, (pair, seed) in enumerate(self.order)}

    def _of(self, trial: SwapTrial) -> tuple[Any, ...]:
        """Return all that a score depends on beside the model and the scorer."""
        return (*self._picture(trial.run), trial.caption, *self.sampling)

    def _picture(self, run: Run) -> Any:
        """Return all that a picture depends on: a full swap forgets the source prompt."""
        spec = self.context.located.spec
        past = run.pooled_prompt if spec.unreachable else ""
        return run.seed, past, tuple(run.prompt_at(layer) for layer in range(spec.n_layers))

    def result(
        self,
        scores: tuple[WindowScore, ...],
        chosen: WindowScore,
        scale: tuple[float, float],  # mean scores of the original and of the full swap
        seconds: float,
        **more: Any,
    ) -> LocalizationRun:
        """Return the localization with its pictures; `more` are the fields of some searches."""
        located, concept = self.context.located, self.concept
        steps, guidance = self.sampling
        error, paths = self.board.scale_error, located.spec.module_paths
        found = Localization(
            model=ModelName(name=located.name, family=located.spec.family.name),
            concept=ConceptName(kind=concept.kind, subject=concept.subject, to=concept.to),
            method=self.settings.method,
            search=self.settings.search,
            width=len(chosen.layer_set),
            layer_range=chosen.layer_range,
            effect=chosen.effect,
            better=better_direction(concept.kind),
            layers=tuple(
                LayerName(layer=layer, module_path=paths[layer]) for layer in chosen.layer_set
            ),
            scores=scores,
            original_score=scale[0],
            target_score=scale[1],
            prompts=tuple(PromptNames(source=p.source, target=p.target) for p in self.pairs),
            seeds=self.seeds,
            steps=steps,
            guidance=guidance,
            scorer=self.context.scorer.name,
            unet_evaluations=self.evaluations,
            seconds=round(seconds, 3),
            pooled_swapped=self.settings.pooled if located.spec.unreachable else None,
            scale_error=None if error is None else round(error, 4),
            **more,
        )
        return LocalizationRun(found, tuple(self.pictures), paths)
