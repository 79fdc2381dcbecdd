"""
A recipe as frozen records: one class per section of the file, one field per key.

The defaults stand here and nowhere else, but for those that differ by method: `methods` has them.
"""

from functools import cached_property
from typing import Any, Literal

from pydantic import Field, StrictBool, model_validator

from loco_cli.concept import Concept, ConceptKind, PromptPair, edit_pairs, localize_pairs
from loco_cli.methods import EDIT_METHODS, LOCOEDIT, LOCOGEN, EditMethodName, LocalizeMethodName
from loco_cli.recipe.values import (
    Count,
    LayerList,
    LayerRange,
    Neurons,
    Number,
    Preserve,
    Ridge,
    RidgeValue,
    Seeds,
    Share,
    Text,
    Texts,
    Version,
    Width,
    parse_ridge,
)
from loco_cli.records import Record

# share of a projection's channels that is held. Of five concepts of `tiny`, two prompts and two
# seeds each, 1.5 were left unforgotten at 3/8 of the channels, 0.5 at 1/2 and none at 3/4, where as
# much was kept as with all channels (`python -m tests.benchmarks.edits --choosing --layers key`)
AUTO_NEURONS = 0.75


class EditEntry(Record):
    """One concept to edit: `EditEntry(kind="style", subject="van gogh", to="painting")`."""

    kind: ConceptKind = Field(description="What sort of thing it is.")
    subject: Text = Field(description="The words that name it in a prompt.")
    to: str | None = Field(
        None,
        description="What it becomes. Style: default painting; object: default the empty prompt; "
        "a fact needs it.",
    )
    source: Texts = Field((), description="Source prompts with {subject}; defaults by kind.")
    target: tuple[str, ...] = Field(
        (),
        min_length=1,
        description="Target prompts with {to}: one for all, or as many as source.",
    )
    aliases: Texts = Field((), description="Other names of the same thing, edited and tested too.")
    was: Text | None = Field(None, description="The former answer of a fact.")

    @cached_property
    def concept(self) -> Concept:
        """The concept, with `to` filled in by kind; raises ConceptError."""
        return Concept.of(self.kind, self.subject, self.to, self.aliases, self.was)

    @cached_property
    def localize_pairs(self) -> tuple[PromptPair, ...]:
        """The prompt pairs to localize with; raises ConceptError."""
        return localize_pairs(self.concept, self.source, self.target)

    @cached_property
    def edit_pairs(self) -> tuple[PromptPair, ...]:
        """The prompt pairs to solve for; raises ConceptError."""
        return edit_pairs(self.concept, self.source, self.target)


class LocalizeSettings(Record):
    """How the layers are looked for."""

    method: LocalizeMethodName = Field(LOCOGEN.name, description="How a layer is tried.")
    search: Literal["fast", "exhaustive"] = Field(
        "fast", description="Rank cheaply and try the likely, or try every candidate."
    )
    width: Width = Field(
        "auto", description="How many layers a candidate range holds; auto: as few as are enough."
    )
    window: Literal["contiguous", "set"] | None = Field(
        None,
        description="contiguous: a range of layers; set: the fewest that are enough, touching or "
        "not. Default contiguous, and for an edit a set where no range is enough.",
    )
    seeds: Seeds = Field(4, description="Images per prompt and candidate, from seeds 0 on.")
    effect: Share = Field(
        0.9,
        description="The share of the full swap's effect that is enough, for width auto and sets.",
    )
    steps: Count | None = Field(None, description="Sampler steps; default the model's.")
    guidance: Number | None = Field(None, description="Guidance scale; default the model's.")
    pooled: StrictBool = Field(
        False, description="Whether a prompt that the model pools past its layers is swapped too."
    )
    component: Literal["unet", "text-encoder"] | None = Field(
        None, description="Where causal tracing restores states; default text-encoder."
    )
    noise: Number | None = Field(
        None,
        description="Causal tracing's noise on the subject, in standard deviations of the word "
        "embeddings; default 3.",
    )

    @property
    def wanted(self) -> float | None:
        """The effect that the layers found should have; None where their number is given."""
        return self.effect if self.width == "auto" else None

    @property
    def allows_sets(self) -> bool:
        """True if an edit takes a set of layers where no range is enough."""
        return self.width == "auto" and self.window != "contiguous"


