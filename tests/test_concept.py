"""Concepts, their prompt pairs, and prompt templates."""

import pytest

from loco_cli.concept import (
    Concept,
    PromptPair,
    edit_pairs,
    localize_pairs,
    parse_concept,
    same_name,
)
from loco_cli.errors import ConceptError
from loco_cli.protocol.wordings import fill, without_style

VAN_GOGH = Concept.of("style", "van gogh")
SNOOPY = Concept.of("object", "snoopy", "a dog")
MONARCH = Concept.of("fact", "the british monarch", "king charles", was="queen elizabeth")


def test_the_last_word_may_be_the_kind():
    """
    The last word of a text is its kind if it names one; otherwise the kind is object.
    """
    concepts = {
        "van gogh style": ("style", "van gogh"),
        "snoopy object": ("object", "snoopy"),
        "the british monarch fact": ("fact", "the british monarch"),
        "snoopy": ("object", "snoopy"),
        "Van  Gogh   Style": ("style", "Van Gogh"),
        "free style swimmer": ("object", "free style swimmer"),
    }

    assert {text: parse_concept(text) for text in concepts} == concepts
    assert parse_concept("gothic style", "object") == ("object", "gothic style")


def test_the_default_target_depends_on_the_kind(golden):
    """
    The default target of a style is "painting", of an object the empty prompt; a fact has none.
    """
    assert Concept.of("style", "monet").to == "painting"
    assert Concept.of("object", "cat").to == ""
    with golden.raises(ConceptError, "the british monarch"):
        Concept.of("fact", "the british monarch")


def test_refuses_concepts_that_mean_nothing(golden):
    """
    A concept that cannot be edited is refused by name.
    """
    for arguments, name in (
        (("style", " "), "style"),
        (("style", "monet", ""), "monet"),
        (("fact", "the ceo of apple", " "), "the ceo of apple"),
        (("object", "Cat", "a  cat"), "Cat"),
        (("object", "snoopy", "dog", ["a dog"]), "a dog"),
        (("object", "snoopy", "dog", ["Snoopy"]), "snoopy"),
        (("object", "snoopy", "dog", [""]), "snoopy"),
        (("object", "snoopy", "dog", [], "lassie"), "snoopy"),
        (("fact", "the pope", "leo", [], ""), "the pope"),
        (("fact", "the pope", "leo", [], "Leo"), "the pope"),
        (("colour", "red", "blue"), "colour"),
        (("style", "mo\x1bnet"), "mo\x1bnet"),
    ):
        with golden.raises(ConceptError, name):
            Concept.of(*arguments)


def test_a_concept_has_several_names():
    """
    Subject, aliases and former answer name a concept; case and a leading article do not matter.
    """
    assert MONARCH.is_named("British Monarch")
    assert MONARCH.is_named("queen elizabeth")
    assert not MONARCH.is_named("king charles")
    assert same_name("A Cat", "cat")
    assert not same_name("cat", "cats")


TEMPLATES = {
    "a painting of a house in the style of {subject}": "a painting of a house",
    "a painting in the style of {subject}": "a painting",
    "a house in the style of the artist {subject} at night": "a house at night",
    "in the style of {subject}, a cat": "a cat",
    "a boat, {subject} style": "a boat",
    "a boat, {subject} style, at night": "a boat, at night",
    "a boat {subject} style": "a boat",
    "a boat ({subject} style)": "a boat",
    "a house in {subject}'s style": "a house",
    "a house in the {subject} style": "a house",
    "a picture of a tree by {subject}": "a picture of a tree",
    "a house painted by the painter {subject}": "a house",
    "a house inspired by {subject}": "a house",
    "a {subject} painting of a house": "a painting of a house",
    "a {subject}-style painting of a house": "a painting of a house",
    "a {subject} oil painting": "an oil painting",
    "an {subject} drawing of a cat": "a drawing of a cat",
    "{subject}'s painting of a cat": "painting of a cat",
    "a painting of a house, {subject}": "a painting of a house",
    "{subject}, a house": "a house",
    "{subject}": "painting",
    "{subject} style": "painting",
    "a {subject}": "painting",
    "in the style of {subject}": "painting",
}


