"""The smallest set of layers of one concept, for which no range of layers is enough."""

import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from loco_cli.localization import LocalizationRun
from loco_cli.localizing import sets
from loco_cli.localizing.race import Layers, Scoreboard
from loco_cli.localizing.runs import RunRecorder
from loco_cli.localizing.search import FastSearch


def smallest_set(
    runs: RunRecorder, ranking: Sequence[float] | None = None, spent: float = 0.0
) -> LocalizationRun:
    """
    Return the search of a set; what was scored already is not scored again.

    Without a `ranking` the layers are ranked first; `spent` are seconds that ranges have taken.
    """
    started = time.monotonic()
    hunt = FastSearch(runs)
    if ranking is None:
        is_by_size = runs.settings.method == "contribution"
        ranking = hunt.contributions() if is_by_size else hunt.rank()
    n_all = len(hunt.order)
    hunt.score_to({hunt.everything: n_all})
    chosen, race = hunt.everything, hunt.race
    if race.is_known:
        n_few = _enough_to_know(race, len(runs.pairs), n_all)
        chosen = sets.smallest(
            ranking,
            runs.settings.effect,
            screen=lambda some: effects(hunt, some, n_few),
            check=lambda some: effects(hunt, some, n_all),
        )
    return hunt.swept(chosen, ranking, spent + time.monotonic() - started, window="set")


def effects(hunt: FastSearch, some: Sequence[Layers], n: int) -> list[float]:
    """Return the effects of some sets on their first `n` runs, of which a full swap's is 1."""
    hunt.score_to(dict.fromkeys(some, n))
    values = hunt.race.values
    original, full = fmean(values[()][:n]), fmean(values[hunt.everything][:n])
    return [(original - fmean(values[layers][:n])) / (original - full) for layers in some]


def _enough_to_know(race: Scoreboard, n_prompts: int, n_all: int) -> int:
    """Return one run per prompt, or two where the full swap's change is not clear in one."""
    some = {layers: scores[:n_prompts] for layers, scores in race.values.items()}
    first = replace(race, values=some)
    is_clear = first.is_known and (first.n_pictures > 1 or race.n_pictures == 1)
    return min(n_prompts if is_clear else 2 * n_prompts, n_all)
