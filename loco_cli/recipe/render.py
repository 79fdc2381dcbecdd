"""From a Recipe to text: the file that says the same, its schema, a file to start from."""

from typing import Any

import yaml

from loco_cli.recipe.record import Recipe, RecipeDocument
from loco_cli.recipe.tree import RecipeLoader

STARTER = """\
# {name}: what this recipe is for, in a line or two.
#
# Try it:    loco edit {where} --dry-run
# Run it:    loco edit {where}
# All keys:  loco recipes schema

loco: 1                        # format version
title: Remove the style of Van Gogh
model: tiny                    # a default; --model overrides it

edits:                         # one or more, solved together
  - kind: style                # style | object | fact
    subject: van gogh          # the words that name it in a prompt
    to: painting               # what it becomes; an object may go without
    # source: ["{{subject}}", "a painting in the style of {{subject}}"]
    # target: ["{{to}}", "a painting"]
    # aliases: [vincent]       # other names of the same thing
    # was: queen elizabeth     # a fact's former answer

preserve: auto                 # auto | none | a list of subjects or prompts
edit: {{layer_range: auto}}      # auto | published | [8, 10], which is layers 8 and 9
tags: [style]
"""


class _Dumper(yaml.SafeDumper):
    """Quotes what either YAML 1.1 or 1.2 would take for more than a word."""


for _first, _resolvers in RecipeLoader.yaml_implicit_resolvers.items():
    for _tag, _pattern in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _pattern, [_first])


def render_recipe(recipe: Recipe) -> str:
    """Return the file of a recipe, overrides and defaults written out."""
    return render_document(recipe.document())


def render_document(document: dict[str, Any]) -> str:
    """Return a recipe's keys as YAML, in their order, small mappings on one line."""
    return yaml.dump(
        document,
        Dumper=_Dumper,
        default_flow_style=None,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )


def render_starter(name: str, where: str | None = None) -> str:
    """Return a commented recipe to start from; `where` is how to type it, if not its name."""
    return STARTER.format(name=name, where=where or name)


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe file, for editors that check YAML."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **RecipeDocument.model_json_schema(),
        "title": "loco recipe",
    }
