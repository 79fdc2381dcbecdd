"""What stands near a concept, and what of it is preserved."""

import pytest

from loco_cli.recipe import load_recipe
from loco_cli.workflows.neighbours import is_same, kinds_of, listed, neighbours
from loco_cli.workflows.preserve import MAX_PRESERVED, chosen_neighbours, preserved_prompts
from loco_cli.workflows.questions import kept_concepts

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


def test_auto_preserves_every_other_neighbour(tiny, encoder):
    """
    Half of the neighbours are preserved, nearest first, so that the other half can tell.
    """
    recipe = recipe_of("{kind: style, subject: van gogh}")

    chosen = chosen_neighbours(tiny.spec, recipe, encoder)

    names = {name for _, name in chosen}
    known = set(firsts(neighbours(tiny.spec, recipe, "style")))
    assert names < known
    assert len(names) == min((len(known) + 1) // 2, MAX_PRESERVED)
    assert chosen == chosen_neighbours(tiny.spec, recipe, encoder)
    unasked = [name for kind, name in kept_concepts(tiny.spec, recipe) if kind == "style"]
    assert len(set(unasked) - names) == len(known) - len(names)


def test_a_list_is_preserved_as_it_is(tiny, encoder):
    """
    The list is what is chosen: subjects with their kind, prompts without.
    """
    recipe = recipe_of("{kind: style, subject: van gogh}", "[monet, a painting of a house]")

    chosen = chosen_neighbours(tiny.spec, recipe, encoder)

    assert chosen == (("style", "monet"), (None, "a painting of a house"))


def test_none_preserves_nothing(tiny, encoder):
    """
    `preserve: none` is the paper's form: no prompt at all stands in the solve.
    """
    recipe = recipe_of("{kind: style, subject: van gogh}", "none")

    assert chosen_neighbours(tiny.spec, recipe, encoder) == ()
    assert preserved_prompts(tiny.spec, recipe, ()) == ()


def test_preserved_prompts_speak_as_the_edit_does(tiny):
    """
    Neighbours are preserved in the edit's wordings, with its targets and the empty prompt.
    """
    text = '{kind: style, subject: van gogh, source: ["a house by {subject}"]}'
    recipe = recipe_of(text, "[monet, a nice house in the woods]")

    prompts = preserved_prompts(
        tiny.spec, recipe, (("style", "monet"), (None, "a nice house in the woods"))
    )

    assert prompts[0] == ""
    assert {"a house", "a house by monet", "a nice house in the woods"} <= set(prompts)
    assert "a photo of a cat" in prompts
    assert "a photo of the british monarch" in prompts
    assert not any("van gogh" in prompt for prompt in prompts)
    assert len(set(prompts)) == len(prompts)


def test_what_is_edited_is_never_preserved(tiny, encoder):
    """
    Where one edit goes to what another edits, its target prompts are left out.
    """
    edits = "{kind: object, subject: snoopy, to: a dog}, {kind: object, subject: a dog, to: a cat}"
    recipe = recipe_of(edits)

    prompts = preserved_prompts(tiny.spec, recipe, chosen_neighbours(tiny.spec, recipe, encoder))

    sources = {pair.source for entry in recipe.edits for pair in entry.edit_pairs()}
    assert "a photo of a dog" in sources
    assert not sources & set(prompts)
