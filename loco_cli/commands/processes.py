"""The team of processes that a launcher started."""

from collections.abc import Mapping

from loco_cli.sampling.processes import Team


def launched_team(variables: Mapping[str, str]) -> Team:
    """Return the team that `accelerate launch` or `torchrun` describes in the environment."""
    rank, size = (variables.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    is_launched = rank.isdecimal() and size.isdecimal() and "MASTER_ADDR" in variables
    return Team(int(rank), int(size)) if is_launched else Team()
