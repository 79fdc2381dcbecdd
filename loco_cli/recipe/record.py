"""
Recipes as frozen records: one class per section of the file, one field per key.

All defaults are defined here, except those that depend on the method; they are in `methods`.
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

# share of the channels of a projection that `auto` fixes. `python -m tests.benchmarks.edits
# --choosing --layers key`, five concepts of `tiny`, two prompts and two seeds each: 1.5 concepts
# were not forgotten at 3/8 of the channels, 0.5 at 1/2 and 0 at 3/4. At 3/4 an edit keeps as much
# as with all channels.
AUTO_NEURONS = 0.75


class EditEntry(Record):
    """One concept to edit: `EditEntry(kind="style", subject="van gogh", to="painting")`."""

    kind: ConceptKind = Field(description="The kind of the concept.")
    subject: Text = Field(description="The name of the concept in a prompt.")
    to: str | None = Field(
        None,
        description="The replacement of the subject. Default for a style: painting; for an object: "
        "the empty prompt; required for a fact.",
    )
    source: Texts = Field(
        (), description="Source prompts with {subject}; the default depends on the kind."
    )
    target: tuple[str, ...] = Field(
        (),
        min_length=1,
        description="Target prompts with {to}: one for all source prompts, or one for each.",
    )
    aliases: Texts = Field(
        (), description="Other names of the same concept, edited and evaluated too."
    )
    was: Text | None = Field(None, description="For a fact, the previous holder of the office.")

    @cached_property
    def concept(self) -> Concept:
        """The concept, with the default target if `to` is missing; raises ConceptError."""
        return Concept.of(self.kind, self.subject, self.to, self.aliases, self.was)

    @cached_property
    def localize_pairs(self) -> tuple[PromptPair, ...]:
        """The prompt pairs for the localization; raises ConceptError."""
        return localize_pairs(self.concept, self.source, self.target)

    @cached_property
    def edit_pairs(self) -> tuple[PromptPair, ...]:
        """The prompt pairs for the solve; raises ConceptError."""
        return edit_pairs(self.concept, self.source, self.target)


class LocalizeSettings(Record):
    """Settings of the localization."""

    method: LocalizeMethodName = Field(LOCOGEN.name, description="The localization method.")
    search: Literal["fast", "exhaustive"] = Field(
        "fast",
        description="fast: rank layers, try likely candidates; exhaustive: try every candidate.",
    )
    width: Width = Field(
        "auto",
        description="The number of layers in a candidate range; auto: the fewest that suffice.",
    )
    window: Literal["contiguous", "set"] | None = Field(
        None,
        description="contiguous: a range of layers; set: the fewest layers that suffice, "
        "contiguous or not. Default contiguous; an edit falls back to a set if no range suffices.",
    )
    seeds: Seeds = Field(4, description="Images per prompt and candidate; the first seed is 0.")
    effect: Share = Field(
        0.9,
        description="The required effect, as a share of the effect of swapping all layers. Used "
        "with width auto and with sets.",
    )
    steps: Count | None = Field(None, description="Sampler steps. Default: the model's own.")
    guidance: Number | None = Field(None, description="Guidance scale. Default: the model's own.")
    pooled: StrictBool = Field(
        False, description="Swap the pooled embedding too, in models that have one."
    )
    component: Literal["unet", "text-encoder"] | None = Field(
        None, description="Component whose states causal tracing restores; default text-encoder."
    )
    noise: Number | None = Field(
        None,
        description="Noise of causal tracing on the subject, in standard deviations of the word "
        "embeddings; default 3.",
    )

    @property
    def required_effect(self) -> float | None:
        """The required effect of the layers; None if the recipe sets their number."""
        return self.effect if self.width == "auto" else None

    @property
    def allows_sets(self) -> bool:
        """True if an edit falls back to a set of layers when no range suffices."""
        return self.width == "auto" and self.window != "contiguous"


class EditSettings(Record):
    """
    Settings of the edit.

    `layer_range` is None exactly if `layers` replaces it.
    """

    method: EditMethodName = Field(LOCOEDIT.name, description="The editing method.")
    layer_range: LayerRange = Field(
        "auto", description="auto, published, or a half-open range: [8, 10] is layers 8 and 9."
    )
    layers: LayerList = Field(None, description="A list of layers instead of layer_range.")
    ridge: RidgeValue = Field(
        "auto",
        description="auto, λ, or a multiple of the keys' mean squared norm, such as '0.01x'.",
    )
    strength: Literal["auto", "fixed", "measured"] = Field(
        "auto",
        description="How ridge auto is chosen. fixed: a constant; measured: the ridge closest to "
        "that constant that reaches the target on pictures; auto: measured if the edit searches "
        "for layers, else fixed.",
    )
    target: Share = Field(
        0.95,
        description="The shares forgotten, became and kept that a measured strength must reach.",
    )
    tokens: Literal["last-subject", "subject-to-end", "all"] = Field(
        "subject-to-end",
        description="The tokens whose embeddings the edit maps to new values (the keys of the "
        "regression).",
    )
    encoders: Literal["single", "all"] = Field(
        "single",
        description="For diffquickfix. single: require a model with one text encoder; all: edit "
        "every text encoder.",
    )
    pooled: StrictBool = Field(
        False, description="Edit the projection of the pooled embedding too."
    )
    preserve_form: Literal["ridge", "null-space"] = Field(
        "ridge",
        description="ridge: preserve keys approximately; null-space: preserve tokens exactly.",
    )
    neurons: Neurons = Field(
        "auto", description="The number of channels to fix in each key and value projection."
    )
    position: Literal["last-subject", "last"] = Field(
        "last-subject", description="The token of a prompt that ranks the neurons."
    )
    hold: Literal["weights", "inference"] = Field(
        "weights",
        description="weights: new weights approximate the fixed values; inference: hooks fix the "
        "values exactly and change no weights.",
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
        """True if pictures choose the strength of the edit."""
        if self.strength != "auto":
            return self.strength == "measured"
        # a search for layers generates pictures anyway; an edit of named layers does not
        method = EDIT_METHODS[self.method]
        is_free = self.ridge == self.layer_range == "auto"
        return is_free and method.site == "layers" and bool(method.ladder)

    @property
    def fixed_ridge(self) -> Ridge:
        """The ridge without measurement; for `auto` it is the constant of the method."""
        auto = EDIT_METHODS[self.method].auto_ridge
        ridge = parse_ridge(auto) if self.ridge == "auto" else self.ridge
        assert isinstance(ridge, Ridge), ridge
        return ridge


class EvaluateSettings(Record):
    """Settings of the evaluation."""

    seeds: Seeds = Field(4, description="Images per prompt; the first seed is 1000.")
    forget: Texts = Field((), description="Additional prompts whose concept should be forgotten.")
    keep: Texts = Field((), description="Additional prompts whose pictures should not change.")
    steps: Count | None = Field(None, description="Sampler steps. Default: the model's own.")
    guidance: Number | None = Field(None, description="Guidance scale. Default: the model's own.")


class RecipeDocument(Record):
    """A recipe file, with its keys in the order in which they are written."""

    loco: Version = Field(description="The format version.")
    title: Text | None = Field(None, description="A description of the recipe for people.")
    model: Text = Field("tiny", description="The default model; --model overrides it.")
    edits: tuple[EditEntry, ...] = Field(
        min_length=1, description="The concepts to edit, solved together."
    )
    preserve: Preserve = Field(
        "auto",
        description="Concepts to preserve: auto, none, or a list of subjects or prompts.",
    )
    localize: LocalizeSettings = LocalizeSettings()
    edit: EditSettings = EditSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    tags: tuple[Text, ...] = Field((), description="Keywords of the recipe.")


class Recipe(RecipeDocument):
    """
    A loaded recipe: its document and its source.

    `text` is verbatim and `sha256` is its digest. `overrides` are the keys that the command line
    set; the other fields already include them.
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
        """Return the document as plain values, including defaults."""
        document = self.model_dump(mode="json", include=set(RecipeDocument.model_fields))
        for entry, concept in zip(document["edits"], self.concepts, strict=True):
            entry["to"] = concept.to
        written: dict[str, Any] = _without_unset(document)
        return written


def _without_unset(value: Any) -> Any:
    # unset keys are omitted because a recipe must not have empty keys
    if isinstance(value, dict):
        return {k: _without_unset(v) for k, v in value.items() if v is not None and v != []}
    return [_without_unset(item) for item in value] if isinstance(value, list) else value
