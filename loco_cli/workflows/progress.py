"""How far a workflow is, told to whoever asked: a record and a callback, silent by default."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """
    A stage and how much of it is done: `Progress("sampling", done=3, total=48)`.
    """

    stage: str
    done: int
    total: int


Notify = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Tell nobody."""