def test_removes_style_words():
    """
    The target of a style is its source without style words, or `to` if no other words remain.
    """
    assert {source: without_style(source, "painting") for source in TEMPLATES} == TEMPLATES


def test_localizing_a_style_swaps_in_a_plain_target():
    """
    To localize a style, the target of every source prompt is `a {to}`.
    """
    pairs = localize_pairs(VAN_GOGH, ["a house in the style of {subject}", "{subject}"])

    assert pairs == (
        PromptPair("a house in the style of van gogh", "a painting", "van gogh"),
        PromptPair("van gogh", "a painting", "van gogh"),
    )


def test_editing_a_style_removes_its_words():
    """
    To edit a style, the target of a source prompt is that prompt without its style words.
    """
    pairs = edit_pairs(VAN_GOGH, ["a house in the style of {subject}", "{subject}"])

    assert [pair.target for pair in pairs] == ["a house", "painting"]


def test_a_repeated_prompt_counts_once():
    """
    A repeated template adds no pair: equal runs would make the standard error too small.
    """
    template = "a house in the style of {subject}"

    assert len(localize_pairs(VAN_GOGH, [template, "{subject}", template])) == 2


@pytest.mark.parametrize("make_pairs", [localize_pairs, edit_pairs])
def test_the_target_replaces_an_object_or_a_fact(make_pairs):
    """
    The target prompt of an object or a fact is the source prompt with `to` as the subject.
    """
    (dog,) = make_pairs(SNOOPY, ["a photo of {subject}"])
    (king,) = make_pairs(MONARCH, ["a portrait of {subject}"])

    assert dog == PromptPair("a photo of snoopy", "a photo of a dog", "snoopy")
    assert king.target == "a portrait of king charles"


def test_an_object_without_target_becomes_the_empty_prompt():
    """
    Without `to`, the target of every prompt of an object is the empty prompt.
    """
    pairs = edit_pairs(Concept.of("object", "snoopy"))

    assert {pair.target for pair in pairs} == {""}


def test_aliases_are_edited_but_not_localized():
    """
    Each name of a concept has its own pairs in an edit; a localization uses the subject only.
    """
    concept = Concept.of("style", "van gogh", aliases=["vincent"])

    assert {pair.subject for pair in edit_pairs(concept)} == {"van gogh", "vincent"}
    assert {pair.subject for pair in localize_pairs(concept)} == {"van gogh"}


def test_one_target_applies_to_all_sources():
    """
    There is one target template for all sources, or one for each.
    """
    sources = ["{subject}", "a photo of {subject}"]

    one = edit_pairs(SNOOPY, sources, ["{to}"])
    two = edit_pairs(SNOOPY, sources, ["{to}", "a photo of {to} at night"])

    assert [pair.target for pair in one] == ["a dog", "a dog"]
    assert [pair.target for pair in two] == ["a dog", "a photo of a dog at night"]


def test_refuses_templates_that_do_not_match(golden):
    """
    Templates with wrong slots, or in the wrong number, are refused by name.
    """
    for sources, targets, name in (
        (["a cat"], [], "{subject}"),
        (["{subject} {style}"], [], "{style}"),
        (["{subject}"], ["{subject}"], "{to}"),
        (["{subject}"], ["{to}", "{to}"], "2"),
        (["{subject}"], ["snoopy"], "snoopy"),
    ):
        with golden.raises(ConceptError, name):
            edit_pairs(SNOOPY, sources, targets)


def test_fills_slots_literally_except_a_doubled_article():
    """
    A value is inserted unchanged, and its article replaces the article of the template.
    """
    assert fill("a photo of {subject}", "subject", "cat") == "a photo of cat"
    assert fill("a photo of {subject}", "subject", "a cat") == "a photo of a cat"
    assert fill("a photo of a {subject}", "subject", "a cat") == "a photo of a cat"
    assert fill("the {subject} at night", "subject", "an owl") == "an owl at night"
    assert fill("{subject}", "subject", "{subject}") == "{subject}"
