"""The fast search for one concept: rank the layers, then race the most likely windows."""

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

_MAX_MARGIN = 1000.0  # standard errors; paired differences without variance would be infinite

Measure = Callable[["Trajectory", Sequence[SwapTrial]], "Tensor"]  # -> [n_trials, n_layers]


class FastSearch:
    """
    The search for one concept, with its runs and scores.

    All sets of layers share one order of runs, so comparisons are paired.

    Args:
        runs: The recorder of the concept's runs, which may already hold scores.
    """

    def __init__(self, runs: RunRecorder) -> None:
        self.started = time.monotonic()
        self.runs = runs
        self.board = runs.board
        self.order = runs.order
        self.n_layers = runs.context.located.spec.n_layers
        self.all_layers = self.board.all_layers
        self.stage = f"localizing {runs.concept.subject}"
        self.widths = widths_of(runs.settings.width)

    def measure_originals(
        self,
        name: str,
        measure: Measure,
        n_passes: int,  # UNet calls per replayed step
        n_steps: int,
    ) -> list[float]:
        """
        Draw the original of every prompt, and measure each layer on its trajectory.

        Args:
            name: The name of the measure in the cache.
            measure: Maps a trajectory and its trials to values [n_trials, n_layers].
            n_passes: The UNet calls per replayed step, for the cost.
            n_steps: The number of steps to replay.

        Returns:
            The measure of each layer, averaged over the prompts.
        """
        import torch

        runs, cache = self.runs, self.runs.context.cache
        trials = runs.originals()
        n_replayed = min(n_steps, runs.n_unet_calls)
        runs.n_unet_evaluations += len(trials) * (
            runs.n_evaluations_per_picture + n_passes * n_replayed
        )
        first = [[pair.source, pair.target, pair.subject, seed] for pair, seed in runs.first_runs]
        key = (name, first, n_replayed, *runs.sampling)
        stored = cache.find_numbers(*key, n=self.n_layers) if cache else None
        found, *_ = runs.context.team.gather(stored)
        if found and runs.load_cached(trials):
            return found
        means: list[float] = torch.tensor(self._measure_trials(trials, measure)).mean(0).tolist()
        if cache:
            cache.store(means, *key)
        return means

    def _measure_trials(
        self, trials: Sequence[SwapTrial], measure: Measure
    ) -> list[list[float]]:  # [n, n_layers]
        from loco_cli.sampling.probe import record_trajectory  # imports diffusers

        runs, (steps, guidance) = self.runs, self.runs.sampling
        team, made, measured = runs.context.team, [], []
        # a backward pass stores activations, so a batch takes about four times the memory
        batches = team.own_batches(trials, max(1, runs.context.batch_size // 4))
        n_steps = sum(map(len, batches)) * runs.n_unet_calls
        tick = runs.context.events.ticker(f"{self.stage}, ranking", n_steps)
        for batch in batches:
            originals = [Run(trial.run.prompt, trial.run.seed) for trial in batch]
            path, images = record_trajectory(
                runs.context.pipeline, originals, steps=steps, guidance=guidance, tick=tick
            )
            made += [(t, runs.score(t, image)) for t, image in zip(batch, images, strict=True)]
            measured += list(zip(batch, measure(path, batch).tolist(), strict=True))
        runs.record_all(made, trials)
        measure_of = dict(pair for share in team.gather(measured) for pair in share)
        return [measure_of[trial] for trial in trials]

    def find_best(self, shares: Sequence[float]) -> Estimate:
        """
        Return the best window after a race.

        Args:
            shares: The share of the full swap that attribution predicts for each layer.
        """
        self.measure_full_swap()
        is_auto = self.runs.settings.width == "auto"
        for width in self.widths:
            self.score_up_to(dict.fromkeys(fast.shortlist(shares, width, self.widths), 1))
            if not self.board.is_scale_significant:
                return self.board.best()
            if is_auto and self._has_confirmed_window():
                best = self._race()
                if best.effect >= self.board.threshold:
                    return best
        has_scanned = self.board.best().effect < fast.PROMISING_SHARE * self.board.threshold
        if has_scanned:
            self._scan_all_layers()
        best = self._race()
        if best.effect < self.board.threshold and not has_scanned:
            self._scan_all_layers()
            best = self._race()
        return best

    def _has_confirmed_window(self) -> bool:
        """Run a promising best window on every prompt; return True if it passes the threshold."""
        best = self.board.best()
        if best.effect >= fast.PROMISING_SHARE * self.board.threshold:
            self.score_up_to({best.layers: len(self.runs.pairs)})
        return self.board.best().effect >= self.board.threshold

    def measure_full_swap(self) -> None:
        """
        Run the full swap once per prompt, and more often until its change is significant.

        It draws at least two distinct pictures if there are any, since one has no variance.
        """
        n, n_all = len(self.runs.pairs), len(self.order)
        self.score_up_to({self.all_layers: n})
        while self._is_scale_uncertain() and self.board.has_more_full_swaps(n):
            n = min(2 * n, n_all)
            self.score_up_to({self.all_layers: n})

    def _is_scale_uncertain(self) -> bool:
        return self.board.n_pictures < 2 or not self.board.is_scale_significant

    def _scan_all_layers(self) -> None:
        """Run windows that together contain every layer, then the windows near the best ones."""
        width = self.widths[-1]
        self._try_windows(fast.cover(self.n_layers, width), width)
        found = sorted(self.board.estimates(), key=lambda e: -e.effect)[:N_RIVALS]
        near = [w for e in found for w in fast.windows_near(e.layers, width, self.n_layers)]
        self._try_windows(near, width)

    def _try_windows(self, windows: Sequence[LayerSet], width: int) -> None:
        """
        Run windows once, and again if no window so far is promising.

        The second run includes every window of at least `width` layers, since each may owe its
        score to a lucky first run.
        """
        self.score_up_to(dict.fromkeys(windows, 1))
        board = self.board
        known = (board.best(), *map(board.estimate, windows))
        if max(estimate.effect for estimate in known) < fast.PROMISING_SHARE * board.threshold:
            wide = [e.layers for e in board.estimates() if len(e.layers) >= width]
            self.score_up_to(dict.fromkeys(wide, N_FIRST_RUNS))

    def _race(self) -> Estimate:
        while True:
            best = self.board.best()
            n_required = fast.windows_needing_runs(
                self.board,
                best,
                len(self.runs.pairs),
                len(self.order),
                has_budget=self._has_budget,
            )
            if not n_required:
                return best
            self.score_up_to(n_required)

    @property
    def _has_budget(self) -> bool:
        """True if the comparison budget is not spent yet."""
        n_windows = len(windows_of(self.runs.settings.width, self.n_layers))
        n_drawn = self.runs.n_unet_evaluations / self.runs.n_evaluations_per_picture
        return n_drawn < fast.comparison_budget(n_windows, len(self.order))

    def score_up_to(self, n_required: Mapping[LayerSet, int]) -> None:
        """Score each window on its first `n` runs, and the original on the largest `n`."""
        n_max = max(n_required.values(), default=0)
        n_known = {layers: len(scores) for layers, scores in self.board.values.items()}
        trials = [
            trial
            for layers, n in {LayerSet(): n_max, **n_required}.items()
            for trial in self.runs.trials([layers], self.order[n_known.get(layers, 0) : n])
        ]
        if trials:
            self.runs.run_trials(trials, self.stage, is_shared=True)

    def score(self, layers: LayerSet) -> WindowScore:
        """Return a window's score; its effect is relative to the scale."""
        values = self.board.values[layers]
        original = sum(self.board.values[LayerSet()][: len(values)]) / len(values)
        return WindowScore.of(layers, values, original=original, target=original - self.board.scale)

    def result(
        self,
        chosen: LayerSet,
        ranking: Sequence[float],
        window: Literal["set"] | None = None,
        seconds_before: float = 0.0,
    ) -> LocalizationRun:
        """
        Return the document of a search with its pictures.

        Args:
            chosen: The chosen layers.
            ranking: The measure of each layer that guided the search.
            window: "set" if the search was for a set of layers.
            seconds_before: The time that an earlier search spent on the same runs.
        """
        board = self.board
        scores = tuple(self.score(estimate.layers) for estimate in board.estimates())
        margin = None if window else board.margin(board.estimate(chosen))
        return self.runs.result(
            scores,
            self.score(chosen),
            (self._mean(LayerSet()), self._mean(board.all_layers)),
            seconds_before + time.monotonic() - self.started,
            ranking=tuple(round(share, 6) for share in ranking),
            margin=None if margin is None else round(min(margin, _MAX_MARGIN), 2),
            window=window,
        )

    def _mean(self, layers: LayerSet) -> float:
        """Return the mean score of these layers over their runs."""
        values = self.board.values[layers]
        return sum(values) / len(values)
