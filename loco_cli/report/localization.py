"""The sentences about a localization that the terminal and the reports show."""

from collections.abc import Sequence

from loco_cli.localization import MAX_SCALE_ERROR, Localization
from loco_cli.methods import LOCALIZE_METHODS
from loco_cli.recipe.record import LocalizeSettings
from loco_cli.report.sentences import layer_words, range_words

MIN_NAMED_EFFECT = (
    0.5  # share of the effect of swapping all layers; below it no range holds the concept
)


def localization_sentences(
    localization: Localization, wanted: float | None = None
) -> tuple[str, ...]:
    """
    Describe a localization in sentences, the conclusion first.

    Args:
        localization: The result of a search or of a single swap.
        wanted: The effect that the layers should reach, as a share of the full swap's effect. The
            first sentence says so if they miss it.

    Returns:
        The conclusion, the module path of each chosen layer, and the limits of the search. If the
        full swap does not change the score, a single sentence.
    """
    span = abs(localization.original_score - localization.target_score)
    noise = max((score.stderr for score in localization.scores), default=0.0)
    if span == 0 or span < 2 * noise:
        return (
            f"swapping all layers barely changes the score ({localization.original_score:.3f} to "
            f"{localization.target_score:.3f}): the model or the scorer does not know this concept",
        )
    details = (
        *(f"layer {layer.layer} is {layer.module_path}" for layer in localization.layers),
        *_search_limits(localization),
        *_scale_error_sentences(localization, wanted),
        *_pooled_embedding_sentences(localization),
    )
    return (_conclusion(localization, wanted), *details)


def localization_warnings(
    localizations: Sequence[Localization], settings: LocalizeSettings
) -> tuple[str, ...]:
    """Return a warning for each localization below the wanted effect, or not in one range."""
    warnings = [_shortfall(each, settings.required_effect) for each in localizations]
    warnings += [_accepted_below_target(each, settings.required_effect) for each in localizations]
    if settings.window is None:
        warnings += [_noncontiguous(each, settings.effect) for each in localizations]
    return tuple(warning for warning in warnings if warning)


def _conclusion(localization: Localization, wanted: float | None) -> str:
    """Return the first sentence about a localization whose full swap changes the score."""
    layers = _named_layers(localization)
    share = f"{localization.effect or 0.0:.0%}"
    effect = "of the effect of swapping all layers"
    neurons = localization.neurons
    if neurons:
        n, n_projections = len(neurons.channels), 2 * len(localization.layers)
        return (
            f"fixing {n} channels of {n_projections} projections in {layers} has {share} "
            f"{effect}; swapping these layers has {neurons.layer_effect or 0.0:.0%}"
        )
    if localization.ranking is None and len(localization.scores) == 1:
        return f"swapping {layers} has {share}{_error_words(localization)} {effect}"
    shortfall = _shortfall(localization, wanted)
    if shortfall:
        return shortfall
    error = _error_words(localization) if localization.window else ""
    pronoun = "it" if len(localization.layer_set) == 1 else "them"
    return f"the concept is in {layers}: swapping {pronoun} has {share}{error} {effect}"


def _error_words(localization: Localization) -> str:
    """Return the standard error of the chosen layers' effect, if they ran at least twice."""
    chosen = next(
        (score for score in localization.scores if score.layer_set == localization.layer_set), None
    )
    if chosen is None or chosen.n < 2:
        return ""
    span = abs(localization.original_score - localization.target_score)
    return f" (± {chosen.stderr / span:.0%})"


