"""The processes of this run, for the command line, which knows no other room of processes."""

from collections.abc import Mapping

from loco_cli.sampling.processes import Team


def launched_team(variables: Mapping[str, str]) -> Team:
    """Return the processes that `accelerate launch` or `torchrun` describe in an environment."""
    rank, size = (variables.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    is_launched = rank.isdecimal() and size.isdecimal() and "MASTER_ADDR" in variables
    return Team(int(rank), int(size)) if is_launched else Team()
