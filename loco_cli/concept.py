"""Concepts to localize or edit, and their prompt pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args
from unicodedata import category

from loco_cli.errors import ConceptError
from loco_cli.protocol import wordings as templates
from loco_cli.protocol.wordings import bare_name, fill, tidy, without_style

ConceptKind = templates.Kind
KINDS: tuple[ConceptKind, ...] = get_args(ConceptKind)

# default target by kind; a fact has none
DEFAULT_TO: dict[ConceptKind, str | None] = {"style": "painting", "object": "", "fact": None}


@dataclass(frozen=True)
class PromptPair:
    """
    Two prompts: `PromptPair("a photo of snoopy", "a photo of a dog", subject="snoopy")`.

    `subject` is the name in `source`; the solver looks up its tokens.
    """

    source: str
    target: str
    subject: str


@dataclass(frozen=True)
class Concept:
    """
    A style, object or fact to edit: `Concept("fact", "the british monarch", "king charles")`.

    `aliases` are other names of the same thing. `was` is the previous holder of an office. An empty
    `to` means the empty prompt; only an object can have it.

    Raises:
        ConceptError: A name is empty, repeated, equal to the target, or contains control
            characters; or `was` is set for a style or an object.
    """

    kind: ConceptKind
    subject: str
    to: str
    aliases: tuple[str, ...] = ()
    was: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConceptError(f"unknown kind `{self.kind}`", f"choose one of {', '.join(KINDS)}")
        if not self.subject.strip():
            raise ConceptError(f"the {self.kind} has no subject")
        if not self.to.strip() and self.kind != "object":
            raise ConceptError(f"{self.kind} `{self.subject}` has no target")
        self._check_names()

    def _check_names(self) -> None:
        for name in (*self.names, self.to, self.was or ""):
            if any(category(letter) in ("Cc", "Cs") for letter in name):
                raise ConceptError(f"`{name}` contains a control character")
        for name in self.names:
            if same_name(name, self.to):
                raise ConceptError(f"`{name}` and its target `{self.to}` are the same")
        if any(not alias.strip() for alias in self.aliases):
            raise ConceptError(f"an alias of `{self.subject}` is empty")
        if len({bare_name(name) for name in self.names}) < len(self.names):
            raise ConceptError(f"`{self.subject}` and its aliases contain the same name twice")
        if self.was is None:
            return
        if self.kind != "fact":
            raise ConceptError(f"{self.kind} `{self.subject}` cannot have `was`; only a fact can")
        if not self.was.strip():
            raise ConceptError(f"`was` of `{self.subject}` is empty")
        if same_name(self.was, self.to):
            raise ConceptError(f"`was` of `{self.subject}` and its target `{self.to}` are the same")

    @classmethod
    def of(
        cls,
        kind: ConceptKind,
        subject: str,
        to: str | None = None,
        aliases: Sequence[str] = (),
        was: str | None = None,
    ) -> "Concept":
        """Return the concept with tidied white space, and the default target if `to` is None."""
        target = DEFAULT_TO.get(kind, "") if to is None else to
        if target is None:
            raise ConceptError(
                f"fact `{tidy(subject)}` has no target",
                "set `to:` in the recipe, or pass `--to`",
            )
        former = None if was is None else tidy(was)
        return cls(kind, tidy(subject), tidy(target), tuple(map(tidy, aliases)), former)

    @property
    def names(self) -> tuple[str, ...]:
        """The subject and its aliases."""
        return (self.subject, *self.aliases)

    def is_named(self, name: str) -> bool:
        """Return True if `name` is the subject, an alias, or `was`."""
        return any(same_name(name, known) for known in (*self.names, self.was or "") if known)


def same_name(one: str, other: str) -> bool:
    """Return True if two names differ only in case, white space or a leading article."""
    return bare_name(one) == bare_name(other)


def parse_concept(text: str, kind: ConceptKind | None = None) -> tuple[ConceptKind, str]:
    """
    Return the kind and subject of a concept in words: "van gogh style" is ("style", "van gogh").

    Args:
        text: The concept. Its last word may be the kind; without one, the concept is an object.
        kind: The kind. If given, the whole text is the subject.

    Raises:
        ConceptError: The text has no subject.
    """
    subject = tidy(text)
    if kind is None:
        rest, _, last = subject.rpartition(" ")
        found = next((known for known in KINDS if known == last.casefold()), None)
        kind, subject = (found, rest) if found else ("object", subject)
    if not subject:
        raise ConceptError(f"concept `{text}` has no subject", 'write it like "van gogh style"')
    return kind, subject


def localize_pairs(
    concept: Concept, sources: Sequence[str] = (), targets: Sequence[str] = ()
) -> tuple[PromptPair, ...]:
    """
    Return the prompt pairs that localize a concept, without duplicates.

    The default target of a style is `a {to}`. The default target of an object or a fact is the
    source prompt with `to` in place of the subject.

    Args:
        concept: The concept; its aliases are not used.
        sources: Templates with `{subject}`; empty means the defaults of the kind.
        targets: Templates with `{to}`: none, one for all, or one per source.

    Raises:
        ConceptError: A template has a wrong slot, the counts differ, or both prompts of a pair
            are equal.
    """
    sources = tuple(sources) or templates.LOCALIZE_TEMPLATES[concept.kind]
    if concept.kind == "style" and not targets:
        targets = ("a {to}",)
    return tuple(dict.fromkeys(_pairs(concept, (concept.subject,), sources, targets)))


def edit_pairs(
    concept: Concept, sources: Sequence[str] = (), targets: Sequence[str] = ()
) -> tuple[PromptPair, ...]:
    """
    Return the prompt pairs that an edit solves for, one per source template and name.

    The default target of a style is the source prompt without its style words. The default target
    of an object or a fact is the source prompt with `to` in place of the subject.

    Args:
        concept: The concept; each alias gets its own pairs.
        sources: Templates with `{subject}`; empty means the defaults of the kind.
        targets: Templates with `{to}`: none, one for all, or one per source.

    Raises:
        ConceptError: A template has a wrong slot, the counts differ, or both prompts of a pair
            are equal.
    """
    sources = tuple(sources) or templates.EDIT_TEMPLATES[concept.kind]
    return _pairs(concept, concept.names, sources, targets)


def default_target(concept: Concept, source: str) -> str:
    """Return the default target of a source template, for solving and for judging."""
    if concept.kind == "style":
        return without_style(source, concept.to)
    return fill(source, "subject", concept.to) if concept.to else ""


def _pairs(
    concept: Concept, names: Sequence[str], sources: Sequence[str], targets: Sequence[str]
) -> tuple[PromptPair, ...]:
    templates.check_templates(sources, targets)
    wanted = targets if len(targets) != 1 else tuple(targets) * len(sources)
    goals = (
        [fill(template, "to", concept.to) for template in wanted]
        if wanted
        else [default_target(concept, template) for template in sources]
    )
    pairs = tuple(
        PromptPair(fill(source, "subject", name), goal, name)
        for name in names
        for source, goal in zip(sources, goals, strict=True)
    )
    for pair in pairs:
        if pair.source == pair.target:
            raise ConceptError(f"source and target prompt are both `{pair.source}`")
    return pairs
