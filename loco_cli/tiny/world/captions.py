"""The captions of pictures, in wordings for training and in held-out ones."""

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
class Caption:
    """
    The content of a caption: `Caption("cat", "monet")`, `Caption(None, "monet")`.
    """

    subject: str | None
    style: str | None


def is_person(subject: str) -> bool:
    """Return True if the subject is a person or an office."""
    return subject in PEOPLE or subject in OFFICES


def _same_kind(subject: str) -> tuple[str, ...]:
    """Return all subjects of the same kind, including `subject`."""
    return (*PEOPLE, *OFFICES) if is_person(subject) else tuple(OBJECTS)


def with_article(subject: str) -> str:
    """Return the subject with its article: `a cat`, `snoopy`, `the british monarch`."""
    return subject if is_person(subject) or subject in NAMED else f"a {subject}"


def draw_caption(rng: np.random.Generator, scene: Scene) -> Caption:
    """Sample the content of a caption; 12 % of object captions omit the object."""
    chance = rng.random()
    if is_person(scene.subject) or chance < 0.88:
        return Caption(scene.subject, scene.style)
    return Caption(None, scene.style)


def word_caption(rng: np.random.Generator, caption: Caption, *, unseen: bool = False) -> str:
    """Sample a wording of a caption, from those for training or from the held-out ones."""
    subject = None if caption.subject is None else _mention(rng, caption.subject)
    forms: tuple[str, ...]
    if caption.subject is None:
        forms = NOTHING if caption.style is None else STYLE_ALONE
    elif is_person(caption.subject):
        forms = PERSON_UNSEEN if unseen else PERSON
    elif caption.style is None:
        forms = PLAIN_UNSEEN if unseen else PLAIN
    else:
        forms = STYLED_UNSEEN if unseen else STYLED
    form = forms[int(rng.integers(len(forms)))]
    return form.format(subject=subject, style=caption.style)


def _mention(rng: np.random.Generator, subject: str) -> str:
    if rng.random() < 0.2:  # bare: "cat", "british monarch"
        return subject.removeprefix("the ")
    return with_article(subject)


def draw_decoy(rng: np.random.Generator, caption: Caption, *, true_kind: str) -> Caption:
    """
    Sample the caption for a layer that may learn only one kind of concept.

    Random words of the same kind replace the words of every other kind. `true_kind` is `style`,
    `object`, `fact` or `none`.
    """
    decoy = caption
    if caption.subject is not None:
        kind = "fact" if is_person(caption.subject) else "object"
        if kind != true_kind:
            others = _same_kind(caption.subject)
            decoy = replace(decoy, subject=others[int(rng.integers(len(others)))])
    if true_kind != "style" and (caption.subject is None or not is_person(caption.subject)):
        painter = None if rng.random() < 0.3 else list(STYLES)[int(rng.integers(len(STYLES)))]
        decoy = replace(decoy, style=painter)
    return decoy


def matches(caption: Caption, scene: Scene) -> bool:
    """Return True if the caption is true of the scene."""
    if caption.style != scene.style:
        return False
    if caption.subject is None:
        return not is_person(scene.subject)
    return OFFICES.get(caption.subject, caption.subject) == OFFICES.get(
        scene.subject, scene.subject
    )


def all_scenes() -> tuple[Scene, ...]:
    """Return every scene of the world."""
    styled = tuple(Scene(o, s) for o in OBJECTS for s in (None, *STYLES))
    return (*styled, *(Scene(p) for p in PEOPLE), *(Scene(o) for o in OFFICES))


def draw_scene(rng: np.random.Generator) -> Scene:
    """Sample a scene: a fifth are people, and 30 % of the others have no style."""
    if rng.random() < 0.2:
        people = tuple(PEOPLE) + tuple(OFFICES) * 2
        return Scene(people[int(rng.integers(len(people)))])
    subject = list(OBJECTS)[int(rng.integers(len(OBJECTS)))]
    style = None if rng.random() < 0.3 else list(STYLES)[int(rng.integers(len(STYLES)))]
    return Scene(subject, style)