def _search_limits(localization: Localization) -> tuple[str, ...]:
    """Return a sentence on the candidates that a search did not try."""
    if localization.ranking is None:
        return ()
    if LOCALIZE_METHODS[localization.method].ranks:
        return (
            "these are the best of the layers to which the subject contributes most; "
            "`--method locogen` tries more",
        )
    if localization.window:
        return _smaller_sets(localization)
    n_layers, n_tried = len(localization.ranking), len(localization.scores)
    tried = f"the search tried {n_tried} of the ranges of {n_layers} layers"
    if localization.margin is None:
        return (f"{tried}; `--search exhaustive` tries all of them",)
    lead = (
        f"the best is {localization.margin:.1f} standard errors ahead of the next range of its "
        "width"
    )
    return (f"{tried}, and {lead}; `--search exhaustive` tries all of them",)


def _scale_error_sentences(localization: Localization, wanted: float | None) -> tuple[str, ...]:
    """Return a sentence if the full swap, the scale of all effects, has a large error."""
    accepted = _accepted_below_target(localization, wanted)
    if accepted:
        return (f"{accepted}; use more `--seeds` to reduce it",)
    error = localization.scale_error or 0.0
    if error <= MAX_SCALE_ERROR:
        return ()
    return (
        "the effect of swapping all layers varies between seeds, so every share has a relative "
        f"error of {error:.0%}; use more `--seeds` to reduce it",
    )


def _smaller_sets(localization: Localization) -> tuple[str, ...]:
    """Return a sentence on whether a set with one layer less would be enough."""
    tried = f"the search tried {len(localization.scores)} sets"
    n_layers, chosen = len(localization.layers), set(localization.layer_set)
    effects = [
        score.effect or 0.0
        for score in localization.scores
        if len(score.layer_set) == n_layers - 1 and set(score.layer_set) < chosen
    ]
    if len(effects) < n_layers:
        return (f"{tried}; a smaller set may be enough",)
    return (f"{tried}; without any one of these layers the effect is at most {max(effects):.0%}",)


def _pooled_embedding_sentences(localization: Localization) -> tuple[str, ...]:
    """Return a sentence on the pooled embedding, for models that read it outside the layers."""
    if localization.pooled_swapped is None:
        return ()
    if localization.pooled_swapped:
        return ("the pooled embedding, which `add_embedding` reads, was swapped with every range",)
    return (
        "only keys and values were swapped; the pooled embedding, which `add_embedding` reads, "
        "was not (add `--pooled` to swap it)",
    )


def _named_layers(localization: Localization) -> str:
    """Return the chosen layers as words and in recipe syntax."""
    layers = localization.layer_set
    return f"{layer_words(layers)} ({range_words(layers)})"


def _shortfall(localization: Localization, wanted: float | None) -> str | None:
    """Return a sentence if the chosen layers do not hold the concept or miss the wanted effect."""
    best = (
        f"the best, {_named_layers(localization)}, has {localization.effect or 0:.0%} "
        "of the effect of swapping all layers"
    )
    if not localization.reaches(MIN_NAMED_EFFECT):
        return f"no layer range holds `{localization.concept.subject}`: {best}"
    if wanted is not None and not localization.is_accepted(wanted):
        return f"no layer range reaches `localize.effect` ({wanted:.0%}): {best}"
    return None


def _accepted_below_target(localization: Localization, wanted: float | None) -> str | None:
    """Return a sentence if the effect is below `wanted`, but within the error of the scale."""
    if wanted is None or localization.reaches(wanted) or not localization.is_accepted(wanted):
        return None
    return (
        f"{layer_words(localization.layer_set)} reached {localization.effect or 0:.0%} of the "
        f"effect of swapping all layers, within the error of the required {wanted:.0%}: the "
        f"effect of swapping all layers has a relative error of {localization.scale_error or 0:.1%}"
    )


def _noncontiguous(localization: Localization, wanted: float) -> str | None:
    """Return a sentence if no range reached the wanted effect, but separate layers did."""
    if localization.window is None or localization.layer_range:
        return None
    return (
        f"no layer range reaches `localize.effect` ({wanted:.0%}): "
        f"loco edits `{localization.concept.subject}` in the smallest set that does, "
        f"{_named_layers(localization)}"
    )
