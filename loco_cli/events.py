"""
Reports of a running command: progress, localized layers, solved edits and warnings.

A command and the packages below it call the methods of an `Events` object, which forwards each
report to its listener. The command line passes a listener that prints the reports. With this
indirection, no package imports `cli`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from loco_cli.localization import Localization
from loco_cli.manifest import Drift, EditRecord, Strength, TensorEdit

Tick = Callable[[int], None]  # takes the number of pictures that advanced by one step


@dataclass(frozen=True)
class Progress:
    """
    The progress of a stage: `Progress("sampling", done=3, total=48)`.

    `unit` names the counted items; it is empty if the name of the stage includes them.
    """

    stage: str
    done: int
    total: int
    unit: str = ""


@dataclass(frozen=True)
class EditPreview:
    """
    A solved edit before it is written.

    `worst_rounded` is the tensor with the largest rounding error relative to its change.
    """

    edits: tuple[EditRecord, ...]
    drift: Drift | None
    strength: Strength | None
    worst_rounded: TensorEdit


class Listener(Protocol):
    """The receiver of the reports of a command, such as a terminal."""

    def progress(self, progress: Progress) -> None:
        """Handle the progress of a stage."""

    def localized(self, found: Localization) -> None:
        """Handle a finished localization."""

    def previewed(self, preview: EditPreview) -> None:
        """Handle a solved edit before it is written."""

    def warned(self, sentence: str) -> None:
        """Handle a warning about the result."""


@dataclass(frozen=True)
class Events:
    """The reports of one command: `Events(listener)`. Without a listener they are dropped."""

    listener: Listener | None = None

    def progress(self, stage: str, done: int, total: int, unit: str = "") -> None:
        """Report the progress of a stage."""
        if self.listener:
            self.listener.progress(Progress(stage, done, total, unit))

    def localized(self, found: Localization) -> None:
        """Report a finished localization."""
        if self.listener:
            self.listener.localized(found)

    def previewed(self, preview: EditPreview) -> None:
        """Report a solved edit before it is written."""
        if self.listener:
            self.listener.previewed(preview)

    def warned(self, *sentences: str) -> None:
        """Report warnings about the result."""
        for sentence in sentences:
            if self.listener:
                self.listener.warned(sentence)

    def ticker(self, stage: str, total: int) -> Tick:
        """Report the start of a stage, and return a counter that reports the total of its steps."""
        done = 0

        def tick(n_steps: int) -> None:
            nonlocal done
            done += n_steps
            self.progress(stage, done, total, "steps")

        self.progress(stage, 0, total, "steps")
        return tick


SILENT_EVENTS = Events()  # default of functions that take events
