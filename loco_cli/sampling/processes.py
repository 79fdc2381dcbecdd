"""
The processes that share a localization: `accelerate launch -m loco_cli localize ...`.

Each process generates its share of the pictures in whole batches. All processes then gather the
results, so that they make the same decisions. Only the first process prints and writes. On every
kind of device, gloo transfers the results: scores and small pictures.

A process that fails sends its error at the next gathering, and all processes end with that error.
A process that has died causes a connection error at the next gathering.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from loco_cli.errors import LocoError, MachineError, RequestError

T = TypeVar("T")

_PEER_TIMEOUT = timedelta(days=30)  # one process may work for weeks while the others wait


@dataclass
class Team:
    """The rank of this process and the number of processes: `Team(rank=1, size=2)`."""

    rank: int = 0
    size: int = 1
    is_connected: bool = True

    @property
    def is_first(self) -> bool:
        """True in the process that prints and writes."""
        return self.rank == 0

    def own_batches(self, items: Sequence[T], batch_size: int) -> list[Sequence[T]]:
        """
        Return the batches of `items` that this process handles.

        Batches shrink if that gives every process work. If there is a full batch for every process,
        the batches are the same as for a single process.

        Args:
            items: The work of all processes, equal in each of them.
            batch_size: The largest number of items in a batch.
        """
        n_each = max(1, min(batch_size, -(-len(items) // self.size)))
        batches = [items[i : i + n_each] for i in range(0, len(items), n_each)]
        return batches[self.rank :: self.size]

    def gather(self, value: T) -> list[T]:
        """
        Return the values of all processes, in order of rank.

        Raises:
            LocoError: Another process failed, and this is its error.
            MachineError: Another process has died.
        """
        if self.size == 1:
            return [value]
        found = self._exchange(value)
        for one in found:
            if isinstance(one, LocoError):
                self.is_connected = False
                raise one
        return [one for one in found if not isinstance(one, LocoError)]

    def report_error(self, error: LocoError) -> None:
        """Send the error of this process to the others, unless they already left or failed."""
        if self.size > 1 and self.is_connected:
            self.is_connected = False
            with suppress(MachineError):
                self._exchange(error)

    def leave(self) -> None:
        """Wait for all processes, then continue without them."""
        self.gather(None)
        self.is_connected = False

    def require_single_process(self, task: str) -> None:
        """Raise RequestError for a task that several processes would repeat."""
        if self.size > 1:
            self.is_connected = False  # every process raises the same error
            raise RequestError(
                f"{task} runs in one process, but {self.size} were launched",
                "run it without `accelerate launch`",
            )

    def join(self) -> None:
        """Connect to the other processes, and select a GPU of this machine."""
        if self.size == 1:
            return
        import torch
        from accelerate import PartialState

        state = PartialState(cpu=True, timeout=_PEER_TIMEOUT)
        if torch.cuda.is_available():
            torch.cuda.set_device(state.local_process_index % torch.cuda.device_count())

    def _exchange(self, value: T | LocoError) -> list[T | LocoError]:
        self.join()
        from accelerate.utils import gather_object

        try:
            found: list[T | LocoError] = gather_object([value])
        except RuntimeError as error:  # gloo raises it if the connection is closed
            self.is_connected = False
            raise MachineError(
                "another process of this run ended before finishing its work",
                "the finished work is cached: run the same command again to continue",
            ) from error
        return found
