"""The fast search of one concept: rank the layers by one run per prompt, and try the likely."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from loco_cli.encoders.mention import last_mention
from loco_cli.interventions import Run
from loco_cli.localization import LocalizationRun, WindowScore, better_for
from loco_cli.localizing import fast as racing
from loco_cli.localizing import locogen
from loco_cli.localizing.contribution import likely_windows, subject_mask
from loco_cli.localizing.locogen import Trial
from loco_cli.localizing.race import N_FIRST, N_RIVALS, Estimate, Layers, Scoreboard
from loco_cli.localizing.runs import RunRecorder
from loco_cli.models.tokenizers import tokenizers_of
from loco_cli.sampling.probe import Trajectory, attribute, contribute, follow

MOST_AHEAD = 1000.0  # standard errors; more says nothing more


def fast(runs: RunRecorder) -> LocalizationRun:
    """Return the search of one concept; what it is unsure of it looks at again."""
    started = time.monotonic()
    hunt = FastSearch(runs)
    shares = hunt.rank()
    best = hunt.run(shares)
    return hunt.swept(best.layers, shares, time.monotonic() - started)


def contribution(runs: RunRecorder) -> LocalizationRun:
    """
    Return the layers to which the subject adds most and that are enough; no window is swept.

    A few windows at most are tried, on two seeds of every prompt, until one has the effect.
    """
    started = time.monotonic()
    hunt = FastSearch(runs)
    sizes = hunt.contributions()
    hunt.measure_full_swap()
    for window in likely_windows(sizes, hunt.widths):
        hunt.score_to({tuple(window): 2 * len(runs.pairs)})
        best = hunt.race.best()
        if best.effect >= hunt.race.enough:
            break
    return hunt.swept(best.layers, sizes, time.monotonic() - started)


def scale_error(race: Scoreboard) -> float | None:
    """Return the scale's error as a document has it, None where it is not known."""
    return None if race.scale_error is None else round(race.scale_error, 4)


