"""The runs of one concept's localization: pictures made, scored, kept, and counted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from loco_cli.concept import Concept, PromptPair
from loco_cli.errors import MachineError
from loco_cli.events import SILENT, Events
from loco_cli.interventions import Run, SwapPrompt
from loco_cli.localization import (
    ConceptName,
    LayerName,
    Localization,
    ModelName,
    PromptNames,
    SwapPicture,
    WindowScore,
    better_for,
)
from loco_cli.localizing.cache import CachedRun, RunCache
from loco_cli.localizing.locogen import Candidate, Trial
from loco_cli.models.locate import LocatedModel
from loco_cli.protocol.seeds import localize_seeds
from loco_cli.recipe import EditEntry, LocalizeSettings
from loco_cli.sampling.clip_score import ClipScorer
from loco_cli.sampling.pipeline import Pipeline
from loco_cli.sampling.processes import Team
from loco_cli.sampling.sample import count_steps, sample, to_png


@dataclass(frozen=True)
class SearchContext:
    """What sweeps run on: the model, loaded, its scorer, and how many runs share a UNet call."""

    located: LocatedModel
    pipeline: Pipeline
    scorer: ClipScorer
    batch_size: int
    events: Events = SILENT
    kept: RunCache | None = None  # runs that were made before; None ignores them
    team: Team = field(default_factory=Team)  # the processes that share the work


@dataclass
class RunRecorder:
    """
    One concept's runs as they are made: trials, their scores, and the pictures to keep.

    `evaluations` counts samples through the UNet, those of runs that were kept from before too: it
    is what the answer takes.
    """

    bench: SearchContext
    concept: Concept
    pairs: Sequence[PromptPair]
    settings: LocalizeSettings
    trials: list[Trial] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    pictures: list[SwapPicture] = field(default_factory=list)
    evaluations: int = 0

    @classmethod
    def of(
        cls, bench: SearchContext, entry: EditEntry, settings: LocalizeSettings
    ) -> "RunRecorder":
        """Return the runs of an edit's concept, none made yet."""
        return cls(bench, entry.concept, entry.localize_pairs, settings)

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
                seed = min(seeds, key=lambda one: (used[one], one))
                seeds.remove(seed)
                used[seed] += 1
                order.append((pair, seed))
        return order

    @property
    def first(self) -> list[tuple[PromptPair, int]]:
        """The first run of every prompt, of which pictures are kept."""
        return self.order[: len(self.pairs)]

    @property
    def sampling(self) -> tuple[int, float]:
        """Steps and guidance."""
        return self.bench.located.spec.sampling(self.settings.steps, self.settings.guidance)

    @property
    def steps(self) -> int:
        """How often the UNet is called for a picture."""
        return count_steps(self.bench.pipeline, self.sampling[0])

    @property
    def price(self) -> int:
        """What one picture counts."""
        return self.steps * (2 if self.sampling[1] > 1 else 1)

    def trial(self, layers: tuple[int, ...], pair: PromptPair, seed: int) -> Trial:
        """Return the trial of swapping some layers; a fact is held against its target prompt."""
        swap = SwapPrompt(layers, pair.target, self.settings.pooled)
        caption = pair.target if self.concept.kind == "fact" else pair.source
        return Trial(Candidate(layers), Run(pair.source, seed, swap), caption)

    def originals(self) -> list[Trial]:
        """Return the first run of every prompt, with nothing swapped."""
        return [self.trial((), pair, seed) for pair, seed in self.first]

    def shared_swap_of(self) -> list[int]:
        """Return for each run, in order, the first that has the same picture of the full swap."""
        everything = tuple(range(self.bench.located.spec.n_layers))
        pictures = [self._picture(self.trial(everything, *one).run) for one in self.order]
        return [pictures.index(one) for one in pictures]

    def is_shown(self, run: Run) -> bool:
        """Whether the picture of a run is kept, to be shown."""
        target = run.swap.prompt if run.swap else None
        return any(
            (pair.source, pair.target, seed) == (run.prompt, target, run.seed)
            for pair, seed in self.first
        )

    def make(self, trials: Sequence[Trial], stage: str, *, is_shared: bool) -> None:
        """Make and score pictures; with `is_shared` one that several trials have is made once."""
        waiting: dict[Any, list[Trial]] = {}
        for i, trial in enumerate(trials):
            waiting.setdefault(self._picture(trial.run) if is_shared else i, []).append(trial)
        self.evaluations += len(waiting) * self.price
        fresh = [sharing for sharing in waiting.values() if not self.recall(sharing)]
        if fresh:
            self._make_fresh(fresh, stage)

    def _make_fresh(self, fresh: Sequence[Sequence[Trial]], stage: str) -> None:
        """Make a picture for all trials of each, this process its share of them."""
        batches = self.bench.team.share(fresh, self.bench.batch_size)
        mine = [sharing for batch in batches for sharing in batch]
        images = sample(
            self.bench.pipeline,
            [sharing[0].run for sharing in mine],
            steps=self.sampling[0],
            guidance=self.sampling[1],
            batch_size=max(map(len, batches), default=1),
            tick=self.bench.events.ticker(stage, len(mine) * self.steps),
        )
        made = [
            (trial, self.score(trial, image))
            for sharing, image in zip(mine, images, strict=True)
            for trial in sharing
        ]
        self.gather(made, [trial for sharing in fresh for trial in sharing])

    def recall(self, trials: Sequence[Trial]) -> bool:
        """Take these trials from what is kept; where one is missing none is taken."""
        kept, team = self.bench.kept, self.bench.team
        if kept is None:
            return False
        # what others keep meanwhile may be seen by one process and not by the next
        found, *_ = team.gather(
            [
                kept.find_run(*self._of(trial), needs_picture=self.is_shown(trial.run))
                for trial in (trials if team.is_first else ())
            ]
        )
        if None in found:
            return False
        for trial, one in zip(trials, found, strict=True):
            if one is not None:
                self._record(trial, one)
        return True

    def gather(self, made: Sequence[tuple[Trial, CachedRun]], order: Sequence[Trial]) -> None:
        """Record what all processes have made, in the order of a single one."""
        everybodys = dict(one for some in self.bench.team.gather(made) for one in some)
        for trial in order:
            self._record(trial, everybodys[trial])

    def score(self, trial: Trial, image: Tensor) -> CachedRun:  # [3, h, w], 0 to 1
        """Score and keep a picture; raises MachineError where it came out as no numbers."""
        (score,) = self.bench.scorer.scores(image[None], [trial.caption])
        if score != score:
            raise MachineError(
                f"a picture of `{trial.run.prompt}` came out as no numbers", "try `--dtype float32`"
            )
        one = CachedRun(score, to_png(image) if self.is_shown(trial.run) else None)
        if self.bench.kept is not None:
            self.bench.kept.keep_run(one, *self._of(trial))
        return one

    def _record(self, trial: Trial, one: CachedRun) -> None:
        self.trials.append(trial)
        self.scores.append(one.score)
        if one.png is not None and trial.run.swap is not None and self.is_shown(trial.run):
            source, target = trial.run.prompt, trial.run.swap.prompt
            layers = trial.candidate.layers
            picture = SwapPicture(source, target, trial.run.seed, layers, one.score, one.png)
            self.pictures.append(picture)

    def _of(self, trial: Trial) -> tuple[Any, ...]:
        """Return all that a score depends on beside the model and the scorer."""
        return (*self._picture(trial.run), trial.caption, *self.sampling)

    def _picture(self, run: Run) -> Any:
        """Return all that a picture depends on: a full swap forgets the source prompt."""
        spec = self.bench.located.spec
        past = run.pooled_prompt if spec.unreachable else ""
        return run.seed, past, tuple(run.prompt_at(layer) for layer in range(spec.n_layers))

    def document(
        self,
        scores: tuple[WindowScore, ...],
        chosen: WindowScore,
        scale: tuple[float, float],  # mean scores of the original and of the full swap
        seconds: float,
        **more: Any,
    ) -> Localization:
        """Return the localization as a record; `more` are the fields of some searches alone."""
        located, concept = self.bench.located, self.concept
        steps, guidance = self.sampling
        return Localization(
            model=ModelName(name=located.name, family=located.spec.family.name),
            concept=ConceptName(kind=concept.kind, subject=concept.subject, to=concept.to),
            method=self.settings.method,
            search=self.settings.search,
            width=len(chosen.layer_set),
            layer_range=chosen.layer_range,
            effect=chosen.effect,
            better=better_for(concept.kind),
            layers=tuple(
                LayerName(layer=layer, module_path=located.spec.module_paths[layer])
                for layer in chosen.layer_set
            ),
            scores=scores,
            original_score=scale[0],
            target_score=scale[1],
            prompts=tuple(PromptNames(source=p.source, target=p.target) for p in self.pairs),
            seeds=self.seeds,
            steps=steps,
            guidance=guidance,
            scorer=self.bench.scorer.name,
            unet_evaluations=self.evaluations,
            seconds=round(seconds, 3),
            pooled_swapped=self.settings.pooled if located.spec.unreachable else None,
            **more,
        )
