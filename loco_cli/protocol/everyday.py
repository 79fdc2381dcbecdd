"""
Everyday prompts that no edit is about: some are preserved, some measure drift, some judge.

Eighty things in four places, as the papers asked of COCO's, are 320 prompts. An edit preserves a
few of them, its drift is measured on others, and an evaluation draws others still. None of them
names what the edit is about.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

_STRIDE = 7  # prime to the number of things, so that none comes twice before all have come
# on 36 edits of `tiny` the drift of 16 prompts was within a sixth of that of 40, and to encode 16
# is a third of what an edit of SDXL in the paper's form encodes, where 40 were four fifths
N_DRIFT_PROMPTS = 16
N_JUDGED_PROMPTS = 4  # prompts of which an evaluation makes pictures
# after fourteen edits of three styles of `tiny` that preserved 16 everyday prompts, the values of
# 0.99 of the prompts in other words were nearest to those of what they should be, and of 0.995 of
# those of neighbours: without such prompts 0.95 and 0.98, with 64 of them 0.96 and 1.00
N_PRESERVED_PROMPTS = 16

_PLACES = ("on a beach", "in a city street", "in the snow", "on a wooden table")
_THINGS = """
    person, child, woman in a red dress, man with a hat, football player, farmer, doctor, dancer,
    bicycle, car, motorcycle, train, bus, truck, boat, tractor,
    traffic light, bench, lamp, bridge, tent, mailbox, fence, fountain,
    bird, cat, dog, horse, sheep, cow, elephant, bear,
    zebra, giraffe, rabbit, fox, fish, turtle, butterfly, frog,
    backpack, umbrella, handbag, suitcase, kite, skateboard, surfboard, tennis racket,
    bottle, wine glass, cup, fork, knife, spoon, bowl, teapot,
    banana, apple, sandwich, orange, carrot, pizza, cake, bowl of soup,
    chair, sofa, potted plant, bed, mirror, laptop, keyboard, telephone,
    book, clock, vase, pair of scissors, teddy bear, candle, guitar, tree
"""


@dataclass(frozen=True)
class EverydayPrompts:
    """
    The everyday prompts of one edit by their use; no prompt has two uses.

    The edit keeps those in `preserved`. Those in `drift` tell before anything is written how far
    the edit moves what it is not about. An evaluation draws those in `judged`, of which none is
    about a thing that `preserved` is about.
    """

    preserved: tuple[str, ...]
    drift: tuple[str, ...]
    judged: tuple[str, ...]


def split_everyday(
    *,
    edited: Collection[str],
    near: Collection[str],
    tested: Collection[str],
    listed: tuple[str, ...],
) -> EverydayPrompts:
    """
    Return the everyday prompts of an edit.

    `edited` are the names that the edit is about and `near` also those of their neighbours, which
    no prompt holds that is preserved or judged. A preserved prompt holds none of the names `tested`
    either, which an evaluation asks after. `listed` are the prompts of the recipe itself, which
    have their use already.
    """
    drift = drift_prompts(edited)
    judged = _unrelated_prompts(near, N_JUDGED_PROMPTS, but=(*listed, *drift))
    preserved = _unrelated_prompts(near, N_PRESERVED_PROMPTS, but=(*listed, *drift, *judged))
    preserved = _naming_none(preserved, tested)
    return EverydayPrompts(preserved, drift, _about_others(judged, preserved))


def drift_prompts(edited: Collection[str], preserved: Collection[str] = ()) -> tuple[str, ...]:
    """Return the prompts on which an edit's drift is measured, about nothing that it preserves."""
    return _about_others(_unrelated_prompts(edited, N_DRIFT_PROMPTS), preserved)


@cache
def _bank() -> tuple[str, ...]:
    """Return all prompts: every thing in its first place, then every thing in its next."""
    return tuple(
        f"a photo of {'an' if thing[0] in 'aeiou' else 'a'} {thing} "
        f"{_PLACES[(turn + place) % len(_PLACES)]}"
        for place in range(len(_PLACES))
        for turn, thing in enumerate(_things())
    )


def _unrelated_prompts(
    names: Collection[str], n: int = N_DRIFT_PROMPTS, *, but: Collection[str] = ()
) -> tuple[str, ...]:
    """
    Return `n` prompts of the bank, of things far apart in it, none that holds one of these names.

    Prompts that are in `but` are left out; about the same thing in another place there may be some.
    """
    left = [prompt for prompt in _naming_none(_bank(), names) if prompt not in but]
    return tuple(dict.fromkeys(left[i * _STRIDE % len(left)] for i in range(min(n, len(left)))))


def _naming_none(prompts: Collection[str], names: Collection[str]) -> tuple[str, ...]:
    """Return the prompts that hold none of these names."""
    words = "|".join(re.escape(name) for name in names if name)
    about = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE) if words else None
    return tuple(prompt for prompt in prompts if not (about and about.search(prompt)))


def _about_others(prompts: Collection[str], things: Collection[str]) -> tuple[str, ...]:
    """
    Return the prompts of the bank that are about none of the things that others of it are about.

    A causal encoder reads what begins alike as the same: "a photo of a train" is in both.
    """
    thing_of = {prompt: i % len(_things()) for i, prompt in enumerate(_bank())}
    taken = {thing_of[one] for one in things if one in thing_of}
    return tuple(one for one in prompts if thing_of[one] not in taken)


@cache
def _things() -> tuple[str, ...]:
    return tuple(thing.strip() for thing in _THINGS.replace("\n", " ").split(","))
