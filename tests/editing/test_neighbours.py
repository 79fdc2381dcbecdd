"""What stands near a concept."""

import pytest

from loco_cli.editing.neighbours import is_same, kinds_of, listed, neighbours
from loco_cli.recipe import load_recipe

FACT = "{kind: fact, subject: the british monarch, was: queen elizabeth, to: king charles}"


def recipe_of(edits, preserve="auto"):
    return load_recipe(f"loco: 1\nedits: [{edits}]\npreserve: {preserve}\n", "r.yaml")


def firsts(things):
    return [names[0] for names in things]


def test_neighbours_are_the_other_things_of_the_kind(tiny):
    """
    They are what the model knows of that kind, the edited concept left out.
    """
    recipe = recipe_of("{kind: style, subject: van gogh}")

    styles = firsts(neighbours(tiny.spec, recipe, "style"))

    assert styles == [names[0] for names in tiny.spec.known["style"] if names[0] != "van gogh"]
    assert len(neighbours(tiny.spec, recipe, "object")) == len(tiny.spec.known["object"])


def test_another_spelling_is_the_same_thing(tiny):
    """
    Case and article make no other thing.
    """
    recipe = recipe_of("{kind: object, subject: The Cat}")

    assert "a cat" not in firsts(neighbours(tiny.spec, recipe, "object"))


def test_aliases_and_the_former_answer_are_no_neighbours(tiny):
    """
    A known thing that goes by an alias of the concept, or was its answer, is the concept.
    """
    by_alias = recipe_of("{kind: object, subject: pet, to: x, aliases: [a cat]}")
    by_answer = recipe_of("{kind: fact, subject: the king, was: barack obama, to: x}")

    assert "a cat" not in firsts(neighbours(tiny.spec, by_alias, "object"))
    offices = firsts(neighbours(tiny.spec, by_answer, "fact"))
    assert "the president of the united states" not in offices
    assert "the british monarch" in offices


def test_the_preserve_list_comes_first(tiny):
    """
    A thing of the list is called as it is there, and is no second thing beside the known one.
    """
    recipe = recipe_of("{kind: style, subject: van gogh}", "[Hokusai, jeremy mann, a cat]")

    styles = firsts(neighbours(tiny.spec, recipe, "style"))

    assert styles[:2] == ["Hokusai", "jeremy mann"]
    assert styles.count("hokusai") == 0
    assert firsts(listed(tiny.spec, recipe, "object")) == ["a cat"]


@pytest.mark.parametrize(
    ("entry", "kinds"),
    [
        ("monet", ("style",)),
        ("the snoopy", ("object",)),
        ("barack obama", ("fact",)),
        ("jeremy mann", ("style", "fact")),
        ("a painting of a house", ()),
    ],
)
def test_what_an_entry_is(tiny, entry, kinds):
    """
    A known name has its kind, another short one the kinds of the recipe, a prompt none.
    """
    recipe = recipe_of(f"{{kind: style, subject: van gogh}}, {FACT}")

    assert kinds_of(tiny.spec, recipe, entry) == kinds


def test_a_shared_name_makes_one_thing():
    """
    Two things are the same where they share a name, however it is spelled.
    """
    assert is_same(("the president", "obama"), ("Obama",))
    assert not is_same(("a cat",), ("a dog",))
    assert not is_same((), ("a dog",))
