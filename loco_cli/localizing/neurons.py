"""The neurons that respond to a concept, and the effect of fixing them at neutral values."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

from loco_cli.concept import PromptPair
from loco_cli.editing.methods import layers_from_recipe
from loco_cli.editing.neurons import check_neurons
from loco_cli.errors import MachineError
from loco_cli.interventions import FixChannels, Run, SwapPrompt
from loco_cli.layers import LayerSet
from loco_cli.localization import (
    ConceptName,
    LayerName,
    Localization,
    LocalizationRun,
    ModelName,
    Neuron,
    Neurons,
    PromptNames,
    SwapPicture,
    WindowScore,
    better_direction,
    effect,
)
from loco_cli.localizing import locogen
from loco_cli.localizing.methods import Cost, GivenLayers, check_search
from loco_cli.localizing.runs import SearchContext
from loco_cli.methods import FIND_NEURONS, LOCOGEN
from loco_cli.models.locate import LocatedModel
from loco_cli.plan import PlannedRuns
from loco_cli.protocol.seeds import localize_seeds
from loco_cli.recipe.record import EditEntry, Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from loco_cli.editing.neurons import RankedNeurons


def check(located: LocatedModel, recipe: Recipe, layers_of: GivenLayers = None) -> None:
    """Raise an error if the settings do not fit the model."""
    _ = located.encoder_model
    check_neurons(located, recipe, layers_of or layers_from_recipe(located, recipe))
    check_search(located, recipe.localize)


def cost(
    located: LocatedModel,
    recipe: Recipe,
    layers_of: GivenLayers = None,
    *,
    allows_sets: bool = False,
    batch_size: int | None = None,
) -> Cost:
    """Return the costs of finding the layers, unless they are named, and of fixing neurons."""
    is_named = layers_of or layers_from_recipe(located, recipe)
    searched = (None, None) if is_named else locogen.cost(located, recipe)
    settings = recipe.localize
    n_pairs = sum(len(entry.localize_pairs) for entry in recipe.edits)
    sampling = located.spec.sampling(settings.steps, settings.guidance)
    return searched[0], PlannedRuns.of(4 * n_pairs * settings.seeds, sampling)


def run(
    context: SearchContext,
    recipe: Recipe,
    layers_of: GivenLayers = None,
    *,
    allows_sets: bool = False,
) -> tuple[LocalizationRun, ...]:
    """
    List the neurons of each concept, and measure the effect of fixing them.

    Args:
        context: The loaded model and its scorer.
        recipe: The recipe, with the concepts and the settings.
        layers_of: The layers of each concept. None takes those of the recipe; if it names none,
            LocoGen finds them first.
        allows_sets: Unused; part of the interface.

    Returns:
        One localization with `neurons` for each edit of the recipe.
    """
    from loco_cli.editing.neurons import rank_neurons  # imports torch
    from loco_cli.models.encoders import encoder_of

    layers_of = layers_of or layers_from_recipe(context.located, recipe)
    n_before = [0] * len(recipe.edits)
    if layers_of is None:
        settings = recipe.localize.model_copy(update={"method": LOCOGEN.name})
        runs = locogen.run(context, recipe.model_copy(update={"localize": settings}))
        layers_of = tuple(run.localization.layer_set for run in runs)
        n_before = [run.localization.unet_evaluations for run in runs]
    ranked = rank_neurons(context.located, recipe, layers_of, encoder_of(context.located))
    return tuple(
        _NeuronTrial(context, recipe, recipe.edits[i], layers, ranked[i]).run(n_before[i])
        for i, layers in enumerate(layers_of)
    )


@dataclass
class _NeuronTrial:
    """
    The trial of one concept's neurons: four runs for each prompt pair and seed.

    The runs are the original, the full swap, the swap of the layers, and the fixed channels.
    `scores` and `pictures` grow while it runs.
    """

    context: SearchContext
    recipe: Recipe
    entry: EditEntry
    layers: LayerSet
    ranked: Sequence["RankedNeurons"]
    scores: dict[str, list[float]] = field(default_factory=dict)
    pictures: list[SwapPicture] = field(default_factory=list)

    @property
    def all_layers(self) -> LayerSet:
        return LayerSet(range(self.context.located.spec.n_layers))

    @property
    def seeds(self) -> tuple[int, ...]:
        return localize_seeds(self.recipe.localize.seeds)

    def run(self, n_evaluations_before: int) -> LocalizationRun:
        """Draw and score all runs; the cost includes the evaluations of an earlier layer search."""
        from loco_cli.sampling.sample import count_unet_calls, sample  # imports diffusers

        started, context, settings = time.monotonic(), self.context, self.recipe.localize
        steps, guidance = context.located.spec.sampling(settings.steps, settings.guidance)
        runs = [
            (name, pair, run)
            for pair in self.entry.localize_pairs
            for seed in self.seeds
            for name, run in self._runs_of(pair, seed)
        ]
        n_calls = len(runs) * count_unet_calls(context.pipeline, steps)
        images = sample(
            context.pipeline,
            [run for _, _, run in runs],
            steps=steps,
            guidance=guidance,
            batch_size=context.batch_size,
            tick=context.events.ticker(f"neurons of {self.entry.subject}", n_calls),
        )
        for (name, pair, run), image in zip(runs, images, strict=True):
            self._record(name, pair, run.seed, image)
        n_evaluations = n_evaluations_before + n_calls * (2 if guidance > 1 else 1)
        seconds = round(time.monotonic() - started, 3)
        found = self._document((steps, guidance), n_evaluations, seconds)
        return LocalizationRun(found, tuple(self.pictures), context.located.spec.module_paths)

    def _runs_of(self, pair: PromptPair, seed: int) -> tuple[tuple[str, Run], ...]:
        pooled = self.recipe.localize.pooled
        fixed = tuple(ranked.fixed for ranked in self.ranked)
        return (
            ("original", Run(pair.source, seed)),
            ("all", Run(pair.source, seed, SwapPrompt(self.all_layers, pair.target, pooled))),
            ("layers", Run(pair.source, seed, SwapPrompt(self.layers, pair.target, pooled))),
            ("held", Run(pair.source, seed, fixed=fixed)),
        )

    def _record(self, name: str, pair: PromptPair, seed: int, image: "Tensor") -> None:
        from loco_cli.sampling.sample import to_png

        caption = pair.target if self.entry.kind == "fact" else pair.source
        (score,) = self.context.scorer.scores(image[None], [caption])
        if score != score:
            raise MachineError(
                f"a picture of `{pair.source}` contains NaN or infinity", "try `--dtype float32`"
            )
        self.scores.setdefault(name, []).append(score)
        shown = {"original": (), "all": self.all_layers, "held": self.layers}
        if seed == 0 and name in shown:
            of, png = (pair.source, pair.target, seed), to_png(image)
            self.pictures.append(SwapPicture(*of, shown[name], score, png))

    def _document(
        self, sampling: tuple[int, float], n_evaluations: int, seconds: float
    ) -> Localization:
        located, concept = self.context.located, self.entry.concept
        settings, pairs = self.recipe.localize, self.entry.localize_pairs
        original, target = fmean(self.scores["original"]), fmean(self.scores["all"])
        held = WindowScore.of(self.layers, self.scores["held"], original=original, target=target)
        layer_effect = effect(fmean(self.scores["layers"]), original=original, target=target)
        paths = located.spec.module_paths
        return Localization(
            model=ModelName(name=located.name, family=located.spec.family.name),
            concept=ConceptName(kind=concept.kind, subject=concept.subject, to=concept.to),
            method=FIND_NEURONS.name,
            search=settings.search,
            width=len(self.layers),
            layer_range=held.layer_range,
            effect=held.effect,
            better=better_direction(concept.kind),
            layers=tuple(LayerName(layer=layer, module_path=paths[layer]) for layer in self.layers),
            scores=(held,),
            original_score=original,
            target_score=target,
            prompts=tuple(PromptNames(source=p.source, target=p.target) for p in pairs),
            seeds=self.seeds,
            steps=sampling[0],
            guidance=sampling[1],
            scorer=self.context.scorer.name,
            unet_evaluations=n_evaluations,
            seconds=seconds,
            pooled_swapped=settings.pooled if located.spec.unreachable else None,
            neurons=Neurons(
                position=self.recipe.edit.position,
                layer_effect=layer_effect,
                channels=tuple(neuron for ranked in self.ranked for neuron in _records_of(ranked)),
            ),
        )


def _records_of(ranked: "RankedNeurons") -> tuple[Neuron, ...]:
    fixed: FixChannels = ranked.fixed
    return tuple(
        Neuron(layer=ranked.layer, module_path=fixed.module_path, channel=channel, z=z, value=value)
        for channel, z, value in zip(fixed.channels, ranked.z, fixed.values, strict=True)
    )
