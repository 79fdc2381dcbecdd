"""
The processes that share a localization: `accelerate launch -m loco_cli localize ...`.

Each makes its share of the pictures, in whole batches. What comes of them is gathered by all, so
that all go on with the same numbers and decide the same; one of them speaks and writes. Scores and
small pictures are all that travels, over gloo, whatever the pictures are made on.

A process that fails says so in the place of what it would have gathered next: all end with its
error. One that is gone is missed at the next gathering.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from loco_cli.errors import LocoError, MachineError, RequestError

T = TypeVar("T")

_LONGEST = timedelta(days=30)  # that one process waits for another


@dataclass
class Team:
    """This process, of how many: `Team(rank=1, size=2)`; without a launcher it is alone."""

    rank: int = 0
    size: int = 1
    is_connected: bool = True

    @property
    def is_first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def own_batches(self, items: Sequence[T], most: int) -> list[Sequence[T]]:
        """
        Return this process's batches of `items`: of `most` each, smaller ones where all have work.

        Where there is a whole batch for every process they are those that one process would make.
        """
        n_each = max(1, min(most, -(-len(items) // self.size)))
        batches = [items[i : i + n_each] for i in range(0, len(items), n_each)]
        return batches[self.rank :: self.size]

    def gather(self, value: T) -> list[T]:
        """Return what every process brings; raises the error of one that failed instead."""
        if self.size == 1:
            return [value]
        found = self._exchange(value)
        for one in found:
            if isinstance(one, LocoError):
                self.is_connected = False
                raise one
        return [one for one in found if not isinstance(one, LocoError)]

    def report_error(self, error: LocoError) -> None:
        """Tell the others that this process failed, unless they are gone or know."""
        if self.size > 1 and self.is_connected:
            self.is_connected = False
            with suppress(MachineError):
                self._exchange(error)

    def leave(self) -> None:
        """Let the others go: nothing is shared from here on."""
        self.gather(None)
        self.is_connected = False

    def require_single_process(self, what: str) -> None:
        """Raise RequestError for work that several processes would do twice."""
        if self.size > 1:
            self.is_connected = False  # all are refused alike
            raise RequestError(
                f"{what} is done by one process, and {self.size} were launched",
                "run it without `accelerate launch`",
            )

    def join(self) -> None:
        """Meet the others, and take a device of this machine's for oneself."""
        if self.size == 1:
            return
        import torch
        from accelerate import PartialState

        state = PartialState(cpu=True, timeout=_LONGEST)
        if torch.cuda.is_available():
            torch.cuda.set_device(state.local_process_index % torch.cuda.device_count())

    def _exchange(self, value: T | LocoError) -> list[T | LocoError]:
        self.join()
        from accelerate.utils import gather_object

        try:
            found: list[T | LocoError] = gather_object([value])
        except RuntimeError as error:  # gloo's: the connection is closed
            self.is_connected = False
            raise MachineError(
                "another process of this run ended before its work was done",
                "what was finished is kept: the same command goes on with it",
            ) from error
        return found
