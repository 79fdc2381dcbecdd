"""
Prompt templates: the defaults, and functions that fill slots and remove style words.

A template is a prompt with a slot: `{subject}` in source prompts, `{to}` in target prompts.
Slots are filled literally: `to: a dog` gives "a photo of a dog", `to: dog` gives "a photo of dog".
Only a doubled article is dropped: "a {subject}" and "a cat" give "a cat".
"""

import re
from collections.abc import Sequence
from typing import Literal
from unicodedata import normalize

from loco_cli.errors import ConceptError

Kind = Literal["style", "object", "fact"]

LOCALIZE_TEMPLATES: dict[Kind, tuple[str, ...]] = {
    # no motif: the target `a {to}` would lack it, and the swap would remove more than the style
    "style": (
        "a painting in the style of {subject}",
        "a picture in the style of {subject}",
        "a picture by {subject}",
        "a painting, {subject} style",
    ),
    "object": (
        "a photo of {subject}",
        "a picture of {subject}",
        "an image of {subject}",
        "a painting of {subject}",
    ),
    "fact": (
        "a photo of {subject}",
        "a picture of {subject}",
        "a portrait of {subject}",
        "a painting of {subject}",
    ),
}

EDIT_TEMPLATES: dict[Kind, tuple[str, ...]] = {
    "style": (
        "{subject}",
        "a painting in the style of {subject}",
        "a painting of a house in the style of {subject}",
        "a painting of a cat in the style of {subject}",
        "a picture of a tree by {subject}",
        "a boat, {subject} style",
        "a picture of a bird in the style of {subject}",
    ),
    "object": (
        "{subject}",
        "a photo of {subject}",
        "a picture of {subject}",
        "an image of {subject}",
    ),
    "fact": (
        "{subject}",
        "a photo of {subject}",
        "a picture of {subject}",
        "a portrait of {subject}",
    ),
}

# these templates preserve known things of kinds that the recipe does not edit
PRESERVE_TEMPLATES = ("a photo of {subject}", "a painting of {subject}")

# these templates judge whether a concept is forgotten; their objects and wordings are not above
FORGET_TEMPLATES: dict[Kind, tuple[str, ...]] = {
    "style": (
        "a drawing of a dog in the style of {subject}",
        "a picture of a castle, {subject} style",
        "an image of a flower by {subject}",
        "a nice picture of a car in the style of {subject}",
    ),
    "object": (
        "a nice picture of {subject}",
        "a beautiful photo of {subject}",
        "a small drawing of {subject}",
        "a beautiful painting of {subject}",
    ),
    "fact": (
        "a drawing of {subject}",
        "a nice portrait of {subject}",
        "a beautiful photo of {subject}",
        "a small picture of {subject}",
    ),
}
# these templates choose the strength of an edit, again with other objects
VALIDATE_TEMPLATES: dict[Kind, tuple[str, ...]] = {
    "style": (
        "an image of a fish in the style of {subject}",
        "a painting of a truck by {subject}",
        "a beautiful picture of a robot, {subject} style",
        "a drawing by {subject}",
        "a nice photo of a truck in the style of {subject}",
        "a small drawing of a robot by {subject}",
        "a nice painting of a fish, {subject} style",
        "an image in the style of {subject}",
    ),
    "object": (
        "a beautiful picture of {subject}",
        "a small painting of {subject}",
        "a nice drawing of {subject}",
        "a small photo of {subject}",
        "a nice painting of {subject}",
        "a beautiful drawing of {subject}",
        "a small picture of {subject}",
        "a nice image of {subject}",
    ),
    "fact": (
        "a nice picture of {subject}",
        "a beautiful portrait of {subject}",
        "a small photo of {subject}",
        "a nice painting of {subject}",
        "an image of {subject}",
        "a small portrait of {subject}",
        "a beautiful drawing of {subject}",
        "a nice photo of {subject}",
    ),
}
# these templates judge whether other concepts are kept
KEEP_TEMPLATES: dict[Kind, tuple[str, ...]] = {
    kind: templates[:2] for kind, templates in FORGET_TEMPLATES.items()
}

