"""One concept's sweep: plan the runs, make the pictures, score them, rank the layers."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from loco_cli.concept import Concept, PromptPair
from loco_cli.errors import MachineError
from loco_cli.layers import LayerWindow, sliding_windows
from loco_cli.localization import (
    ConceptName,
    LayerName,
    Localization,
    ModelName,
    PromptNames,
    WindowScore,
    better_for,
)
from loco_cli.localizers import locogen
from loco_cli.metrics.clip_score import ClipScorer
from loco_cli.recipe import EditEntry, LocalizeSettings, Recipe
from loco_cli.report.pictures import SwapPicture, Swept
from loco_cli.runtime.pipeline import Pipeline
from loco_cli.runtime.sample import choose_batch_size, count_steps, sample, to_png
from loco_cli.workflows.checks import check_localize
from loco_cli.workflows.locate import Located
from loco_cli.workflows.machine import (
    Machine,
    load_model,
    load_scorer,
    ticking,
)
from loco_cli.workflows.progress import Notify, silent
from loco_cli.workflows.texts import check_subjects


@dataclass(frozen=True)
class Bench:
    """What sweeps run on: the model, loaded, its scorer, and how many runs share a UNet call."""

    located: Located
    pipeline: Pipeline
    scorer: ClipScorer
    batch_size: int
    notify: Notify = silent


def run(
    located: Located, recipe: Recipe, machine: Machine, notify: Notify = silent
) -> tuple[Swept, ...]:
    """Return one sweep for each edit of the recipe; the model is loaded once."""
    check_localize(located, recipe.localize)
    check_subjects(located, (pair for entry in recipe.edits for pair in entry.localize_pairs()))
    scorer = load_scorer(located, machine)
    pipeline = load_model(located, machine, notify)
    batch_size = choose_batch_size(machine.batch_size, pipeline)
    bench = Bench(located, pipeline, scorer, batch_size, notify)
    return tuple(localize(bench, entry, recipe.localize) for entry in recipe.edits)


def localize(bench: Bench, entry: EditEntry, settings: LocalizeSettings) -> Swept:
    """Return the sweep of one concept."""
    started = time.monotonic()
    spec = bench.located.spec
    job = _Job(bench, entry.concept(), entry.localize_pairs(), settings)
    wanted = settings.effect if settings.width == "auto" else None
    windows: list[LayerWindow] = []
    for width in locogen.widths_of(settings.width):
        windows += sliding_windows(spec.n_layers, width)
        job.sweep(windows)
        original, target, scores = locogen.rank(job.trials, job.scores, windows, spec.n_layers)
        chosen = locogen.choose(scores, better_for(entry.kind), wanted=wanted)
        if wanted and chosen.effect is not None and chosen.effect >= wanted:
            break
    seconds = round(time.monotonic() - started, 3)
    found = job.document(original, target, scores, chosen, seconds)
    return Swept(found, tuple(job.pictures), spec.module_paths)


@dataclass
class _Job:
    """One concept's sweep while it runs: trials, their scores, and the pictures to keep."""

    bench: Bench
    concept: Concept
    pairs: Sequence[PromptPair]
    settings: LocalizeSettings
    trials: list[locogen.Trial] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    pictures: list[SwapPicture] = field(default_factory=list)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(range(self.settings.seeds))

    @property
    def sampling(self) -> tuple[int, float]:
        return self.bench.located.spec.sampling(self.settings.steps, self.settings.guidance)

    @property
    def steps(self) -> int:
        return count_steps(self.bench.pipeline, self.sampling[0])

    def sweep(self, windows: Sequence[LayerWindow]) -> None:
        """Make and score the runs of these windows, and of nothing and everything, if not yet."""
        candidates = locogen.candidates_of(windows, self.bench.located.spec.n_layers)
        known = {trial.candidate for trial in self.trials}
        fresh = [candidate for candidate in candidates if candidate not in known]
        trials = locogen.plan(
            fresh,
            self.pairs,
            self.seeds,
            self.concept.kind,
            with_pooled=self.settings.pooled,
        )
        for trial, image in zip(trials, self._sample(trials), strict=True):
            self._take(trial, image)

    def _sample(self, trials: Sequence[locogen.Trial]) -> Iterator[Tensor]:
        bench, (steps, guidance) = self.bench, self.sampling
        stage = f"localizing {self.concept.subject}"
        if self.trials:
            stage += " in wider ranges"
        return sample(
            bench.pipeline,
            [trial.run for trial in trials],
            steps=steps,
            guidance=guidance,
            batch_size=bench.batch_size,
            tick=ticking(bench.notify, stage, len(trials) * self.steps),
        )

    def _take(self, trial: locogen.Trial, image: Tensor) -> None:
        (score,) = self.bench.scorer.scores(image[None], [trial.caption])
        if score != score:
            raise MachineError(
                f"a picture of `{trial.run.prompt}` came out as no numbers", "try `--dtype float32`"
            )
        self.trials.append(trial)
        self.scores.append(score)
        if trial.run.seed == 0 and trial.run.swap is not None:
            source, target = trial.run.prompt, trial.run.swap.prompt
            layers = trial.candidate.layers
            self.pictures.append(SwapPicture(source, target, layers, score, to_png(image)))

    def document(
        self,
        original: float,
        target: float,
        scores: tuple[WindowScore, ...],
        chosen: WindowScore,
        seconds: float,
    ) -> Localization:
        """Return the localization as a record."""
        located, concept = self.bench.located, self.concept
        steps, guidance = self.sampling
        return Localization(
            model=ModelName(name=located.name, family=located.spec.family),
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
            original_score=original,
            target_score=target,
            prompts=tuple(PromptNames(source=p.source, target=p.target) for p in self.pairs),
            seeds=self.seeds,
            steps=steps,
            guidance=guidance,
            scorer=self.bench.scorer.name,
            unet_evaluations=len(self.trials) * self.steps * (2 if guidance > 1 else 1),
            seconds=seconds,
            pooled_swapped=self.settings.pooled if located.spec.unreachable else None,
        )
