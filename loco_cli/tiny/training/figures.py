"""How good the shipped models are: how many pictures, drawn and generated, are recognised."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import Tensor

from loco_cli.families import registry
from loco_cli.sampling.clip_score import ClipScorer
from loco_cli.tiny.world.captions import (
    PERSON_UNSEEN,
    PLAIN_UNSEEN,
    STYLED_UNSEEN,
    all_scenes,
    is_person,
    with_article,
)
from loco_cli.tiny.world.objects import OBJECTS
from loco_cli.tiny.world.people import OFFICES, PEOPLE
from loco_cli.tiny.world.picture import Scene
from loco_cli.tiny.world.styles import STYLES

FIRST_SEED = 5000  # none that localizes, evaluates or is tested with
ENOUGH = 0.95  # concepts recognised less often are named


@dataclass(frozen=True)
class _Verdict:
    """
    Whether a picture of a scene was recognised: `_Verdict(Scene("cat", "monet"), True, False)`.

    A person has no style.
    """

    scene: Scene
    subject: bool
    style: bool | None


def _recognise(scorer: ClipScorer, images: Tensor, scenes: Sequence[Scene]) -> list[_Verdict]:
    """
    Return a verdict for each picture [n, 3, 64, 64], 0 to 1.

    Styles are told apart with the subject given (no style is a label too), subjects with the style
    given; a person is told from other people, an office counts as the person who holds it.
    """
    verdicts = []
    for vector, scene in zip(scorer.embed_images(images), scenes, strict=True):

        def best(labels: list[str], vector: Tensor = vector) -> int:
            return int((scorer.embed_captions(labels) @ vector).argmax())

        if is_person(scene.subject):
            people = list(PEOPLE)
            found = people[best([f"a photo of {person}" for person in people])]
            holder = OFFICES.get(scene.subject, scene.subject)
            verdicts.append(_Verdict(scene, found == holder, None))
            continue
        looks, things = (None, *STYLES), list(OBJECTS)
        look = looks[best([_caption(with_article(scene.subject), look) for look in looks])]
        thing = things[best([_caption(with_article(thing), scene.style) for thing in things])]
        verdicts.append(_Verdict(scene, thing == scene.subject, look == scene.style))
    return verdicts


def _caption(name: str, style: str | None) -> str:
    """Return a plain label: the thing, in a style if there is one."""
    painting = f"a painting of {name}"
    return painting if style is None else f"{painting} in the style of {style}"


def _shares(verdicts: Sequence[_Verdict]) -> dict[str, Any]:
    """
    Return the shares of pictures that were recognised.

    `subjects` are objects and facts together, `styles` the pictures in a style, `plain` those in
    none. `weak` names the concepts of which fewer than 95 % are recognised.
    """
    told: dict[str, list[bool]] = defaultdict(list)
    by_concept: dict[str, list[bool]] = defaultdict(list)
    for one in verdicts:
        kind = "facts" if is_person(one.scene.subject) else "objects"
        for name in (kind, "subjects"):
            told[name].append(one.subject)
        by_concept[one.scene.subject].append(one.subject)
        if one.style is not None:
            told["plain" if one.scene.style is None else "styles"].append(one.style)
            by_concept[one.scene.style or "no style"].append(one.style)
    weak = {name: round(fmean(flags), 3) for name, flags in by_concept.items()}
    return {
        **{kind: round(fmean(flags), 4) for kind, flags in sorted(told.items())},
        "n_pictures": len(verdicts),
        "weak": {name: share for name, share in weak.items() if share < ENOUGH},
    }


def recognition(scorer: ClipScorer, images: Tensor, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Return the shares of pictures [n, 3, 64, 64] of scenes that a model recognises."""
    verdicts: list[_Verdict] = []
    for start in range(0, len(images), 250):
        verdicts += _recognise(scorer, images[start : start + 250], scenes[start : start + 250])
    return _shares(verdicts)


def _unseen_prompts(n_rounds: int) -> Iterator[tuple[Scene, str]]:
    """
    Yield every scene of the world in wordings that no training used.

    In each round a plain thing, a person and an office are asked for in all of theirs, a thing in
    a style in one, such that every style and every thing meets them all.
    """
    wordings: tuple[str, ...]
    for number in range(n_rounds):
        for index, scene in enumerate(all_scenes()):
            if is_person(scene.subject):
                wordings = PERSON_UNSEEN
            elif scene.style is None:
                wordings = PLAIN_UNSEEN
            else:
                turn = sum(divmod(index, len(STYLES) + 1)) + 3 * number  # number of thing and look
                wordings = (STYLED_UNSEEN[turn % len(STYLED_UNSEEN)],)
            for wording in wordings:
                name = with_article(scene.subject)
                yield scene, wording.format(subject=name, style=scene.style)


def generate(
    folder: Path, n_rounds: int, steps: int | None = None, batch: int = 32
) -> tuple[Tensor, list[Scene]]:  # [n, 3, 64, 64], 0 to 1
    """Return pictures of every scene that a shipped model makes, each from a seed of its own."""
    n_steps, guidance = registry.get(folder.name).sampling(steps, None)
    pipe = StableDiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    asked = list(_unseen_prompts(n_rounds))
    parts = [
        pipe(
            [prompt for _, prompt in asked[start : start + batch]],
            generator=[
                torch.Generator().manual_seed(FIRST_SEED + index)
                for index in range(start, min(start + batch, len(asked)))
            ],
            num_inference_steps=n_steps,
            guidance_scale=guidance,
            output_type="pt",
        ).images
        for start in range(0, len(asked), batch)
    ]
    return torch.cat(parts), [scene for scene, _ in asked]


@torch.no_grad()
def autoencoder_error(folder: Path, images: Tensor) -> float:  # [n, 3, 64, 64], 0 to 1
    """Return the mean absolute error, on the scale 0 to 1, of pictures encoded and decoded."""
    vae = AutoencoderKL.from_pretrained(folder).float()
    errors = []
    for batch in images.split(100):
        back = vae.decode(vae.encode(batch * 2 - 1).latent_dist.mean).sample
        errors.append(((back.clamp(-1, 1) + 1) / 2 - batch).abs().mean(dim=(1, 2, 3)))
    return round(torch.cat(errors).mean().item(), 4)
