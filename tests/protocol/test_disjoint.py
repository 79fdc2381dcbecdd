"""Seeds, templates and everyday prompts that choose an edit do not judge it."""

import pytest

from loco_cli.concept import KINDS
from loco_cli.editing.preserve import everyday_split, neighbours, preserved_prompts
from loco_cli.evaluating.judge import EvaluationPlan
from loco_cli.evaluating.questions import questions, validation_questions
from loco_cli.families import registry
from loco_cli.protocol.everyday import _bank, split_everyday
from loco_cli.protocol.seeds import MAX_SEEDS, STRENGTH_SEEDS, evaluate_seeds, localize_seeds
from loco_cli.protocol.wordings import (
    EDIT_TEMPLATES,
    FORGET_TEMPLATES,
    KEEP_TEMPLATES,
    LOCALIZE_TEMPLATES,
    PRESERVE_TEMPLATES,
    VALIDATE_TEMPLATES,
)
from loco_cli.recipe.catalog import entries

RECIPES = {entry.name: entry.load() for entry in entries()}


def things(prompts):
    """Return the things in everyday prompts."""
    return {prompt.split(" on ")[0].split(" in ")[0] for prompt in prompts}


def test_no_seed_chooses_and_judges():
    """
    The seeds of an evaluation find no layers and choose no strength, whatever their number.
    """
    for n in (1, 4, MAX_SEEDS):
        assert not {*localize_seeds(MAX_SEEDS), *STRENGTH_SEEDS} & set(evaluate_seeds(n))
        assert len(set(evaluate_seeds(n))) == len(set(localize_seeds(n))) == n


@pytest.mark.parametrize("kind", KINDS)
def test_no_template_chooses_and_judges(kind):
    """
    Templates that judge are not used to localize, to solve or to choose the strength.

    Templates that choose the strength are not used to localize or to solve.
    """
    localize_or_solve = {*LOCALIZE_TEMPLATES[kind], *EDIT_TEMPLATES[kind], *PRESERVE_TEMPLATES}

    assert not {*FORGET_TEMPLATES[kind], *KEEP_TEMPLATES[kind]} & {
        *localize_or_solve,
        *VALIDATE_TEMPLATES[kind],
    }
    assert not set(VALIDATE_TEMPLATES[kind]) & localize_or_solve
    for templates in (
        LOCALIZE_TEMPLATES[kind],
        EDIT_TEMPLATES[kind],
        FORGET_TEMPLATES[kind],
        VALIDATE_TEMPLATES[kind],
    ):
        assert len(set(templates)) == len(templates)
    assert len(VALIDATE_TEMPLATES[kind]) == 8


def test_no_everyday_prompt_has_two_uses():
    """
    Preserved prompts, prompts for drift and prompts that judge do not overlap.

    Prompts that judge share no thing with preserved prompts.
    """
    split = split_everyday(
        edited=("a cat",), near=("a cat", "a dog"), tested=("a bear",), listed=()
    )
    uses = (split.preserved, split.drift, split.judged)

    assert len({*split.preserved, *split.drift, *split.judged}) == sum(map(len, uses))
    assert {*split.preserved, *split.drift, *split.judged} <= set(_bank())
    assert not things(split.judged) & things(split.preserved)


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_recipe_is_judged_on_held_out_prompts(name):
    """
    The evaluation shares no prompt and no seed with the localization, the edit and its strength.
    """
    recipe = RECIPES[name]
    spec = registry.get(recipe.model)
    split = everyday_split(spec, recipe)
    near = [(kind, names[0]) for kind in KINDS for names in neighbours(spec, recipe, kind)]
    pairs = [pair for entry in recipe.edits for pair in (*entry.localize_pairs, *entry.edit_pairs)]
    choosing = {
        *(prompt for pair in pairs for prompt in (pair.source, pair.target)),
        *preserved_prompts(spec, recipe, near),
        *split.preserved,
        *split.drift,
        *(question.prompt for question in validation_questions(spec, recipe)),
    }
    plan = EvaluationPlan.of(spec, recipe)

    assert not choosing & {question.prompt for question in questions(spec, recipe)}
    assert not {*localize_seeds(recipe.localize.seeds), *STRENGTH_SEEDS} & set(plan.seeds)
