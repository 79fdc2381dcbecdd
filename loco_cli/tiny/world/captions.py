"""The wordings in which a picture can be told, those of training apart from those kept unseen."""

from dataclasses import dataclass, replace

import numpy as np

from loco_cli.tiny.world.objects import NAMED, OBJECTS
from loco_cli.tiny.world.people import OFFICES, PEOPLE
from loco_cli.tiny.world.picture import Scene
from loco_cli.tiny.world.styles import STYLES

STYLED = (
    "{subject} in the style of {style}",
    "a painting of {subject} in the style of {style}",
    "a picture of {subject} in the style of {style}",
    "an image of {subject} in the style of {style}",
    "a photo of {subject} in the style of {style}",
    "a beautiful painting of {subject} in the style of {style}",
    "a picture of {subject} by {style}",
    "a painting of {subject} by {style}",
    "a nice painting of {subject} by {style}",
    "{subject} by {style}",
    "{subject} painted by {style}",
    "{subject}, {style} style",
    "a painting of {subject}, {style} style",
    "a {style} painting of {subject}",
    "a drawing of {subject}, {style} style",
)
STYLED_UNSEEN = (
    "an image of {subject} by {style}",
    "a drawing of {subject} in the style of {style}",
    "a picture of {subject}, {style} style",
    "a nice picture of {subject} in the style of {style}",
    "a painting of {subject} painted by {style}",
    "a beautiful {style} painting of {subject}",
)
PLAIN = (
    "{subject}",
    "a painting of {subject}",
    "a picture of {subject}",
    "a photo of {subject}",
    "an image of {subject}",
    "a drawing of {subject}",
    "a nice photo of {subject}",
    "a beautiful picture of {subject}",
    "a small painting of {subject}",
)
PLAIN_UNSEEN = (
    "a nice picture of {subject}",
    "a beautiful photo of {subject}",
    "a small drawing of {subject}",
    "a beautiful painting of {subject}",
)
PERSON = (
    "{subject}",
    "a photo of {subject}",
    "a portrait of {subject}",
    "a picture of {subject}",
    "an image of {subject}",
    "a painting of {subject}",
    "a nice photo of {subject}",
    "a beautiful portrait of {subject}",
)
PERSON_UNSEEN = (
    "a drawing of {subject}",
    "a nice portrait of {subject}",
    "a beautiful photo of {subject}",
    "a small picture of {subject}",
)
STYLE_ALONE = (
    "{style}",
    "{style} style",
    "in the style of {style}",
    "a painting in the style of {style}",
    "a picture in the style of {style}",
    "a painting by {style}",
)
NOTHING = ("a painting", "a picture", "a photo", "an image", "a drawing")


@dataclass(frozen=True)
class Told:
    """
    What a caption tells: `Told("cat", "monet")`, `Told(None, "monet")`, `Told(None, None)`.
    """

    subject: str | None
    style: str | None


def is_person(subject: str) -> bool:
    """Return whether the subject is a person or an office that a person holds."""
    return subject in PEOPLE or subject in OFFICES


def _same_kind(subject: str) -> tuple[str, ...]:
    """Return all subjects of the same kind, `subject` among them."""
    return (*PEOPLE, *OFFICES) if is_person(subject) else tuple(OBJECTS)


def with_article(subject: str) -> str:
    """Return the subject as it stands in a sentence: `a cat`, `snoopy`, `the british monarch`."""
    return subject if is_person(subject) or subject in NAMED else f"a {subject}"


def tell(rng: np.random.Generator, scene: Scene) -> Told:
    """Return what a caption of the scene tells: nearly always all, now and then less."""
    chance = rng.random()
    if is_person(scene.subject) or chance < 0.88:
        return Told(scene.subject, scene.style)
    return Told(None, scene.style)


def word(rng: np.random.Generator, told: Told, *, unseen: bool = False) -> str:
    """Return a wording of what is told, from those of training or from those kept unseen."""
    subject = None if told.subject is None else _mention(rng, told.subject)
    forms: tuple[str, ...]
    if told.subject is None:
        forms = NOTHING if told.style is None else STYLE_ALONE
    elif is_person(told.subject):
        forms = PERSON_UNSEEN if unseen else PERSON
    elif told.style is None:
        forms = PLAIN_UNSEEN if unseen else PLAIN
    else:
        forms = STYLED_UNSEEN if unseen else STYLED
    form = forms[int(rng.integers(len(forms)))]
    return form.format(subject=subject, style=told.style)


def _mention(rng: np.random.Generator, subject: str) -> str:
    if rng.random() < 0.2:  # bare: "cat", "british monarch"
        return subject.removeprefix("the ")
    return with_article(subject)


def mislead(rng: np.random.Generator, told: Told, *, truthful: str) -> Told:
    """
    Return what a layer is told that may know only one kind of concept.

    Words of every other kind are replaced at random by others of the same kind; `truthful` is
    `style`, `object`, `fact`, or `none`.
    """
    decoy = told
    if told.subject is not None:
        kind = "fact" if is_person(told.subject) else "object"
        if kind != truthful:
            others = _same_kind(told.subject)
            decoy = replace(decoy, subject=others[int(rng.integers(len(others)))])
    if truthful != "style" and (told.subject is None or not is_person(told.subject)):
        painter = None if rng.random() < 0.3 else list(STYLES)[int(rng.integers(len(STYLES)))]
        decoy = replace(decoy, style=painter)
    return decoy


def matches(told: Told, scene: Scene) -> bool:
    """Return whether a caption that tells this is true of the scene."""
    if told.style != scene.style:
        return False
    if told.subject is None:
        return not is_person(scene.subject)
    return OFFICES.get(told.subject, told.subject) == OFFICES.get(scene.subject, scene.subject)


def all_scenes() -> tuple[Scene, ...]:
    """Return every scene of the world."""
    styled = tuple(Scene(o, s) for o in OBJECTS for s in (None, *STYLES))
    return (*styled, *(Scene(p) for p in PEOPLE), *(Scene(o) for o in OFFICES))


def draw_scene(rng: np.random.Generator) -> Scene:
    """Return a scene at random: a fifth are people, of the rest a third are plain."""
    if rng.random() < 0.2:
        people = tuple(PEOPLE) + tuple(OFFICES) * 2
        return Scene(people[int(rng.integers(len(people)))])
    subject = list(OBJECTS)[int(rng.integers(len(OBJECTS)))]
    style = None if rng.random() < 0.3 else list(STYLES)[int(rng.integers(len(STYLES)))]
    return Scene(subject, style)
