"""An edit of a model as a plan resolves it and a search completes it."""

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
    A recipe's edit of a model, with the layers of each concept: `ModelEdit(located, recipe, None)`.

    `layers_of` is None until the layers are found, and has an empty entry for an edit of the text
    encoder. `localizations` found the layers, `strength` the ridge; both are empty where the recipe
    names these.
    """

    located: LocatedModel
    recipe: Recipe
    layers_of: tuple[LayerSet, ...] | None
    localizations: tuple[LocalizationRun, ...] = ()
    strength: Strength | None = None

    @property
    def title(self) -> str:
        """What the edit does, in a few words."""
        return self.recipe.title or self.recipe.name

    @property
    def tensors(self) -> tuple[TensorKey, ...]:
        """The tensors that change, as far as the layers are known."""
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
        """Return the edits as the document of a plan lists them."""
        entries, paths = self.recipe.edits, self.located.spec.module_paths
        return tuple(
            PlannedEdit.of(entry.concept, entry.edit_pairs, layers, paths)
            for entry, layers in zip(entries, self.layers_of or (None,) * len(entries), strict=True)
        )

    @property
    def solved_recipe(self) -> Recipe:
        """The recipe with the ridge that pictures chose, if they did."""
        taken = self.strength and self.strength.chosen_trial
        return with_ridge(self.recipe, taken.ridge) if taken else self.recipe


def with_ridge(recipe: Recipe, ridge: str) -> Recipe:
    """Return the recipe with another price of moving."""
    settings = recipe.edit.model_copy(update={"ridge": parse_ridge(ridge)})
    return recipe.model_copy(update={"edit": settings})
