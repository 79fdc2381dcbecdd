"""The edit of one model: a plan creates it, and a search fills in layers and strength."""

from dataclasses import dataclass

from loco_cli.checkpoint.reader import TensorSlot
from loco_cli.editing.methods import TensorKey, module_of
from loco_cli.layers import LayerSet
from loco_cli.localization import LocalizationRun
from loco_cli.manifest import Strength
from loco_cli.models.locate import LocatedModel
from loco_cli.plan import PlannedEdit
from loco_cli.recipe.record import Recipe
from loco_cli.recipe.values import parse_ridge


@dataclass(frozen=True)
class ModelEdit:
    """
    The edit of a model by a recipe: `ModelEdit(located, recipe, layers_of=None)`.

    Args:
        located: The model to edit.
        recipe: The recipe, with the ridge or `auto`.
        layers_of: The layers of each edit, empty for an edit of the text encoder. None if a search
            has yet to find them.
        localizations: The searches that found the layers, empty if the recipe names them.
        strength: The trials that chose the ridge, None if the recipe sets it.
    """

    located: LocatedModel
    recipe: Recipe
    layers_of: tuple[LayerSet, ...] | None
    localizations: tuple[LocalizationRun, ...] = ()
    strength: Strength | None = None

    @property
    def title(self) -> str:
        """A short description of the edit."""
        return self.recipe.title or self.recipe.name

    @property
    def tensors(self) -> tuple[TensorKey, ...]:
        """The tensors that change; those of layers only once the layers are known."""
        return module_of(self.recipe.edit).tensors(self.located, self.recipe, self.layers_of or ())

    @property
    def slots(self) -> tuple[TensorSlot, ...]:
        """Every copy of these tensors."""
        return tuple(
            slot
            for component, name in self.tensors
            for slot in self.located.checkpoint.slots(component, name)
        )

    def planned_edits(self) -> tuple[PlannedEdit, ...]:
        """Return the entries of the edits in the plan document."""
        entries, paths = self.recipe.edits, self.located.spec.module_paths
        return tuple(
            PlannedEdit.of(entry.concept, entry.edit_pairs, layers, paths)
            for entry, layers in zip(entries, self.layers_of or (None,) * len(entries), strict=True)
        )

    @property
    def solved_recipe(self) -> Recipe:
        """The recipe with the ridge that the strength trials chose, if there were any."""
        chosen = self.strength and self.strength.chosen_trial
        return with_ridge(self.recipe, chosen.ridge) if chosen else self.recipe


def with_ridge(recipe: Recipe, ridge: str) -> Recipe:
    """Return a copy of a recipe with another ridge."""
    settings = recipe.edit.model_copy(update={"ridge": parse_ridge(ridge)})
    return recipe.model_copy(update={"edit": settings})
