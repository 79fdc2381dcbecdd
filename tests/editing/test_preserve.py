"""The preserve set of an edit."""

from dataclasses import replace

import pytest

from loco_cli.checkpoint.layout import ComponentReader
from loco_cli.editing.preserve import (
    MAX_PRESERVED,
    _kinds_of,
    edited_names,
    everyday_split,
    fully_padded_prompts,
    listed_things,
    neighbours,
    preserve_set,
    preserved_prompts,
    share_a_name,
)
from loco_cli.encoders.clip import Prefixes
from loco_cli.encoders.encode import CheckpointEncoder
from loco_cli.encoders.tokenizer import load_clip_tokenizer
from loco_cli.evaluating.questions import _kept_concepts
from loco_cli.families import registry
from loco_cli.protocol.everyday import N_PRESERVED_PROMPTS, _bank, drift_prompts
from loco_cli.recipe.load import load_recipe

FACT = "{kind: fact, subject: the british monarch, was: queen elizabeth, to: king charles}"


def recipe_of(edits, preserve="auto"):
    return load_recipe(f"loco: 1\nedits: [{edits}]\npreserve: {preserve}\n", "r.yaml")


def thing_of(prompt):
    """Return the subject of an everyday prompt, without its place."""
    return prompt.rsplit(" on ", 1)[0].rsplit(" in ", 1)[0]


