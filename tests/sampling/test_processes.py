"""The division of runs among processes."""

import pytest

from loco_cli.errors import MachineError, RequestError
from loco_cli.sampling.processes import Team


def shares(n_items, size, most):
    return [Team(rank, size).own_batches(range(n_items), most) for rank in range(size)]


@pytest.mark.parametrize("n_items", [0, 1, 3, 7, 16, 100])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("most", [1, 4, 64])
def test_every_run_is_somebodys_and_nobody_has_more_than_a_batch_more(n_items, size, most):
    """The shares together are the list, each run once, in batches of `most` at most."""
    found = shares(n_items, size, most)
    batches = [batch for mine in found for batch in mine]

    assert sorted(item for batch in batches for item in batch) == list(range(n_items))
    assert all(0 < len(batch) <= most for batch in batches)
    assert max(map(len, found)) - min(map(len, found)) <= 1


@pytest.mark.parametrize(("n_items", "size"), [(16, 2), (18, 2), (30, 4), (13, 3)])
def test_batches_are_those_of_one_process(n_items, size):
    """
    Where there is a batch for everybody they are cut as one process cuts them: the same shapes.
    """
    (alone,) = shares(n_items, 1, 4)
    together = [batch for mine in shares(n_items, size, 4) for batch in mine]

    assert sorted(together, key=min) == list(alone)


def test_alone_nothing_is_exchanged():
    """A single process exchanges nothing and never waits."""
    alone = Team()

    assert alone.gather(3) == [3]
    alone.report_error(MachineError("the disk is full"))
    alone.leave()
    alone.require_single_process("an edit")
    with pytest.raises(RequestError, match="an edit runs in one process, but 2 were launched"):
        Team(0, 2).require_single_process("an edit")
