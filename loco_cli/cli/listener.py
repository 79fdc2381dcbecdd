"""The reports of a command on stderr: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from loco_cli.cli.console import Terminal, plain, safe
from loco_cli.cli.results import heading, scores_table
from loco_cli.events import EditPreview, Events, Progress
from loco_cli.localization import Localization
from loco_cli.plan import Plan
from loco_cli.report.sentences import plan_lines, preview_sentences, preview_warnings

SECONDS_BETWEEN_LINES = 3.0  # of one stage, at least
N_RANGES = 5  # of those that were tried, as many as are worth showing before an edit


class TerminalListener:
    """The listener of a terminal; `show` draws how far a stage is."""

    def __init__(self, terminal: Terminal, show: Callable[[Progress], None]) -> None:
        self._terminal, self._show = terminal, show

    def progress(self, progress: Progress) -> None:
        """Show how far a stage is."""
        self._show(progress)

    def localized(self, found: Localization) -> None:
        """Show the best of the layers that were tried."""
        self._terminal.tell(heading(found), scores_table(found, N_RANGES))

    def previewed(self, preview: EditPreview) -> None:
        """Show what is known of an edit before it is written."""
        self._terminal.tell(*map(plain, preview_sentences(preview)))
        self._terminal.warn(*preview_warnings(preview))

    def warned(self, sentence: str) -> None:
        """Show a warning."""
        self._terminal.warn(sentence)


def show_plan(terminal: Terminal, plan: Plan) -> None:
    """Show what a command would do."""
    terminal.show(plan.to_json(), *map(plain, plan_lines(plan)))


@contextmanager
def reporting(terminal: Terminal) -> Iterator[Events]:
    """Give the events of a command, shown on a terminal; its bars go when the command ends."""
    if terminal.is_quiet:
        yield Events(TerminalListener(terminal, lambda progress: None))
    elif not terminal.err.is_interactive or terminal.err.is_dumb_terminal:
        yield Events(TerminalListener(terminal, Lines(terminal.say)))
    else:
        with _bars(terminal.err) as draw:
            yield Events(TerminalListener(terminal, draw))


class Lines:
    """
    A callback that says when a stage begins and ends, and on its way what time is left.

    In between there is a line for a tenth of it, every few seconds at most. A stage that begins
    anew is said again where that is not at once.
    """

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._clock = say, clock
        self._rounds: dict[str, _Round] = {}

    def __call__(self, progress: Progress) -> None:
        """Say how far a stage is, if it is time to."""
        now, before = self._clock(), self._rounds.get(progress.stage)
        if before is None or progress.done < before.done or progress.total != before.total:
            is_told = before is None or now - before.said_at >= SECONDS_BETWEEN_LINES
            said_at = now if is_told or before is None else before.said_at
            self._rounds[progress.stage] = _Round(progress, now, said_at, is_told)
            if is_told:
                self._say(_words(progress))
            return
        is_last = before.done < progress.done == progress.total
        is_due = (
            now - before.said_at >= SECONDS_BETWEEN_LINES
            and before.tenth_of(progress) > before.tenth
        )
        before.done = progress.done
        if is_due or (is_last and before.is_told):
            before.said_at, before.tenth = now, before.tenth_of(progress)
            left = "" if is_last else f", about {_time_words(before.left(now))} left"
            self._say(f"{_words(progress)}{left}")


class _Round:
    """How far a stage was, when it began, and when that was last said."""

    def __init__(self, first: Progress, now: float, said_at: float, is_told: bool) -> None:
        self.begun_at, self.said_at, self.is_told = now, said_at, is_told
        self.n_before, self.done, self.total = first.done, first.done, first.total
        self.tenth = self.tenth_of(first)

    def tenth_of(self, progress: Progress) -> int:
        return 10 * progress.done // progress.total if progress.total > 0 else 10

    def left(self, now: float) -> float:
        """Return the seconds that are left at the pace so far."""
        each = (now - self.begun_at) / (self.done - self.n_before)
        return each * (self.total - self.done)


def _time_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def _bars(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Yield a callback that draws one bar per stage, with the time that is left."""
    from rich import progress as rich_progress

    columns = (
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TextColumn("{task.fields[unit]}", markup=False),
        rich_progress.TimeRemainingColumn(),
    )
    tasks: dict[str, rich_progress.TaskID] = {}
    with rich_progress.Progress(*columns, console=console, transient=True) as bars:

        def draw(progress: Progress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bars.add_task(
                    safe(progress.stage), total=progress.total, unit=progress.unit
                )
            bars.update(tasks[progress.stage], completed=progress.done, total=progress.total)

        yield draw


def _words(progress: Progress) -> str:
    """Return how far a stage is: `sampling 3/48 steps`."""
    return f"{progress.stage} {progress.done}/{progress.total} {progress.unit}".rstrip()