class FastSearch:
    """
    A search while it runs.

    What is scored is always the first of its runs, so that windows can be compared run by run.
    """

    def __init__(self, runs: RunRecorder) -> None:
        self.runs = runs
        self.order = runs.order
        self.shared_swap_of = runs.shared_swap_of()
        self.n_layers = runs.bench.located.spec.n_layers
        self.everything = tuple(range(self.n_layers))
        self.stage = f"localizing {runs.concept.subject}"
        self.widths = locogen.widths_of(runs.settings.width)

    @property
    def race(self) -> Scoreboard:
        """What was scored so far, in the order of the trials."""
        values: dict[Layers, dict[tuple[str, str, int], float]] = {}
        for trial, score in zip(self.runs.trials, self.runs.scores, strict=True):
            run, swap = trial.run, trial.run.swap
            key = (run.prompt, swap.prompt if swap else "", run.seed)
            values.setdefault(trial.candidate.layers, {})[key] = score
        order = [(pair.source, pair.target, seed) for pair, seed in self.order]
        in_order = {
            layers: [scores[key] for key in order if key in scores]
            for layers, scores in values.items()
        }
        settings = self.runs.settings
        return Scoreboard(
            in_order,
            self.n_layers,
            better_for(self.runs.concept.kind),
            settings.effect,
            is_auto=settings.width == "auto",
            widest=self.widths[-1],
            shared_swap_of=self.shared_swap_of,
        )

    def rank(self) -> list[float]:
        """Return how large a share of the full swap each layer makes, a mean over the prompts."""

        def measure(path: Trajectory, trials: Sequence[Trial]) -> Tensor:
            targets = [trial.run.swap.prompt for trial in trials if trial.run.swap]
            return attribute(self.runs.bench.pipeline, path, targets, racing.N_STEPS)

        return self._look("attribution", measure, racing.PASSES, racing.N_STEPS)

    def contributions(self) -> list[float]:
        """Return the size of what the subject adds in each layer, a mean over the prompts."""
        tokenizer = tokenizers_of(self.runs.bench.located.texts)[0]

        def measure(path: Trajectory, trials: Sequence[Trial]) -> Tensor:
            spoken = []
            for trial in trials:
                tokens = tokenizer.read(trial.run.prompt)
                start, _ = last_mention(tokens.text, self.runs.concept.subject)
                n_tokens = len(self.runs.bench.pipeline.reader.read(trial.run.prompt).states)
                spoken.append(subject_mask(tokens.offsets, start, n_tokens))
            is_of = torch.tensor(spoken)
            return contribute(self.runs.bench.pipeline, path, is_of, len(path.steps))

        return self._look("contribution", measure, 1, self.runs.steps)

    def _look(
        self,
        name: str,
        measure: Callable[[Trajectory, Sequence[Trial]], Tensor],
        n_passes: int,  # of the UNet for each step that is replayed
        n_steps: int,
    ) -> list[float]:
        """Make each prompt's first original, and return what is measured on its way, per layer."""
        runs, kept = self.runs, self.runs.bench.kept
        trials = runs.originals()
        replayed = min(n_steps, runs.steps)
        runs.evaluations += len(trials) * (runs.price + n_passes * replayed)
        first = [[pair.source, pair.target, pair.subject, seed] for pair, seed in runs.first]
        of = (name, first, replayed, *runs.sampling)
        n_layers = runs.bench.located.spec.n_layers
        mine = kept.find_numbers(*of, n=n_layers) if kept else None
        found, *_ = runs.bench.team.gather(mine)
        if found and runs.recall(trials):
            return found
        means: list[float] = torch.tensor(self._measured(trials, measure)).mean(0).tolist()
        if kept:
            kept.keep(means, *of)
        return means

    def _measured(
        self, trials: Sequence[Trial], measure: Callable[[Trajectory, Sequence[Trial]], Tensor]
    ) -> list[list[float]]:  # [n, n_layers]
        runs, (steps, guidance) = self.runs, self.runs.sampling
        team, made, measured = runs.bench.team, [], []
        # a backward pass keeps what a batch of four forgets
        batches = team.share(trials, max(1, runs.bench.batch_size // 4))
        n_steps = sum(map(len, batches)) * runs.steps
        tick = runs.bench.events.ticker(f"{self.stage}, ranking", n_steps)
        for batch in batches:
            plain = [Run(trial.run.prompt, trial.run.seed) for trial in batch]
            path, images = follow(
                runs.bench.pipeline, plain, steps=steps, guidance=guidance, tick=tick
            )
            made += [(t, runs.score(t, image)) for t, image in zip(batch, images, strict=True)]
            measured += list(zip(batch, measure(path, batch).tolist(), strict=True))
        runs.gather(made, trials)
        everybodys = dict(one for some in team.gather(measured) for one in some)
        return [everybodys[trial] for trial in trials]

    def run(self, shares: Sequence[float]) -> Estimate:
        """Return the best window, after as many runs as it takes to be sure of it."""
        self.measure_full_swap()
        is_auto = self.runs.settings.width == "auto"
        for width in self.widths:
            self.score_to(dict.fromkeys(racing.shortlist(shares, width, self.widths), 1))
            if not self.race.is_known:
                return self.race.best()
            if is_auto and self._is_enough_so_far():
                best = self._compare()
                if best.effect >= self.race.enough:
                    return best
        has_looked = self.race.best().effect < racing.PROMISING * self.race.enough
        if has_looked:
            self._look_everywhere()
        best = self._compare()
        if best.effect < self.race.enough and not has_looked:
            self._look_everywhere()
            best = self._compare()
        return best

    def _is_enough_so_far(self) -> bool:
        """Whether a window is enough; one whose first run promises it is run on every prompt."""
        best = self.race.best()
        if best.effect >= racing.PROMISING * self.race.enough:
            self.score_to({best.layers: len(self.runs.pairs)})
        return self.race.best().effect >= self.race.enough

    def measure_full_swap(self) -> None:
        """
        Run the full swap once per prompt, and on until it is clear that it does something.

        A single picture of it tells nothing of what seeds do: where there are more, two are made.
        """
        n, n_all = len(self.runs.pairs), len(self.order)
        self.score_to({self.everything: n})
        while self._is_unsure_of_scale() and self.race.is_new_to_scale(n):
            n = min(2 * n, n_all)
            self.score_to({self.everything: n})

    def _is_unsure_of_scale(self) -> bool:
        return self.race.n_pictures < 2 or not self.race.is_known

    def _look_everywhere(self) -> None:
        """Try windows that together hold every layer, and those around the best of all so far."""
        width = self.widths[-1]
        self._look_at(racing.cover(self.n_layers, width), width)
        found = sorted(self.race.estimates(), key=lambda e: -e.effect)[:N_RIVALS]
        near = [w for e in found for w in racing.around(e.layers, width, self.n_layers)]
        self._look_at(near, width)

    def _look_at(self, windows: Sequence[Layers], width: int) -> None:
        """
        Run windows once; on the next prompt or seed too where neither these nor the best do much.

        So are then all that are at least `width` wide, whose first run alone may have been lucky.
        """
        self.score_to(dict.fromkeys(windows, 1))
        race = self.race
        known = (race.best(), *map(race.estimate, windows))
        if max(one.effect for one in known) < racing.PROMISING * race.enough:
            wide = [one.layers for one in race.estimates() if len(one.layers) >= width]
            self.score_to(dict.fromkeys(wide, N_FIRST))

    def _compare(self) -> Estimate:
        while True:
            race = self.race
            best = race.best()
            windows_needing_runs = racing.windows_needing_runs(
                race, best, len(self.runs.pairs), len(self.order), may_compare=self._may_compare
            )
            if not windows_needing_runs:
                return best
            self.score_to(windows_needing_runs)

    @property
    def _may_compare(self) -> bool:
        """Whether there is still something to spend on what the best is compared with."""
        n_windows = len(locogen.windows_of(self.runs.settings.width, self.n_layers))
        n_made = self.runs.evaluations / self.runs.price
        return n_made < racing.allowance(n_windows, len(self.order))

    def score_to(self, wanted: Mapping[Layers, int]) -> None:
        """Score windows on their first so many runs, and the original on as many."""
        most = max(wanted.values(), default=0)
        known = {layers: len(scores) for layers, scores in self.race.values.items()}
        trials = [
            self.runs.trial(layers, *self.order[i])
            for layers, n in {(): most, **wanted}.items()
            for i in range(known.get(layers, 0), min(n, len(self.order)))
        ]
        if trials:
            self.runs.make(trials, self.stage, is_shared=True)

    def score(self, layers: Layers) -> WindowScore:
        """Return a window's score, its effect on its own runs as a share of the span."""
        race = self.race
        values = race.values[layers]
        original = sum(race.values[()][: len(values)]) / len(values)
        return WindowScore.of(layers, values, original=original, target=original - race.span)

    def swept(
        self,
        chosen: Layers,
        ranking: Sequence[float],
        seconds: float,
        window: Literal["set"] | None = None,
    ) -> LocalizationRun:
        """Return what was found, with every window that was tried."""
        race, runs = self.race, self.runs
        scores = tuple(self.score(one.layers) for one in race.estimates())
        margin = None if window else race.margin(race.estimate(chosen))
        found = runs.document(
            scores,
            self.score(chosen),
            (self.mean(()), self.mean(race.everything)),
            seconds,
            ranking=tuple(round(one, 6) for one in ranking),
            margin=None if margin is None else round(min(margin, MOST_AHEAD), 2),
            scale_error=scale_error(race),
            window=window,
        )
        return LocalizationRun(found, tuple(runs.pictures), runs.bench.located.spec.module_paths)

    def mean(self, layers: Layers) -> float:
        """Return the mean score of all runs of these layers."""
        values = self.race.values[layers]
        return sum(values) / len(values)
