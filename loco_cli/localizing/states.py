"""
The states that causal tracing restores, and what it costs, from headers and tokenizers alone.
"""

from loco_cli.errors import CheckpointError, RequestError, printable
from loco_cli.interventions import UNET
from loco_cli.localizing import causal_trace
from loco_cli.localizing.causal_trace import State, TracedPrompt, TraceTrial
from loco_cli.models.locate import LocatedModel, check_steps
from loco_cli.models.tokenizers import tokenizers_of
from loco_cli.plan import PlannedRuns
from loco_cli.protocol.seeds import localize_seeds
from loco_cli.recipe import EditEntry, LocalizeSettings, Recipe
from loco_cli.trace import Component

SMALLEST_BATCH = 2  # of runs that restore states of the UNet: the clean one rides along


def check_trace(located: LocatedModel, settings: LocalizeSettings) -> None:
    """Raise where a tracing cannot be made as asked."""
    if settings.pooled:
        raise RequestError(
            "causal tracing swaps no prompt, so there is no pooled one", "leave `--pooled` out"
        )
    if settings.noise == 0:
        raise RequestError(
            "a noise of 0 corrupts nothing, so nothing can be restored", "give `--noise` above 0"
        )
    if not located.has_encoders:
        raise CheckpointError(
            f"`{printable(located.path)}` has not all of its text encoders, whose words are "
            "corrupted",
            "give the whole checkpoint",
        )
    check_steps(settings.steps)


def component_of(settings: LocalizeSettings) -> Component:
    """Return where states are restored."""
    return settings.component or "text-encoder"


def level_of(settings: LocalizeSettings) -> float:
    """Return the noise, in standard deviations of the word embeddings."""
    return causal_trace.DEFAULT_LEVEL if settings.noise is None else settings.noise


def states_of(located: LocatedModel, component: Component) -> tuple[State, ...]:
    """Return the states of a model in execution order; of several encoders one after another."""
    names = located.checkpoint.names
    if component == UNET:
        return causal_trace.unet_states(names(located.spec.network), located.spec.module_paths)
    return tuple(
        state
        for encoder in located.spec.context.encoders
        for state in causal_trace.encoder_states(encoder, names(encoder.component))
    )


def trials_of(
    located: LocatedModel, entry: EditEntry, settings: LocalizeSettings
) -> tuple[TraceTrial, ...]:
    """Return the trials of one concept: its source prompts, every seed, every state."""
    return causal_trace.plan(
        _traced_prompts(located, entry),
        localize_seeds(settings.seeds),
        states_of(located, component_of(settings)),
        level_of(settings),
    )


def price_of(located: LocatedModel, recipe: Recipe, batch_size: int | None = None) -> PlannedRuns:
    """Return what the tracing of every concept takes, at most where the batch size is not known."""
    settings, spec = recipe.localize, located.spec
    steps, guidance = spec.sampling(settings.steps, settings.guidance)
    n_runs = n_drawn = 0
    for entry in recipe.edits:
        trials = trials_of(located, entry, settings)
        n_runs += len({trial.run for trial in trials})
        batches = causal_trace.batches_of(trials, batch_size or SMALLEST_BATCH)
        n_drawn += sum(len(batch.drawn) for batch in batches)
    n_evaluations = PlannedRuns.of(n_drawn, (steps, guidance)).unet_evaluations
    return PlannedRuns(n_pictures=n_runs, unet_evaluations=n_evaluations)


def _traced_prompts(located: LocatedModel, entry: EditEntry) -> tuple[TracedPrompt, ...]:
    tokenizers, encoders = tokenizers_of(located), located.spec.context.encoders
    limit = min(tokenizer.limit for tokenizer in tokenizers)
    prompts = []
    for pair in entry.localize_pairs:
        tokens = tokenizers[0].read(pair.source)
        subject = tokens.positions_of(pair.subject)
        if not subject:
            raise RequestError(f"prompt `{pair.source}` holds no token of `{pair.subject}`")
        places = causal_trace.places_of(subject, tokenizers[0].start, tokens.end, limit)
        is_causal = all(encoder.is_causal for encoder in encoders)
        prompts.append(TracedPrompt(pair.source, subject, places, is_causal))
    return tuple(prompts)
