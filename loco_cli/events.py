"""How far a workflow is, told to whoever asked: a record and a callback, silent by default."""

from collections.abc import Callable
from dataclasses import dataclass


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

    def in_words(self) -> str:
        """Return how far it is: `sampling 3/48 steps`."""
        return f"{self.stage} {self.done}/{self.total} {self.unit}".rstrip()


Notify = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Tell nobody."""
