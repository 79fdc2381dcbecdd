"""The division of runs among processes."""

from itertools import product

from loco_cli.errors import MachineError, RequestError
from loco_cli.sampling.processes import Team


def batches_by_rank(n_items, size, batch_size):
    return [Team(rank, size).own_batches(range(n_items), batch_size) for rank in range(size)]


def test_batches_partition_the_runs():
    """Every run is in one batch, and no process has two batches more than another."""
    for n_items, size, batch_size in product([0, 1, 3, 7, 16, 100], [1, 2, 3, 5], [1, 4, 64]):
        by_rank = batches_by_rank(n_items, size, batch_size)
        batches = [batch for own in by_rank for batch in own]

        assert sorted(item for batch in batches for item in batch) == list(range(n_items))
        assert all(0 < len(batch) <= batch_size for batch in batches)
        assert max(map(len, by_rank)) - min(map(len, by_rank)) <= 1


def test_full_batches_do_not_depend_on_the_number_of_processes():
    """If every process has a full batch, the batches are those of a single process."""
    for n_items, size in [(16, 2), (18, 2), (30, 4), (13, 3)]:
        (alone,) = batches_by_rank(n_items, 1, 4)
        together = [batch for own in batches_by_rank(n_items, size, 4) for batch in own]

        assert sorted(together, key=min) == list(alone)


def test_alone_nothing_is_exchanged(golden):
    """A single process exchanges nothing and never waits."""
    alone = Team()

    assert alone.gather(3) == [3]
    alone.report_error(MachineError("the disk is full"))
    alone.leave()
    alone.require_single_process("an edit")
    with golden.raises(RequestError, "an edit"):
        Team(0, 2).require_single_process("an edit")