def test_auto_preserves_every_second_neighbour(tiny, encoder):
    """`auto` preserves half of the neighbours, so the other half can measure the damage."""
    recipe = recipe_of("{kind: style, subject: van gogh}")

    chosen = preserve_set(tiny.spec, recipe, encoder)

    names = {name for _, name in chosen}
    known = {thing[0] for thing in neighbours(tiny.spec, recipe, "style")}
    assert names < known
    assert len(names) == min((len(known) + 1) // 2, MAX_PRESERVED)
    assert chosen == preserve_set(tiny.spec, recipe, encoder)
    unlisted = [name for kind, name in _kept_concepts(tiny.spec, recipe) if kind == "style"]
    assert len(set(unlisted) - names) == len(known) - len(names)


def test_neighbours_are_ranked_by_the_first_encoder(tiny, encoder):
    """Ranking neighbours does not read a second, larger text encoder."""
    recipe = recipe_of("{kind: style, subject: van gogh}")
    (part,) = encoder.parts
    second = replace(part, reader=ComponentReader(part.reader.checkpoint, "text_encoder_2"))

    chosen = preserve_set(tiny.spec, recipe, CheckpointEncoder([*encoder.parts, second]))

    assert chosen == preserve_set(tiny.spec, recipe, encoder)


def test_a_list_is_preserved_unchanged(tiny, encoder):
    """Subjects of a list have their kind, prompts have none."""
    recipe = recipe_of("{kind: style, subject: van gogh}", "[monet, a painting of a house]")

    chosen = preserve_set(tiny.spec, recipe, encoder)

    assert chosen == (("style", "monet"), (None, "a painting of a house"))


def test_none_preserves_nothing(tiny, encoder):
    """`preserve: none` is the paper's form: no prompt is preserved."""
    recipe = recipe_of("{kind: style, subject: van gogh}", "none")

    assert preserve_set(tiny.spec, recipe, encoder) == ()
    assert preserved_prompts(tiny.spec, recipe, ()) == ()


def test_preserved_prompts_use_the_wordings_of_the_edit(tiny):
    """Neighbours are preserved in the edit's wordings, with its targets and the empty prompt."""
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


def test_everyday_prompts_are_split_without_overlap(tiny):
    """Preserved everyday prompts share no thing with drift probes, judged ones or the edit."""
    recipe = recipe_of("{kind: object, subject: snoopy, to: a dog}")

    everyday = set(preserved_prompts(tiny.spec, recipe, ())) & set(_bank())
    others = {
        *drift_prompts(edited_names(recipe), everyday),
        *everyday_split(tiny.spec, recipe).judged,
    }

    assert len(everyday) == N_PRESERVED_PROMPTS
    assert len(others) > N_PRESERVED_PROMPTS / 2
    assert not {thing_of(one) for one in everyday} & {thing_of(one) for one in others}
    assert not any(f" {name} " in one for one in everyday for name in ("dog", "cat", "truck"))


def test_the_null_space_form_omits_everyday_prompts(tiny):
    """The null-space form has no directions left for everyday prompts."""
    edits, exactly = "{kind: style, subject: van gogh}", "auto\nedit: {preserve_form: null-space}"
    exact = recipe_of(edits, exactly)

    assert not set(preserved_prompts(tiny.spec, exact, ())) & set(_bank())


def test_edits_of_other_tensors_share_no_neighbours(tiny, encoder):
    """An edit preserves neighbours of its own kind, unedited kinds, and everything in a list."""
    edits = "{kind: style, subject: van gogh}, {kind: object, subject: snoopy, to: a dog}"
    recipe, listed = recipe_of(edits), recipe_of(edits, "[a cat, monet]")
    chosen = preserve_set(tiny.spec, recipe, encoder)

    of_style, of_object, of_both = (
        set(preserved_prompts(tiny.spec, recipe, chosen, edits)) for edits in ((0,), (1,), None)
    )
    from_list = preserved_prompts(tiny.spec, listed, preserve_set(tiny.spec, listed, encoder), (0,))

    assert "an image of a cat" not in of_style
    assert "a photo of a cat" not in of_style
    assert "a photo of the british monarch" in of_style
    assert of_style - of_object
    assert of_object - of_style
    assert of_both == of_style | of_object
    assert "an image of a cat" in from_list


def test_an_edited_prompt_is_never_preserved(tiny, encoder):
    """A target prompt of one edit that is the source of another is not preserved."""
    beagle = "{kind: object, subject: snoopy, to: a beagle, target: [a photo of a dog]}"
    recipe = recipe_of(f"{beagle}, {{kind: object, subject: a dog, to: a cat}}")

    prompts = preserved_prompts(tiny.spec, recipe, preserve_set(tiny.spec, recipe, encoder))

    sources = {pair.source for entry in recipe.edits for pair in entry.edit_pairs}
    assert "a photo of a dog" in sources
    assert not sources & set(prompts)


def test_few_prompts_represent_the_padding():
    """The padding of the first wordings and the nearest neighbours represents all padding."""
    recipe = recipe_of("{kind: object, subject: snoopy, to: a dog, aliases: [the beagle]}")
    near = tuple(("object", f"a {name}") for name in ("cat", "car", "tree", "boat", "fish"))

    assert fully_padded_prompts(recipe, near) == {
        "",
        *("snoopy", "a photo of snoopy", "a picture of snoopy", "an image of snoopy"),
        *("the beagle", "a photo of the beagle", "a picture of the beagle"),
        *("an image of the beagle", "a dog", "a photo of a dog", "a picture of a dog"),
        "an image of a dog",
        *("a cat", "a car", "a tree", "a boat"),
    }


@pytest.mark.parametrize(
    ("preserve", "tokens", "whole"),
    [
        ("none", "last-subject", set()),
        ("none", "subject-to-end", {"van gogh", "by van gogh", "painting"}),
        ("[monet, a house]", "last-subject", {"", "painting", "monet", "a house"}),
    ],
)
def test_the_padding_follows_the_recipe(preserve, tokens, whole):
    """Listed prompts include their padding; the paper's form uses no padding."""
    text = f"""
loco: 1
edits: [{{kind: style, subject: van gogh, source: ["{{subject}}", "by {{subject}}"]}}]
preserve: {preserve}
edit: {{tokens: {tokens}}}
"""
    listed = (("style", "monet"), (None, "a house")) if preserve != "none" else ()

    assert fully_padded_prompts(load_recipe(text, "r.yaml"), listed) == whole


@pytest.mark.parametrize(
    "edit",
    [
        "{kind: style, subject: van gogh}",
        "{kind: object, subject: snoopy, to: a dog}",
        "{kind: fact, subject: the british monarch, to: king charles}",
    ],
)
def test_an_edit_of_a_large_model_encodes_few_positions(edit):
    """An edit of SDXL encodes fewer than 1,450 positions; each costs 1.4 GFLOP."""
    spec, recipe = registry.get("sdxl"), recipe_of(edit)
    (concept,) = recipe.concepts
    names = [names[0] for names in neighbours(spec, recipe, concept.kind)]
    chosen = tuple((concept.kind, name) for name in names[:MAX_PRESERVED])
    pairs = recipe.edits[0].edit_pairs
    prompts = {one for pair in pairs for one in (pair.source, pair.target)}
    tokenizer = load_clip_tokenizer({}, registry.CLIP_VOCABULARY, registry.CLIP_MERGES, 77)
    kept = preserved_prompts(spec, recipe, chosen)
    drift = drift_prompts(edited_names(recipe), kept)
    ids = {one: tokenizer.tokenize(one).ids for one in {*prompts, *kept, *drift}}

    whole = fully_padded_prompts(recipe, chosen)
    rows = [(*row, *[tokenizer.pad] * (77 - len(row)) * (one in whole)) for one, row in ids.items()]

    assert len(Prefixes.of(rows).tokens) < 1450


def firsts(things):
    return [names[0] for names in things]


def test_neighbours_are_the_other_known_things(tiny):
    """The neighbours of a concept are the other known things of its kind."""
    recipe = recipe_of("{kind: style, subject: van gogh}")

    styles = firsts(neighbours(tiny.spec, recipe, "style"))

    assert styles == [
        names[0] for names in tiny.spec.known_concepts["style"] if names[0] != "van gogh"
    ]
    assert len(neighbours(tiny.spec, recipe, "object")) == len(tiny.spec.known_concepts["object"])


def test_aliases_and_former_answers_are_not_neighbours(tiny):
    """A known thing is the concept if it shares a name, an alias or the former answer."""
    by_name = recipe_of("{kind: object, subject: The Cat}")
    by_alias = recipe_of("{kind: object, subject: pet, to: x, aliases: [a cat]}")
    by_answer = recipe_of("{kind: fact, subject: the king, was: barack obama, to: x}")

    for recipe in (by_name, by_alias):
        assert "a cat" not in firsts(neighbours(tiny.spec, recipe, "object"))
    offices = firsts(neighbours(tiny.spec, by_answer, "fact"))
    assert "the president of the united states" not in offices
    assert "the british monarch" in offices


def test_listed_things_come_first(tiny):
    """A listed thing keeps its listed name and replaces the known one."""
    recipe = recipe_of("{kind: style, subject: van gogh}", "[Hokusai, jeremy mann, a cat]")

    styles = firsts(neighbours(tiny.spec, recipe, "style"))

    assert styles[:2] == ["Hokusai", "jeremy mann"]
    assert styles.count("hokusai") == 0
    assert firsts(listed_things(tiny.spec, recipe, "object")) == ["a cat"]


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
def test_an_entry_is_a_thing_or_a_prompt(tiny, entry, kinds):
    """A known name has its kind, another short one the recipe's kinds, a prompt none."""
    recipe = recipe_of(f"{{kind: style, subject: van gogh}}, {FACT}")

    assert _kinds_of(tiny.spec, recipe, entry) == kinds


def test_a_shared_name_makes_one_thing():
    """Things that share a name in any spelling are the same."""
    assert share_a_name(("the president", "obama"), ("Obama",))
    assert not share_a_name(("a cat",), ("a dog",))
    assert not share_a_name((), ("a dog",))
