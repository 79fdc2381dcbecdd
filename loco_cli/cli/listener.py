"""The reports of a command on stderr: progress bars on a terminal, plain lines elsewhere."""

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

MIN_SECONDS_BETWEEN_LINES = 3.0  # for two lines of one stage, to keep log files short
_N_BEST_RANGES = 5  # layer ranges shown before an edit; lower ranks rarely matter


class TerminalListener:
    """A listener that prints to a terminal; `show_progress` draws the progress of a stage."""

    def __init__(self, terminal: Terminal, show_progress: Callable[[Progress], None]) -> None:
        self._terminal, self._show_progress = terminal, show_progress

    def progress(self, progress: Progress) -> None:
        """Show the progress of a stage."""
        self._show_progress(progress)

    def localized(self, found: Localization) -> None:
        """Show the best layer ranges of a search."""
        self._terminal.note(heading(found), scores_table(found, _N_BEST_RANGES))

    def previewed(self, preview: EditPreview) -> None:
        """Show the figures and warnings of an edit before it is written."""
        self._terminal.note(*preview_sentences(preview))
        self._terminal.warn(*preview_warnings(preview))

    def warned(self, sentence: str) -> None:
        """Show a warning."""
        self._terminal.warn(sentence)


def show_plan(terminal: Terminal, plan: Plan) -> None:
    """Print the plan of a command to stdout."""
    terminal.show(plan.to_json(), *map(plain, plan_lines(plan)))


@contextmanager
def reporting(terminal: Terminal) -> Iterator[Events]:
    """
    Yield the events of a command, which are printed to a terminal as they arrive.

    Progress is drawn as bars if stderr is a terminal, and as `ProgressLines` otherwise. The bars
    disappear when the context closes. With `--quiet`, progress is discarded.

    Args:
        terminal: The terminal of the command.

    Example:
        with reporting(terminal) as events:
            result = command.run(plan, machine, events)
    """
    if terminal.is_quiet:
        yield Events(TerminalListener(terminal, lambda progress: None))
    elif not terminal.err.is_interactive or terminal.err.is_dumb_terminal:
        yield Events(TerminalListener(terminal, ProgressLines(terminal.note)))
    else:
        with _bars(terminal.err) as draw:
            yield Events(TerminalListener(terminal, draw))


class ProgressLines:
    """
    A progress callback that writes plain lines.

    Each stage gets a first and a last line. Between them it gets at most one line per tenth of its
    length, and at most one every `MIN_SECONDS_BETWEEN_LINES`, with the remaining time. A stage that
    restarts at once gets no new first line.

    Args:
        write: Receives each line.
        clock: Returns the time in seconds.
    """

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write, self._clock = write, clock
        self._stages: dict[str, _Stage] = {}

    def __call__(self, progress: Progress) -> None:
        """Write a line about a stage if one is due."""
        now, stage = self._clock(), self._stages.get(progress.stage)
        if stage is None or progress.done < stage.done or progress.total != stage.total:
            is_shown = stage is None or now - stage.last_line_at >= MIN_SECONDS_BETWEEN_LINES
            last_line_at = now if is_shown or stage is None else stage.last_line_at
            self._stages[progress.stage] = _Stage(progress, now, last_line_at, is_shown)
            if is_shown:
                self._write(_progress_text(progress))
            return
        is_last = stage.done < progress.done == progress.total
        is_due = (
            now - stage.last_line_at >= MIN_SECONDS_BETWEEN_LINES
            and stage.tenths_of(progress) > stage.tenths
        )
        stage.done = progress.done
        if is_due or (is_last and stage.is_shown):
            stage.last_line_at, stage.tenths = now, stage.tenths_of(progress)
            remaining = stage.remaining_seconds(now)
            left = "" if is_last else f", about {_duration_text(remaining)} left"
            self._write(f"{_progress_text(progress)}{left}")


class _Stage:
    """One pass through a stage: its progress, its start, and the time of its last line."""

    def __init__(
        self, first: Progress, started_at: float, last_line_at: float, is_shown: bool
    ) -> None:
        self.started_at, self.last_line_at, self.is_shown = started_at, last_line_at, is_shown
        self.n_done_at_start, self.done, self.total = first.done, first.done, first.total
        self.tenths = self.tenths_of(first)

    def tenths_of(self, progress: Progress) -> int:
        return 10 * progress.done // progress.total if progress.total > 0 else 10

    def remaining_seconds(self, now: float) -> float:
        """Return the remaining seconds at the average speed so far."""
        seconds_each = (now - self.started_at) / (self.done - self.n_done_at_start)
        return seconds_each * (self.total - self.done)


def _duration_text(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def _bars(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Yield a callback that draws one bar per stage, with the remaining time."""
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


def _progress_text(progress: Progress) -> str:
    """Return the progress of a stage as text: `sampling 3/48 steps`."""
    return f"{progress.stage} {progress.done}/{progress.total} {progress.unit}".rstrip()
