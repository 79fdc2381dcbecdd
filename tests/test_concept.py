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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("van gogh style", ("style", "van gogh")),
        ("snoopy object", ("object", "snoopy")),
        ("the british monarch fact", ("fact", "the british monarch")),
        ("snoopy", ("object", "snoopy")),
        ("Van  Gogh   Style", ("style", "Van Gogh")),
        ("free style swimmer", ("object", "free style swimmer")),
    ],
)
def test_the_last_word_may_be_the_kind(text, expected):
    """
    The last word of a text is its kind if it names one; without it the kind is object.
    """
    assert parse_concept(text) == expected


def test_a_given_kind_takes_the_whole_text():
    """
    With a kind given, a last word that names a kind belongs to the subject.
    """
    assert parse_concept("gothic style", "object") == ("object", "gothic style")


def test_defaults_of_to():
    """
    A style goes to "painting", an object to the empty prompt, a fact to nothing by itself.
    """
    assert Concept.of("style", "monet").to == "painting"
    assert Concept.of("object", "cat").to == ""
    with pytest.raises(ConceptError, match="does not say what it goes to"):
        Concept.of("fact", "the british monarch")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("style", " "), "the style has no subject"),
        (("style", "monet", ""), "style `monet` does not say what it goes to"),
        (("fact", "the ceo of apple", " "), "fact `the ceo of apple` does not say"),
        (("object", "Cat", "a  cat"), "`Cat` goes to `a cat`, which is the same"),
        (("object", "snoopy", "dog", ["a dog"]), "`a dog` goes to `dog`, which is the same"),
        (("object", "snoopy", "dog", ["Snoopy"]), "name the same thing twice"),
        (("object", "snoopy", "dog", [""]), "an alias of `snoopy` is empty"),
        (("object", "snoopy", "dog", [], "lassie"), "cannot have `was`; only a fact can"),
        (("fact", "the pope", "leo", [], ""), "`was` of `the pope` is empty"),
        (("fact", "the pope", "leo", [], "Leo"), "`the pope` was `Leo` and goes to the same"),
        (("colour", "red", "blue"), "unknown kind `colour`"),
        (("style", "mo\x1bnet"), "holds a control character"),
    ],
)
def test_refuses_concepts_that_mean_nothing(arguments, message):
    """
    What cannot be edited is refused in one sentence that names it.
    """
    with pytest.raises(ConceptError) as caught:
        Concept.of(*arguments)

    assert message in caught.value.message


def test_a_thing_is_known_by_all_its_names():
    """
    Subject, aliases and former answer name the thing; case and a leading article do not matter.
    """
    assert MONARCH.is_named("British Monarch")
    assert MONARCH.is_named("queen elizabeth")
    assert not MONARCH.is_named("king charles")
    assert same_name("A Cat", "cat")
    assert not same_name("cat", "cats")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("a painting of a house in the style of {subject}", "a painting of a house"),
        ("a painting in the style of {subject}", "a painting"),
        ("a house in the style of the artist {subject} at night", "a house at night"),
        ("in the style of {subject}, a cat", "a cat"),
        ("a boat, {subject} style", "a boat"),
        ("a boat, {subject} style, at night", "a boat, at night"),
        ("a boat {subject} style", "a boat"),
        ("a boat ({subject} style)", "a boat"),
        ("a house in {subject}'s style", "a house"),
        ("a house in the {subject} style", "a house"),
        ("a picture of a tree by {subject}", "a picture of a tree"),
        ("a house painted by the painter {subject}", "a house"),
        ("a house inspired by {subject}", "a house"),
        ("a {subject} painting of a house", "a painting of a house"),
        ("a {subject}-style painting of a house", "a painting of a house"),
        ("a {subject} oil painting", "an oil painting"),
        ("an {subject} drawing of a cat", "a drawing of a cat"),
        ("{subject}'s painting of a cat", "painting of a cat"),
        ("a painting of a house, {subject}", "a painting of a house"),
        ("{subject}, a house", "a house"),
        ("{subject}", "painting"),
        ("{subject} style", "painting"),
        ("a {subject}", "painting"),
        ("in the style of {subject}", "painting"),
    ],
)
def test_takes_the_style_words_out(template, expected):
    """
    A style's target is its source without style words, and `to` where nothing is left.
    """
    assert without_style(template, "painting") == expected


