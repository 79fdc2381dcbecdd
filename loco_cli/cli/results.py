"""Tables of localizations and traces, with a bar for each effect."""

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from loco_cli.cli.console import plain, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from loco_cli.commands.localize import LocalizeResult
    from loco_cli.localization import Localization, Neuron, Neurons
    from loco_cli.trace import Trace

_BAR_COLUMNS = 24
_TRACE_BAR_COLUMNS = 14  # the table of states has more columns
_N_BEST_STATES = 12  # states shown of a trace


def localize_parts(found: "LocalizeResult", wanted: float | None) -> "Iterator[Text | Table]":
    """Yield the tables and sentences of a result, given the `wanted` effect of its layers."""
    from loco_cli.report.localization import localization_sentences
    from loco_cli.report.trace import trace_sentences

    for one in found.localizations:
        yield from (heading(one), scores_table(one))
        if one.neurons:
            yield _neurons_table(one.neurons)
        yield from map(plain, localization_sentences(one, wanted))
    for trace in found.traces:
        yield from (_trace_heading(trace), _states_table(trace))
        yield from map(plain, trace_sentences(trace))


def heading(found: "Localization") -> Text:
    """Return a line with concept, model, and the numbers of prompts, seeds and steps."""
    concept = found.concept
    return plain(
        f"{concept.kind} `{concept.subject}` in {found.model.name}: {_size_words(found)}",
        "bold",
    )


def _size_words(found: "Localization | Trace") -> str:
    """Return the numbers of prompts, seeds and steps as words: `4 prompts, 1 seed, 20 steps`."""
    from loco_cli.report.sentences import count_words

    sizes = ((len(found.prompts), "prompt"), (len(found.seeds), "seed"), (found.steps, "step"))
    return ", ".join(count_words(n, noun) for n, noun in sizes)


def scores_table(found: "Localization", n_best: int | None = None) -> Table:
    """Return a table of all layer ranges in layer order, or of the `n_best` by rank."""
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


def _neurons_table(found: "Neurons", n_best: int = 8) -> Table:
    """Return a table of the strongest channels of each projection."""
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


def _trace_heading(found: "Trace") -> Text:
    """Return a line with concept, model, the size of the trace, and its reference scores."""
    concept = found.concept
    return plain(
        f"{concept.kind} `{concept.subject}` in {found.model.name}, {found.component}: "
        f"{_size_words(found)}, "
        f"clean {found.clean_score:.3f}, corrupted {found.corrupted_score:.3f}",
        "bold",
    )


def _states_table(found: "Trace") -> Table:
    """Return a table of the best states, with the restored share as a bar."""
    shown = table("state", "token", "score", "± stderr", "effect", "± stderr", "")
    has_several = len({one.component for one in found.scores}) > 1
    for rank, one in enumerate(found.ranked()[:_N_BEST_STATES]):
        share = min(max(found.share(one) or 0.0, 0.0), 1.0)
        component = f"{one.component} " if has_several else ""
        color = "bright_black" if rank else "dark_orange"
        shown.add_row(
            plain(f"{component}{one.kind} {one.index}"),
            plain(one.token or ""),
            f"{one.score:.3f}",
            f"{one.stderr:.3f}",
            f"{one.indirect_effect:+.3f}",
            f"{one.indirect_effect_stderr:.3f}",
            Text("█" * round(share * _TRACE_BAR_COLUMNS), color),
            style="" if rank else "bold",
        )
    return shown


def _as_option(layers: "Sequence[int]") -> str:
    """Return a set of layers in the form that `--layers` accepts."""
    from loco_cli.report.sentences import layer_span  # would slow `--help` down by 0.1 s

    return layer_span(layers).replace("–", "-").replace(" ", "")


def _bar(effect: float, is_chosen: bool) -> Text:
    filled = round(min(max(effect, 0.0), 1.0) * _BAR_COLUMNS)
    bar = Text("█" * filled, "dark_orange" if is_chosen else "bright_black")
    return bar.append(" ◀ chosen" if is_chosen else "", "bold")
