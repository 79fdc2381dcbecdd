"""How good the shipped models are: how many drawn pictures scorer and judge recognise."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from loco_cli.metrics.clip_score import ClipScorer
from loco_cli.tiny.training.vae import to_tensor
from loco_cli.tiny.world.captions import is_person, with_article
from loco_cli.tiny.world.objects import OBJECTS
from loco_cli.tiny.world.people import OFFICES, PEOPLE
from loco_cli.tiny.world.picture import Scene
from loco_cli.tiny.world.styles import STYLES


def recognise(
    scorer: ClipScorer, images: torch.Tensor, scenes: Sequence[Scene]
) -> tuple[list[bool], list[bool]]:
    """
    Return for each picture [n, 3, 64, 64], 0 to 1, whether style and subject are recognised.

    Styles are told apart with the subject given (no style is a label too), subjects with the style
    given; a person is told from other people, an office counts as the person who holds it.
    """
    embedded = scorer.embed_images(images)  # [n, d]
    styles, subjects = [], []
    for vector, scene in zip(embedded, scenes, strict=True):
        name = with_article(scene.subject)
        if is_person(scene.subject):
            styles.append(True)
            people = list(PEOPLE)
            best = scorer.embed_captions([f"a photo of {p}" for p in people]) @ vector
            subjects.append(people[int(best.argmax())] == OFFICES.get(scene.subject, scene.subject))
            continue
        looks = [None, *STYLES]
        best = scorer.embed_captions([caption(name, look) for look in looks]) @ vector
        styles.append(looks[int(best.argmax())] == scene.style)
        things = list(OBJECTS)
        best = (
            scorer.embed_captions([caption(with_article(t), scene.style) for t in things]) @ vector
        )
        subjects.append(things[int(best.argmax())] == scene.subject)
    return styles, subjects


def caption(name: str, style: str | None) -> str:
    """Return a plain label: the thing, in a style if there is one."""
    return (
        f"a painting of {name}"
        if style is None
        else f"a painting of {name} in the style of {style}"
    )


def recognition_of_drawings(
    folder: Path, pictures: NDArray[np.uint8], scenes: Sequence[Scene]
) -> dict[str, float]:
    """Return the shares of held-out drawings whose style and subject a model recognises."""
    scorer = ClipScorer(folder)
    styles: list[bool] = []
    subjects: list[bool] = []
    for start in range(0, len(pictures), 250):
        batch = (to_tensor(pictures[start : start + 250]) + 1) / 2
        found = recognise(scorer, batch, scenes[start : start + 250])
        styles += found[0]
        subjects += found[1]
    with_style = [
        s for s, scene in zip(styles, scenes, strict=True) if not is_person(scene.subject)
    ]
    return {
        "styles": round(float(np.mean(with_style)), 4),
        "subjects": round(float(np.mean(subjects)), 4),
    }
