"""The runs of one concept's localization: plan, draw, score, cache and count them."""

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

AUTO_WIDTHS = (1, 2, 3, 4)  # layers; `width: auto` tries them in order until a window passes


@dataclass(frozen=True)
class SwapTrial:
    """
    A run in which some layers read the target prompt, with the caption that scores it.

    Without layers it is the original, with all layers the full swap.
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
    Return one trial per candidate, prompt pair and seed, grouped by pair and seed.

    Styles and objects are scored against the source prompt, facts against the target prompt.
    `with_pooled` also swaps the pooled embedding, which bypasses the layers.
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
    """Return the widths to try, from narrow to wide."""
    return AUTO_WIDTHS if width == "auto" else (width,)


def windows_of(width: int | Literal["auto"], n_layers: int) -> tuple[LayerSet, ...]:
    """Return all windows of the widths to try, from narrow to wide."""
    return tuple(w for width in widths_of(width) for w in sliding_windows(n_layers, width))


def candidates_of(windows: Iterable[LayerSet], n_layers: int) -> tuple[LayerSet, ...]:
    """Return the original (no layers), the full swap (all layers) and the distinct windows."""
    return (LayerSet(), *dict.fromkeys((LayerSet(range(n_layers)), *windows)))


@dataclass(frozen=True)
class SearchContext:
    """
    A loaded model for searches, with its scorer, its cache and its processes.

    Example:
        `SearchContext.load(locate("tiny"), RunOptions(device="cpu"))`
    """

    located: LocatedModel
    pipeline: "Pipeline"
    scorer: "ClipScorer"
    batch_size: int
    events: Events = SILENT_EVENTS
    cache: RunCache | None = None  # None neither reads nor writes cached runs
    team: Team = field(default_factory=Team)  # the processes that share the runs

    @classmethod
    def load(
        cls, located: LocatedModel, options: RunOptions, events: Events = SILENT_EVENTS
    ) -> "SearchContext":
        """
        Load a model and its scorer, and open its cache.

        Args:
            located: The model, found but not loaded.
            options: The device, the precision, the scorer, the batch size and the cache setting.
            events: The receiver of progress.

        Raises:
            MachineError: The device does not exist or lacks memory.
        """
        from loco_cli.sampling.sample import choose_batch_size  # imports diffusers

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
    The runs of one concept, with their scores and the pictures to show.

    `n_unet_evaluations` counts UNet evaluations. Cached runs count too, so that a document does not
    depend on the cache.
    """

    context: SearchContext
    concept: Concept
    pairs: Sequence[PromptPair]
    settings: LocalizeSettings
    pictures: list[SwapPicture] = field(default_factory=list)
    n_unet_evaluations: int = 0

    @classmethod
    def of(
        cls, context: SearchContext, entry: EditEntry, settings: LocalizeSettings
    ) -> "RunRecorder":
        """Return an empty recorder for the concept of an edit."""
        return cls(context, entry.concept, entry.localize_pairs, settings)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, which start at 0."""
        return localize_seeds(self.settings.seeds)

    @cached_property
    def order(self) -> list[tuple[PromptPair, int]]:
        """
        All pairs of prompt and seed, in rounds that use every prompt once.

        A prompt gets a new seed in each round, and a round spreads over many seeds. The first few
        runs therefore sample the variance of both prompts and seeds.
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
        """The scores so far; its order of runs is `order`."""
        return Scoreboard(
            {},
            self.context.located.spec.n_layers,
            better_direction(self.concept.kind),
            self.settings.effect,
            is_auto=self.settings.width == "auto",
            max_width=widths_of(self.settings.width)[-1],
            full_swap_ids=self.full_swap_ids(),
        )

    @property
    def first_runs(self) -> list[tuple[PromptPair, int]]:
        """The first run of every prompt; their pictures are kept for the report."""
        return self.order[: len(self.pairs)]

    @property
    def sampling(self) -> tuple[int, float]:
        """The number of steps and the guidance scale."""
        return self.context.located.spec.sampling(self.settings.steps, self.settings.guidance)

    @property
    def n_unet_calls(self) -> int:
        """The number of UNet calls per picture."""
        from loco_cli.sampling.sample import count_unet_calls

        return count_unet_calls(self.context.pipeline, self.sampling[0])

    @property
    def n_evaluations_per_picture(self) -> int:
        """The UNet evaluations per picture; guidance doubles the UNet calls."""
        return self.n_unet_calls * (2 if self.sampling[1] > 1 else 1)

    def trials(
        self, candidates: Sequence[LayerSet], runs: Sequence[tuple[PromptPair, int]]
    ) -> list[SwapTrial]:
        """Return the trials of some sets of layers in some runs, grouped by run."""
        kind, with_pooled = self.concept.kind, self.settings.pooled
        return [
            trial
            for pair, seed in runs
            for trial in _plan_trials(candidates, (pair,), (seed,), kind, with_pooled=with_pooled)
        ]

    def originals(self) -> list[SwapTrial]:
        """Return the trials of the first runs with nothing swapped."""
        return self.trials([LayerSet()], self.first_runs)

    def full_swap_ids(self) -> list[int]:
        """Return for each run the index of the first run with the same full-swap picture."""
        all_layers = LayerSet(range(self.context.located.spec.n_layers))
        pictures = [self._picture_key(trial.run) for trial in self.trials([all_layers], self.order)]
        return [pictures.index(picture) for picture in pictures]

    def is_shown(self, run: Run) -> bool:
        """Return True if the report shows the picture of a run."""
        target = run.swap.prompt if run.swap else None
        return any(
            (pair.source, pair.target, seed) == (run.prompt, target, run.seed)
            for pair, seed in self.first_runs
        )

    def run_trials(self, trials: Sequence[SwapTrial], stage: str, *, is_shared: bool) -> None:
        """Draw and score trials; with `is_shared`, trials of the same picture draw it once."""
        waiting: dict[Any, list[SwapTrial]] = {}
        for i, trial in enumerate(trials):
            waiting.setdefault(self._picture_key(trial.run) if is_shared else i, []).append(trial)
        self.n_unet_evaluations += len(waiting) * self.n_evaluations_per_picture
        fresh = [group for group in waiting.values() if not self.load_cached(group)]
        if fresh:
            self._draw_pictures(fresh, stage)

    def _draw_pictures(self, fresh: Sequence[Sequence[SwapTrial]], stage: str) -> None:
        """Draw one picture for each group of trials; each process draws its share."""
        from loco_cli.sampling.sample import sample

        batches = self.context.team.own_batches(fresh, self.context.batch_size)
        own_groups = [group for batch in batches for group in batch]
        images = sample(
            self.context.pipeline,
            [group[0].run for group in own_groups],
            steps=self.sampling[0],
            guidance=self.sampling[1],
            batch_size=max(map(len, batches), default=1),
            tick=self.context.events.ticker(stage, len(own_groups) * self.n_unet_calls),
        )
        made = [
            (trial, self.score(trial, image))
            for group, image in zip(own_groups, images, strict=True)
            for trial in group
        ]
        self.record_all(made, [trial for group in fresh for trial in group])

    def load_cached(self, trials: Sequence[SwapTrial]) -> bool:
        """Record all of these trials from the cache, or none; return True if all were there."""
        cache, team = self.context.cache, self.context.team
        if cache is None:
            return False
        # the first process reads for all, since the cache can change between two readers
        found, *_ = team.gather(
            [
                cache.find_run(*self._cache_key(trial), needs_picture=self.is_shown(trial.run))
                for trial in (trials if team.is_first else ())
            ]
        )
        if None in found:
            return False
        for trial, run in zip(trials, found, strict=True):
            if run is not None:
                self._record(trial, run)
        return True

    def record_all(
        self, made: Sequence[tuple[SwapTrial, CachedRun]], order: Sequence[SwapTrial]
    ) -> None:
        """Record the runs of all processes, in the order that a single process would have."""
        run_of = dict(pair for share in self.context.team.gather(made) for pair in share)
        for trial in order:
            self._record(trial, run_of[trial])

    def score(self, trial: SwapTrial, image: "Tensor") -> CachedRun:  # [3, h, w], 0 to 1
        """Score and cache a picture; raise MachineError if it contains NaN or infinity."""
        from loco_cli.sampling.sample import to_png

        (score,) = self.context.scorer.scores(image[None], [trial.caption])
        if score != score:
            raise MachineError(
                f"a picture of `{trial.run.prompt}` contains NaN or infinity",
                "try `--dtype float32`",
            )
        run = CachedRun(score, to_png(image) if self.is_shown(trial.run) else None)
        if self.context.cache is not None:
            self.context.cache.store_run(run, *self._cache_key(trial))
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

    def _cache_key(self, trial: SwapTrial) -> tuple[Any, ...]:
        """Return everything that a score depends on, other than the model and the scorer."""
        return (*self._picture_key(trial.run), trial.caption, *self.sampling)

    def _picture_key(self, run: Run) -> Any:
        """Return everything that a picture depends on; a full swap ignores the source prompt."""
        spec = self.context.located.spec
        pooled = run.pooled_prompt if spec.unreachable else ""
        return run.seed, pooled, tuple(run.prompt_at(layer) for layer in range(spec.n_layers))

    def result(
        self,
        scores: tuple[WindowScore, ...],
        chosen: WindowScore,
        scale: tuple[float, float],  # mean scores of the original and the full swap
        seconds: float,
        **more: Any,
    ) -> LocalizationRun:
        """Return the localization with its pictures; `more` holds optional fields."""
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
            unet_evaluations=self.n_unet_evaluations,
            seconds=round(seconds, 3),
            pooled_swapped=self.settings.pooled if located.spec.unreachable else None,
            scale_error=None if error is None else round(error, 4),
            **more,
        )
        return LocalizationRun(found, tuple(self.pictures), paths)