_ARTICLE = re.compile(r"^(?:a|an|the)\s+", re.IGNORECASE)
_MAKING_VERB = r"(?:\b(?:painted|drawn|made|done|rendered|created)\s+)?"
_ARTIST = r"(?:the\s+(?:artist|painter)\s+)?\{subject\}"
_STYLE_WORDS = re.compile(
    rf"""
    [\s,;]*
    (?:
        {_MAKING_VERB}(?:\b(?:in|with|after)\s+)?(?:\b(?:the|a)\s+)?\b(?:style|manner|look)\s+of\s+{_ARTIST}
      | {_MAKING_VERB}\bin\s+(?:(?:the|an?)\s+)?\{{subject\}}(?:'s)?[\s-]+style\b
      | {_MAKING_VERB}\b(?:by|after|like|of|from|inspired\s+by)\s+{_ARTIST}
      | \{{subject\}}(?:'s)?(?:[\s-]+styled?\b)?
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_ADJECTIVE = re.compile(r"\ban?\s+\{subject\}(?:'s)?(?:[\s-]+styled?\b)?\s+(\w)", re.IGNORECASE)
_LEFTOVERS = frozenset(("a", "an", "the", "in", "of", "by", "with", "and"))


def fill(template: str, slot: str, value: str) -> str:
    """Return `template` with `value` in place of `{slot}`, without a doubled article."""
    marker = "{" + slot + "}"
    if _ARTICLE.match(value):
        template = re.sub(rf"\b(?:a|an|the)\s+{re.escape(marker)}", marker, template, flags=re.I)
    return tidy(template.replace(marker, value))


def without_style(template: str, to: str) -> str:
    """
    Return a style template without its style words, or `to` if no other words remain.

    "a painting of a house in the style of {subject}" gives "a painting of a house", and
    "a {subject} oil painting" gives "an oil painting".
    """
    text = _ADJECTIVE.sub(lambda match: f"{_article(match[1])} {match[1]}", template)
    text = _STYLE_WORDS.sub("", text).replace("()", "")
    text = tidy(re.sub(r"\s+([,;.])", r"\1", text)).strip(" ,;.")
    words = set(re.findall(r"\w+", text.casefold()))
    return text if words - _LEFTOVERS else to


def requests_style(prompt: str, name: str) -> bool:
    """Return True if a prompt asks for the style of `name`, not for a picture of that person."""
    who = re.escape(bare_name(name))
    style_of = rf"(?:(?:style|manner|look)\s+of|by)\s+(?:the\s+\w+\s+)?{who}\b"
    pattern = rf"\b{style_of}|\b{who}(?:'s)?[\s-]+styled?\b"
    return re.search(pattern, tidy(prompt).casefold()) is not None


def check_templates(sources: Sequence[str], targets: Sequence[str]) -> None:
    """Raise ConceptError if a template has a wrong slot, or the counts do not match."""
    for source in sources:
        if "{subject}" not in source:
            raise ConceptError(f"source prompt `{source}` has no `{{subject}}`")
    for template, slot in (*((s, "subject") for s in sources), *((t, "to") for t in targets)):
        for found in re.findall(r"\{\w*\}", template):
            if found != "{" + slot + "}":
                raise ConceptError(f"prompt `{template}` has the slot `{found}`, not `{{{slot}}}`")
    if len(targets) not in (0, 1, len(sources)):
        plural = "" if len(sources) == 1 else "s"
        raise ConceptError(
            f"there are {len(targets)} target prompts for {len(sources)} source prompt{plural}",
            "give one target prompt for all, or one per source prompt",
        )


def bare_name(name: str) -> str:
    """Return `name` in lower case, without leading article and extra spaces: "A Cat" is "cat"."""
    return _ARTICLE.sub("", tidy(normalize("NFC", name)).casefold())


def tidy(text: str) -> str:
    """Return `text` with single spaces, stripped."""
    return " ".join(text.split())


def _article(letter: str) -> str:
    return "an" if letter.casefold() in "aeiou" else "a"
