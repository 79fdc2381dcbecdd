"""The fast search of one concept: rank the layers by one run per prompt, and try the likely."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from loco_cli.interventions import Run
from loco_cli.layers import LayerSet
from loco_cli.localization import LocalizationRun, WindowScore
from loco_cli.localizing import fast
from loco_cli.localizing.runs import RunRecorder, SwapTrial, widths_of, windows_of
from loco_cli.localizing.scoreboard import N_FIRST_RUNS, N_RIVALS, Estimate

if TYPE_CHECKING:
    from torch import Tensor

    from loco_cli.sampling.probe import Trajectory

_MAX_MARGIN = 1000.0  # standard errors; a larger lead says nothing more

Measure = Callable[["Trajectory", Sequence[SwapTrial]], "Tensor"]  # -> [n_trials, n_layers]


class FastSearch:
    """
    A search while it runs.

    Every set of layers is scored on the first runs of one order, so that sets can be compared run
    by run.
    """

    def __init__(self, runs: RunRecorder) -> None:
        self.started = time.monotonic()
        self.runs = runs
        self.board = runs.board
        self.order = runs.order
        self.n_layers = runs.context.located.spec.n_layers
        self.everything = self.board.everything
        self.stage = f"localizing {runs.concept.subject}"
        self.widths = widths_of(runs.settings.width)

    def measure_originals(
        self,
        name: str,
        measure: Measure,
        n_passes: int,  # UNet calls for each step that is replayed
        n_steps: int,
    ) -> list[float]:
        """
        Make the first original of every prompt, and return a measure of each layer.

        The measure is taken on the steps of the run, and is a mean over the prompts.
        """
        import torch

        runs, cache = self.runs, self.runs.context.cache
        trials = runs.originals()
        n_replayed = min(n_steps, runs.steps)
        runs.evaluations += len(trials) * (runs.evaluations_per_picture + n_passes * n_replayed)
        first = [[pair.source, pair.target, pair.subject, seed] for pair, seed in runs.first]
        key = (name, first, n_replayed, *runs.sampling)
        mine = cache.find_numbers(*key, n=self.n_layers) if cache else None
        found, *_ = runs.context.team.gather(mine)
        if found and runs.recall(trials):
            return found
        means: list[float] = torch.tensor(self._measured(trials, measure)).mean(0).tolist()
        if cache:
            cache.keep(means, *key)
        return means

    def _measured(
        self, trials: Sequence[SwapTrial], measure: Measure
    ) -> list[list[float]]:  # [n, n_layers]
        from loco_cli.sampling.probe import record_trajectory  # diffusers lives behind this line

        runs, (steps, guidance) = self.runs, self.runs.sampling
        team, made, measured = runs.context.team, [], []
        # a backward pass keeps what a batch of four forgets
        batches = team.own_batches(trials, max(1, runs.context.batch_size // 4))
        n_steps = sum(map(len, batches)) * runs.steps
        tick = runs.context.events.ticker(f"{self.stage}, ranking", n_steps)
        for batch in batches:
            plain = [Run(trial.run.prompt, trial.run.seed) for trial in batch]
            path, images = record_trajectory(
                runs.context.pipeline, plain, steps=steps, guidance=guidance, tick=tick
            )
            made += [(t, runs.score(t, image)) for t, image in zip(batch, images, strict=True)]
            measured += list(zip(batch, measure(path, batch).tolist(), strict=True))
        runs.gather(made, trials)
        measure_of = dict(pair for share in team.gather(measured) for pair in share)
        return [measure_of[trial] for trial in trials]

    def find_best(self, shares: Sequence[float]) -> Estimate:
        """Return the best window, after as many runs as it takes to be sure of it."""
        self.measure_full_swap()
        is_auto = self.runs.settings.width == "auto"
        for width in self.widths:
            self.score_to(dict.fromkeys(fast.shortlist(shares, width, self.widths), 1))
            if not self.board.is_known:
                return self.board.best()
            if is_auto and self._is_enough_so_far():
                best = self._compare()
                if best.effect >= self.board.enough:
                    return best
        has_looked = self.board.best().effect < fast.PROMISING_SHARE * self.board.enough
        if has_looked:
            self._look_everywhere()
        best = self._compare()
        if best.effect < self.board.enough and not has_looked:
            self._look_everywhere()
            best = self._compare()
        return best

    def _is_enough_so_far(self) -> bool:
        """Whether a window is enough; one whose first run promises it is run on every prompt."""
        best = self.board.best()
        if best.effect >= fast.PROMISING_SHARE * self.board.enough:
            self.score_to({best.layers: len(self.runs.pairs)})
        return self.board.best().effect >= self.board.enough

    def measure_full_swap(self) -> None:
        """
        Run the full swap once per prompt, and on until it is clear that it does something.

        A single picture of it tells nothing of what seeds do: where there are more, two are made.
        """
        n, n_all = len(self.runs.pairs), len(self.order)
        self.score_to({self.everything: n})
        while self._is_unsure_of_scale() and self.board.is_new_to_scale(n):
            n = min(2 * n, n_all)
            self.score_to({self.everything: n})

    def _is_unsure_of_scale(self) -> bool:
        return self.board.n_pictures < 2 or not self.board.is_known

    def _look_everywhere(self) -> None:
        """Try windows that together hold every layer, and those around the best of all so far."""
        width = self.widths[-1]
        self._look_at(fast.cover(self.n_layers, width), width)
        found = sorted(self.board.estimates(), key=lambda e: -e.effect)[:N_RIVALS]
        near = [w for e in found for w in fast.around(e.layers, width, self.n_layers)]
        self._look_at(near, width)

    def _look_at(self, windows: Sequence[LayerSet], width: int) -> None:
        """
        Run windows once; on the next prompt or seed too where neither these nor the best do much.

        So are then all that are at least `width` wide, whose first run alone may have been lucky.
        """
        self.score_to(dict.fromkeys(windows, 1))
        board = self.board
        known = (board.best(), *map(board.estimate, windows))
        if max(estimate.effect for estimate in known) < fast.PROMISING_SHARE * board.enough:
            wide = [e.layers for e in board.estimates() if len(e.layers) >= width]
            self.score_to(dict.fromkeys(wide, N_FIRST_RUNS))

    def _compare(self) -> Estimate:
        while True:
            best = self.board.best()
            n_wanted = fast.windows_needing_runs(
                self.board,
                best,
                len(self.runs.pairs),
                len(self.order),
                may_compare=self._may_compare,
            )
            if not n_wanted:
                return best
            self.score_to(n_wanted)

    @property
    def _may_compare(self) -> bool:
        """Whether there is still something to spend on what the best is compared with."""
        n_windows = len(windows_of(self.runs.settings.width, self.n_layers))
        n_made = self.runs.evaluations / self.runs.evaluations_per_picture
        return n_made < fast.allowance(n_windows, len(self.order))

    def score_to(self, n_wanted: Mapping[LayerSet, int]) -> None:
        """Score windows on their first so many runs, and the original on as many."""
        most = max(n_wanted.values(), default=0)
        n_known = {layers: len(scores) for layers, scores in self.board.values.items()}
        trials = [
            trial
            for layers, n in {LayerSet(): most, **n_wanted}.items()
            for trial in self.runs.trials([layers], self.order[n_known.get(layers, 0) : n])
        ]
        if trials:
            self.runs.make(trials, self.stage, is_shared=True)

    def score(self, layers: LayerSet) -> WindowScore:
        """Return a window's score, its effect on its own runs as a share of the span."""
        values = self.board.values[layers]
        original = sum(self.board.values[LayerSet()][: len(values)]) / len(values)
        return WindowScore.of(layers, values, original=original, target=original - self.board.span)

    def result(
        self,
        chosen: LayerSet,
        ranking: Sequence[float],
        window: Literal["set"] | None = None,
        seconds_before: float = 0.0,
    ) -> LocalizationRun:
        """Return the chosen layers, with every window that was tried."""
        board = self.board
        scores = tuple(self.score(estimate.layers) for estimate in board.estimates())
        margin = None if window else board.margin(board.estimate(chosen))
        return self.runs.result(
            scores,
            self.score(chosen),
            (self._mean(LayerSet()), self._mean(board.everything)),
            seconds_before + time.monotonic() - self.started,
            ranking=tuple(round(share, 6) for share in ranking),
            margin=None if margin is None else round(min(margin, _MAX_MARGIN), 2),
            window=window,
        )

    def _mean(self, layers: LayerSet) -> float:
        """Return the mean score of all runs of these layers."""
        values = self.board.values[layers]
        return sum(values) / len(values)