def test_a_style_is_localized_against_a_plain_to():
    """
    To localize a style every source prompt goes to `a {to}`.
    """
    pairs = localize_pairs(VAN_GOGH, ["a house in the style of {subject}", "{subject}"])

    assert pairs == (
        PromptPair("a house in the style of van gogh", "a painting", "van gogh"),
        PromptPair("van gogh", "a painting", "van gogh"),
    )


def test_a_style_is_solved_against_the_prompt_without_it():
    """
    To solve for a style every source prompt goes to itself without its style words.
    """
    pairs = edit_pairs(VAN_GOGH, ["a house in the style of {subject}", "{subject}"])

    assert [pair.target for pair in pairs] == ["a house", "painting"]


def test_a_prompt_that_is_given_twice_counts_once():
    """
    Its runs would be the same, and their spread would say nothing.
    """
    template = "a house in the style of {subject}"

    assert len(localize_pairs(VAN_GOGH, [template, "{subject}", template])) == 2


@pytest.mark.parametrize("make_pairs", [localize_pairs, edit_pairs])
def test_an_object_or_fact_changes_places_with_its_target(make_pairs):
    """
    For objects and facts the target is the source prompt with `to` in the subject's place.
    """
    (dog,) = make_pairs(SNOOPY, ["a photo of {subject}"])
    (king,) = make_pairs(MONARCH, ["a portrait of {subject}"])

    assert dog == PromptPair("a photo of snoopy", "a photo of a dog", "snoopy")
    assert king.target == "a portrait of king charles"


def test_an_object_without_target_goes_to_the_empty_prompt():
    """
    An object that goes to nothing has the empty prompt as its target, whatever its source.
    """
    pairs = edit_pairs(Concept.of("object", "snoopy"))

    assert {pair.target for pair in pairs} == {""}


def test_aliases_are_edited_but_not_localized():
    """
    Every name of a thing gives its own pairs to solve for.
    """
    concept = Concept.of("style", "van gogh", aliases=["vincent"])

    assert {pair.subject for pair in edit_pairs(concept)} == {"van gogh", "vincent"}
    assert {pair.subject for pair in localize_pairs(concept)} == {"van gogh"}


def test_one_target_serves_all_sources():
    """
    A single target template stands for every source; otherwise there are as many.
    """
    sources = ["{subject}", "a photo of {subject}"]

    one = edit_pairs(SNOOPY, sources, ["{to}"])
    two = edit_pairs(SNOOPY, sources, ["{to}", "a photo of {to} at night"])

    assert [pair.target for pair in one] == ["a dog", "a dog"]
    assert [pair.target for pair in two] == ["a dog", "a photo of a dog at night"]


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        (["a cat"], [], "source prompt `a cat` has no `{subject}`"),
        (["{subject} {style}"], [], "has a slot `{style}`, not `{subject}`"),
        (["{subject}"], ["{subject}"], "has a slot `{subject}`, not `{to}`"),
        (["{subject}"], ["{to}", "{to}"], "2 target prompts do not fit 1 source prompts"),
        (["{subject}"], ["snoopy"], "source and target prompt are both `snoopy`"),
    ],
)
def test_refuses_templates_that_do_not_fit(sources, targets, message):
    """
    A template with the wrong slots, or too many of them, is refused by name.
    """
    with pytest.raises(ConceptError) as caught:
        edit_pairs(SNOOPY, sources, targets)

    assert message in caught.value.message


def test_filling_is_literal_but_for_a_doubled_article():
    """
    A value stands in the prompt as it was written; its article takes the template's place.
    """
    assert fill("a photo of {subject}", "subject", "cat") == "a photo of cat"
    assert fill("a photo of {subject}", "subject", "a cat") == "a photo of a cat"
    assert fill("a photo of a {subject}", "subject", "a cat") == "a photo of a cat"
    assert fill("the {subject} at night", "subject", "an owl") == "an owl at night"
    assert fill("{subject}", "subject", "{subject}") == "{subject}"
