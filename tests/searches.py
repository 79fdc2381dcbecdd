"""Localizations for tests, from loaded models and from located ones."""

from types import SimpleNamespace

from loco_cli.events import SILENT_EVENTS
from loco_cli.localizing.methods import layer_finder_of, module_of
from loco_cli.localizing.runs import SearchContext


def localize(context, entry, settings, *, allows_sets=False):
    """Localize one concept with a loaded model."""
    recipe = SimpleNamespace(edits=(entry,), localize=settings)
    (found,) = module_of(settings).run(context, recipe, allows_sets=allows_sets)
    return found


def find_layers(located, recipe, machine, events=SILENT_EVENTS):
    """Check a recipe, load its model, and localize every concept."""
    finder = layer_finder_of(recipe.localize)
    finder.check(located, recipe)
    return finder.run(SearchContext.load(located, machine, events), recipe)
