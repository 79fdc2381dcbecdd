"""What causal tracing found, as a table of the states that restore most."""

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from loco_cli.cli.console import plain, table

if TYPE_CHECKING:
    from loco_cli.trace import Trace

BAR_WIDTH = 14
N_BEST = 12


def heading(found: "Trace") -> Text:
    """Return a line that says what was traced, and with how much."""
    concept = found.concept
    return plain(
        f"{concept.kind} `{concept.subject}` in {found.model.name}, {found.component}: "
        f"{len(found.prompts)} prompts, {len(found.seeds)} seeds, {found.steps} steps, "
        f"clean {found.clean_score:.3f}, corrupted {found.corrupted_score:.3f}",
        "bold",
    )


def states_table(found: "Trace", n_best: int = N_BEST) -> Table:
    """Return the states that restore most, with the share of what the noise takes as a bar."""
    shown = table("state", "token", "score", "± stderr", "effect", "± stderr", "")
    has_several = len({one.component for one in found.scores}) > 1
    for rank, one in enumerate(found.ranked()[:n_best]):
        share = min(max(found.share(one) or 0.0, 0.0), 1.0)
        where = f"{one.component} " if has_several else ""
        shown.add_row(
            plain(f"{where}{one.kind} {one.index}"),
            plain(one.token or ""),
            f"{one.score:.3f}",
            f"{one.stderr:.3f}",
            f"{one.indirect_effect:+.3f}",
            f"{one.indirect_effect_stderr:.3f}",
            Text("█" * round(share * BAR_WIDTH), "bright_black" if rank else "dark_orange"),
            style="" if rank else "bold",
        )
    return shown