class EditSettings(Record):
    """
    How the weights are moved, and which.

    `layer_range` is None exactly where `layers` names a set in its place.
    """

    method: EditMethodName = Field(LOCOEDIT.name, description="How the weights are solved for.")
    layer_range: LayerRange = Field(
        "auto", description="auto, published, or a half-open range: [8, 10] is layers 8 and 9."
    )
    layers: LayerList = Field(None, description="A set of layers, in place of layer_range.")
    ridge: RidgeValue = Field(
        "auto", description="λ, or as '0.01x' a multiple of the keys' mean squared norm."
    )
    strength: Literal["auto", "fixed", "measured"] = Field(
        "auto",
        description="What ridge auto is. fixed: a constant; measured: what reaches the target on "
        "pictures, nearest to it; auto: measured where layers are looked for, else fixed.",
    )
    target: Share = Field(
        0.95,
        description="The share forgotten, become and kept that a measured strength has to reach.",
    )
    tokens: Literal["last-subject", "subject-to-end", "all"] = Field(
        "subject-to-end", description="Which positions of a prompt are keys."
    )
    encoders: Literal["single", "all"] = Field(
        "single",
        description="For diffquickfix: a model's single text encoder, or all where it has several.",
    )
    pooled: StrictBool = Field(
        False, description="Whether what pools a prompt past the layers is edited with them."
    )
    preserve_form: Literal["ridge", "null-space"] = Field(
        "ridge", description="Whether preserved keys are weighed, or their words kept exactly."
    )
    neurons: Neurons = Field(
        "auto", description="How many channels of each key and value projection are held."
    )
    position: Literal["last-subject", "last"] = Field(
        "last-subject", description="Where in a prompt neurons are told apart."
    )
    hold: Literal["weights", "inference"] = Field(
        "weights",
        description="Whether neurons are held by new weights, or exactly, while pictures are made.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_of_two(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "layers" not in values:
            return values
        if values.get("layer_range") is not None:
            raise ValueError("has both `layer_range` and `layers`; give one")
        return {**values, "layer_range": None}

    @property
    def is_measured(self) -> bool:
        """True if pictures decide how strong the edit is."""
        if self.strength != "auto":
            return self.strength == "measured"
        # pictures are made for the layers anyway; an edit in named ones takes none
        method = EDIT_METHODS[self.method]
        is_free = self.ridge == self.layer_range == "auto"
        return is_free and method.site == "layers" and bool(method.ladder)

    @property
    def fixed_ridge(self) -> Ridge:
        """The ridge that no picture chooses: for `auto` the method's constant."""
        auto = EDIT_METHODS[self.method].auto_ridge
        ridge = parse_ridge(auto) if self.ridge == "auto" else self.ridge
        assert isinstance(ridge, Ridge), ridge
        return ridge


class EvaluateSettings(Record):
    """What is generated before and after."""

    seeds: Seeds = Field(4, description="Images per prompt, from seed 1000 on.")
    forget: Texts = Field((), description="More prompts whose concept should be gone.")
    keep: Texts = Field((), description="More prompts that should not change.")
    steps: Count | None = Field(None, description="Sampler steps; default the model's.")
    guidance: Number | None = Field(None, description="Guidance scale; default the model's.")


class RecipeDocument(Record):
    """A recipe file: what may stand in it, in the order in which it is written."""

    loco: Version = Field(description="The version of this format.")
    title: Text | None = Field(None, description="What the recipe does, for people.")
    model: Text = Field("tiny", description="The model it is made for; --model overrides it.")
    edits: tuple[EditEntry, ...] = Field(min_length=1, description="What to edit, solved together.")
    preserve: Preserve = Field(
        "auto", description="What must not change: auto, none, or a list of subjects or prompts."
    )
    localize: LocalizeSettings = LocalizeSettings()
    edit: EditSettings = EditSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    tags: tuple[Text, ...] = Field((), description="Words to find the recipe by.")


class Recipe(RecipeDocument):
    """
    A recipe file that was read: its document, and what it was read from.

    `text` is verbatim and `sha256` its digest; `overrides` are the keys that were set from
    outside, and the other fields already hold them.
    """

    name: str
    text: str
    sha256: str
    overrides: dict[str, Any] = Field({})

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """The concepts of the edits, in order."""
        return tuple(entry.concept for entry in self.edits)

    def document(self) -> dict[str, Any]:
        """Return the content of the file as plain values, defaults filled in."""
        document = self.model_dump(mode="json", include=set(RecipeDocument.model_fields))
        for entry, concept in zip(document["edits"], self.concepts, strict=True):
            entry["to"] = concept.to
        written: dict[str, Any] = _without_unset(document)
        return written


def _without_unset(value: Any) -> Any:
    # an unset key is left out, since no key of a recipe may be empty
    if isinstance(value, dict):
        return {k: _without_unset(v) for k, v in value.items() if v is not None and v != []}
    return [_without_unset(item) for item in value] if isinstance(value, list) else value
