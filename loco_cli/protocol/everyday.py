"""
Everyday prompts, which are unrelated to the edited concepts.

The bank has 320 prompts: eighty things in four places, like the COCO captions in the papers. An
edit preserves some of them. Others measure its drift, and an evaluation generates yet others.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

_STRIDE = 7  # coprime to the number of things, so that each is used once before any repeats
# On 36 edits of `tiny`, the drift of 16 prompts differed by at most a sixth from that of 40. For
# SDXL with the paper's method, 16 prompts are a third of all prompts to encode, and 40 four fifths.
N_DRIFT_PROMPTS = 16
N_JUDGED_PROMPTS = 4  # everyday prompts that an evaluation generates
# Fourteen edits of three styles of `tiny`: the share of held-out wordings, and of neighbours, with
# values nearest to their intended prompt. 16 everyday prompts: 0.99 and 0.995; none: 0.95 and 0.98;
# 64: 0.96 and 1.00.
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
    The everyday prompts of one edit by use, without overlap.

    Attributes:
        preserved: The prompts that the edit preserves.
        drift: The prompts that measure the drift of the edit before it is written.
        judged: The prompts that an evaluation generates. They have no object in common with
            `preserved`.
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

    Args:
        edited: The names of the edited concepts; no prompt contains one.
        near: The names of the edited concepts and their neighbours; no preserved or judged prompt
            contains one.
        tested: The names in the evaluation prompts; no preserved prompt contains one.
        listed: The prompts of the recipe itself, which are not used twice.
    """
    drift = drift_prompts(edited)
    judged = _unrelated_prompts(near, N_JUDGED_PROMPTS, but=(*listed, *drift))
    preserved = _unrelated_prompts(near, N_PRESERVED_PROMPTS, but=(*listed, *drift, *judged))
    preserved = _without_names(preserved, tested)
    return EverydayPrompts(preserved, drift, _without_things(judged, preserved))


def drift_prompts(edited: Collection[str], preserved: Collection[str] = ()) -> tuple[str, ...]:
    """Return the prompts that measure drift; they share no thing with `preserved`."""
    return _without_things(_unrelated_prompts(edited, N_DRIFT_PROMPTS), preserved)


@cache
def _bank() -> tuple[str, ...]:
    """Return all prompts: every thing in its first place, then in its next place, and so on."""
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
    Return `n` prompts of the bank that contain none of `names`, spread over its things.

    Prompts in `but` are excluded; other prompts about the same things are not.
    """
    left = [prompt for prompt in _without_names(_bank(), names) if prompt not in but]
    return tuple(dict.fromkeys(left[i * _STRIDE % len(left)] for i in range(min(n, len(left)))))


def _without_names(prompts: Collection[str], names: Collection[str]) -> tuple[str, ...]:
    """Return the prompts that contain none of `names`."""
    words = "|".join(re.escape(name) for name in names if name)
    about = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE) if words else None
    return tuple(prompt for prompt in prompts if not (about and about.search(prompt)))


def _without_things(prompts: Collection[str], things: Collection[str]) -> tuple[str, ...]:
    """
    Return the prompts of the bank that share no thing with the prompts in `things`.

    Two prompts about a train begin with "a photo of a train", and a causal encoder computes the
    same states for a common beginning.
    """
    thing_of = {prompt: i % len(_things()) for i, prompt in enumerate(_bank())}
    taken = {thing_of[one] for one in things if one in thing_of}
    return tuple(one for one in prompts if thing_of[one] not in taken)


@cache
def _things() -> tuple[str, ...]:
    return tuple(thing.strip() for thing in _THINGS.replace("\n", " ").split(","))
