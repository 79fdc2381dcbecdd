"""
What a command reports while it runs: how far it is, layers that it found, an edit that it solved.

Rooms call the methods of an `Events`, which hands each report on to the listener of the command
line, if there is one. The object stands between the two so that no room calls upwards: `commands`
and what is below call `events`, `events` calls `cli`, and `cli` calls neither of its methods, since
a constructor is all that it needs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from loco_cli.localization import Localization
from loco_cli.manifest import Drift, EditRecord, Strength, TensorEdit

Tick = Callable[[int], None]  # takes how many pictures came one step further


@dataclass(frozen=True)
class Progress:
    """
    A stage and how much of it is done: `Progress("sampling", done=3, total=48)`.

    `unit` is what is counted, where the stage does not say it.
    """

    stage: str
    done: int
    total: int
    unit: str = ""


@dataclass(frozen=True)
class EditPreview:
    """
    A solved edit before anything of it is written.

    `worst_rounded` is the tensor of whose change rounding takes the largest share.
    """

    edits: tuple[EditRecord, ...]
    drift: Drift | None
    strength: Strength | None
    worst_rounded: TensorEdit


class Listener(Protocol):
    """The receiver of the reports of a command, such as a terminal."""

    def progress(self, progress: Progress) -> None:
        """Hear how far a stage is."""

    def localized(self, found: Localization) -> None:
        """Hear which layers were found, as soon as they are."""

    def previewed(self, preview: EditPreview) -> None:
        """Hear what is known of an edit before it is written."""

    def warned(self, sentence: str) -> None:
        """Hear a doubt about the result."""


@dataclass(frozen=True)
class Events:
    """The reports of one command: `Events(listener)`; without a listener they go nowhere."""

    listener: Listener | None = None

    def progress(self, stage: str, done: int, total: int, unit: str = "") -> None:
        """Report how far a stage is."""
        if self.listener:
            self.listener.progress(Progress(stage, done, total, unit))

    def localized(self, found: Localization) -> None:
        """Report the layers of a concept."""
        if self.listener:
            self.listener.localized(found)

    def previewed(self, preview: EditPreview) -> None:
        """Report a solved edit before it is written."""
        if self.listener:
            self.listener.previewed(preview)

    def warned(self, *sentences: str) -> None:
        """Report doubts about the result."""
        for sentence in sentences:
            if self.listener:
                self.listener.warned(sentence)

    def ticker(self, stage: str, total: int) -> Tick:
        """Return a counter of steps that reports their sum; the stage begins at once."""
        done = 0

        def tick(n_steps: int) -> None:
            nonlocal done
            done += n_steps
            self.progress(stage, done, total, "steps")

        self.progress(stage, 0, total, "steps")
        return tick


SILENT_EVENTS = Events()  # reports that go nowhere
