"""The processes of this run, for the command line, which knows no other room of processes."""

import os

from loco_cli.sampling.processes import Team


def launched_team() -> Team:
    """Return the processes that `accelerate launch` or `torchrun` started, as these report it."""
    rank, size = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    is_launched = rank.isdecimal() and size.isdecimal() and "MASTER_ADDR" in os.environ
    return Team(int(rank), int(size)) if is_launched else Team()
