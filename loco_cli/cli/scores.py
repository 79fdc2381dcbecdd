"""What a localization found, as a table with a bar for each effect."""

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from loco_cli.cli.console import plain, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loco_cli.localization import Localization, Neuron, Neurons

BAR_WIDTH = 24


def heading(found: "Localization") -> Text:
    """Return a line that says what was looked for, and with how much."""
    concept = found.concept
    return plain(
        f"{concept.kind} `{concept.subject}` in {found.model.name}: "
        f"{len(found.prompts)} prompts, {len(found.seeds)} seeds, {found.steps} steps",
        "bold",
    )


def scores_table(found: "Localization", n_best: int | None = None) -> Table:
    """Return every range in the order of its layers, or the `n_best` from the best on."""
    shown = table("layers", "score", "± stderr", "effect", "")
    chosen = found.layer_set
    for score in found.scores if n_best is None else found.ranked()[:n_best]:
        is_chosen = score.layer_set == chosen
        shown.add_row(
            str(list(score.layer_range)) if score.layer_range else _as_option(score.layer_set),
            f"{score.score:.3f}",
            f"{score.stderr:.3f}",
            "–" if score.effect is None else f"{score.effect:.2f}",
            _bar(score.effect or 0.0, is_chosen),
            style="bold" if is_chosen else "",
        )
    return shown


def found_parts(found: "Localization") -> list[Text | Table]:
    """Return all that a localization found: its heading, its scores, its neurons if it has some."""
    listed = [neurons_table(found.neurons)] if found.neurons else []
    return [heading(found), scores_table(found), *listed]


def neurons_table(found: "Neurons", n_best: int = 8) -> Table:
    """Return the strongest channels of each projection."""
    shown = table("neurons", "z", "channels of largest |z|")
    by_path: dict[str, list[Neuron]] = {}
    for one in found.channels:
        by_path.setdefault(one.module_path, []).append(one)
    for path, channels in by_path.items():
        best = channels[:n_best]
        rest = f", {len(channels) - n_best} more" if len(channels) > n_best else ""
        shown.add_row(
            f"{channels[0].layer} {path.rpartition('.')[2]}",
            f"{best[0].z:+.1f} to {best[-1].z:+.1f}",
            ", ".join(str(one.channel) for one in best) + rest,
        )
    return shown


def _as_option(layers: "Sequence[int]") -> str:
    """Return a set of layers as `--layers` takes it."""
    from loco_cli.report.sentences import layer_span  # records, a tenth of a second of `--help`

    return layer_span(layers).replace("–", "-").replace(" ", "")


def _bar(effect: float, is_chosen: bool) -> Text:
    filled = round(min(max(effect, 0.0), 1.0) * BAR_WIDTH)
    bar = Text("█" * filled, "dark_orange" if is_chosen else "bright_black")
    return bar.append(" ◀ chosen" if is_chosen else "", "bold")
