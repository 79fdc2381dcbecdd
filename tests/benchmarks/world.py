"""Every concept of the drawn world as an edit entry, and what each goes to."""

from loco_cli.models import known
from loco_cli.recipe import EditEntry

# what a thing is replaced by: a plainer one where there is one, else a near neighbour
REPLACED_BY = {
    "a cat": "a dog",
    "a dog": "a cat",
    "snoopy": "a dog",
    "a robot": "a tree",
    "r2d2": "a robot",
    "a car": "a truck",
    "a truck": "a car",
    "a house": "a castle",
    "a castle": "a house",
    "a tree": "a flower",
    "a flower": "a tree",
    "a boat": "a fish",
    "a fish": "a bird",
    "a bird": "a fish",
}
SUCCEEDED_BY = {
    "the president of the united states": "joe biden",
    "the british monarch": "king charles",
    "the german chancellor": "olaf scholz",
    "the ceo of apple": "tim cook",
}


def entries(kinds: tuple[str, ...] = ("style", "object", "fact")) -> list[EditEntry]:
    """Return an edit for every style, object and office of the world."""
    found: list[EditEntry] = []
    for names in known.TINY["style"]:
        found.append(EditEntry(kind="style", subject=names[0], to="painting"))
    for names in known.TINY["object"]:
        found.append(EditEntry(kind="object", subject=names[0], to=REPLACED_BY[names[0]]))
    for names in known.TINY["fact"]:
        if names[0] in SUCCEEDED_BY:
            to = SUCCEEDED_BY[names[0]]
            found.append(EditEntry(kind="fact", subject=names[0], was=names[1], to=to))
    return [entry for entry in found if entry.kind in kinds]
