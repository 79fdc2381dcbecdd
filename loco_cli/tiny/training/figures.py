"""The quality of the shipped models: shares of drawn and generated pictures recognised."""

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

FIRST_SEED = 5000  # localization, evaluation and tests use other seeds
MIN_RECOGNISED_SHARE = 0.95  # concepts below it are listed as weak


@dataclass(frozen=True)
class _Verdict:
    """
    The recognition of one picture: `_Verdict(Scene("cat", "monet"), True, False)`.

    `style` is None for a person.
    """

    scene: Scene
    subject: bool
    style: bool | None


def _recognise(scorer: ClipScorer, images: Tensor, scenes: Sequence[Scene]) -> list[_Verdict]:
    """
    Return a verdict for each picture [n, 3, 64, 64] with values from 0 to 1.

    The labels of a style differ in the style alone and include "no style"; those of an object
    differ in the object alone. The labels of a person are all people; an office counts as its
    holder.
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
    """Return the label of a subject, with its style if it has one."""
    painting = f"a painting of {name}"
    return painting if style is None else f"{painting} in the style of {style}"


def _shares(verdicts: Sequence[_Verdict]) -> dict[str, Any]:
    """
    Return the shares of pictures recognised.

    `subjects` counts objects and facts together, `styles` the pictures in a style, and `plain`
    those without one. `weak` lists the concepts recognised in fewer than 95 % of their pictures.
    """
    by_kind: dict[str, list[bool]] = defaultdict(list)
    by_concept: dict[str, list[bool]] = defaultdict(list)
    for verdict in verdicts:
        kind = "facts" if is_person(verdict.scene.subject) else "objects"
        for name in (kind, "subjects"):
            by_kind[name].append(verdict.subject)
        by_concept[verdict.scene.subject].append(verdict.subject)
        if verdict.style is not None:
            by_kind["plain" if verdict.scene.style is None else "styles"].append(verdict.style)
            by_concept[verdict.scene.style or "no style"].append(verdict.style)
    weak = {name: round(fmean(flags), 3) for name, flags in by_concept.items()}
    return {
        **{kind: round(fmean(flags), 4) for kind, flags in sorted(by_kind.items())},
        "n_pictures": len(verdicts),
        "weak": {name: share for name, share in weak.items() if share < MIN_RECOGNISED_SHARE},
    }


def recognition(scorer: ClipScorer, images: Tensor, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Return the shares of pictures [n, 3, 64, 64] that a CLIP model recognises."""
    verdicts: list[_Verdict] = []
    for start in range(0, len(images), 250):
        verdicts += _recognise(scorer, images[start : start + 250], scenes[start : start + 250])
    return _shares(verdicts)


def _unseen_prompts(n_rounds: int) -> Iterator[tuple[Scene, str]]:
    """
    Yield every scene of the world with a prompt in a wording that training never used.

    In each round, plain objects, people and offices appear in all their wordings. An object in a
    style appears in one; over the rounds, every style and every object meet all wordings.
    """
    wordings: tuple[str, ...]
    for number in range(n_rounds):
        for index, scene in enumerate(all_scenes()):
            if is_person(scene.subject):
                wordings = PERSON_UNSEEN
            elif scene.style is None:
                wordings = PLAIN_UNSEEN
            else:
                object_index, style_index = divmod(index, len(STYLES) + 1)
                turn = object_index + style_index + 3 * number
                wordings = (STYLED_UNSEEN[turn % len(STYLED_UNSEEN)],)
            for wording in wordings:
                name = with_article(scene.subject)
                yield scene, wording.format(subject=name, style=scene.style)


def generate(
    folder: Path, n_rounds: int, steps: int | None = None, batch: int = 32
) -> tuple[Tensor, list[Scene]]:  # [n, 3, 64, 64], 0 to 1
    """Return the pictures of every scene that a shipped model generates, each with its own seed."""
    n_steps, guidance = registry.get(folder.name).sampling(steps, None)
    pipe = StableDiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    prompts = list(_unseen_prompts(n_rounds))
    parts = [
        pipe(
            [prompt for _, prompt in prompts[start : start + batch]],
            generator=[
                torch.Generator().manual_seed(FIRST_SEED + index)
                for index in range(start, min(start + batch, len(prompts)))
            ],
            num_inference_steps=n_steps,
            guidance_scale=guidance,
            output_type="pt",
        ).images
        for start in range(0, len(prompts), batch)
    ]
    return torch.cat(parts), [scene for scene, _ in prompts]


@torch.no_grad()
def autoencoder_error(folder: Path, images: Tensor) -> float:  # [n, 3, 64, 64], 0 to 1
    """Return the mean absolute error, from 0 to 1, of encoding and decoding pictures."""
    vae = AutoencoderKL.from_pretrained(folder).float()
    errors = []
    for batch in images.split(100):
        back = vae.decode(vae.encode(batch * 2 - 1).latent_dist.mean).sample
        errors.append(((back.clamp(-1, 1) + 1) / 2 - batch).abs().mean(dim=(1, 2, 3)))
    return round(torch.cat(errors).mean().item(), 4)
