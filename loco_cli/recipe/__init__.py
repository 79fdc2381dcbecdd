"""
Recipes: YAML to frozen records and back, and the catalog that finds them.

`load_recipe` reads a file's text, `read_recipe` whatever a command was given.
"""

from loco_cli.recipe.catalog import CatalogEntry, entries, find, read_recipe, user_folder
from loco_cli.recipe.load import (
    Override,
    load_recipe,
    recipe_from_text,
    recipe_schema,
    render_recipe,
    render_starter,
    slug,
)
from loco_cli.recipe.record import (
    AUTO_NEURONS,
    EditEntry,
    EditSettings,
    EvaluateSettings,
    LocalizeSettings,
    Recipe,
)
from loco_cli.recipe.values import Ridge

__all__ = [
    "AUTO_NEURONS",
    "CatalogEntry",
    "EditEntry",
    "EditSettings",
    "EvaluateSettings",
    "LocalizeSettings",
    "Override",
    "Recipe",
    "Ridge",
    "entries",
    "find",
    "load_recipe",
    "read_recipe",
    "recipe_from_text",
    "recipe_schema",
    "render_recipe",
    "render_starter",
    "slug",
    "user_folder",
]
