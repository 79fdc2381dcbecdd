"""Localizations for tests: one concept with a method, checked, loaded and run."""

from types import SimpleNamespace

from loco_cli.events import SILENT_EVENTS
from loco_cli.localizing.methods import layer_finder_of, module_of
from loco_cli.localizing.runs import SearchContext


def localize(context, entry, settings, *, allows_sets=False):
    """Return the run of one concept, on what is loaded."""
    recipe = SimpleNamespace(edits=(entry,), localize=settings)
    (found,) = module_of(settings).run(context, recipe, allows_sets=allows_sets)
    return found


def find_layers(located, recipe, machine, events=SILENT_EVENTS):
    """Return the layers of every concept of a recipe, with pictures."""
    finder = layer_finder_of(recipe.localize)
    finder.check(located, recipe)
    return finder.run(SearchContext.load(located, machine, events), recipe)
