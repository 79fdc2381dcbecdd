"""Sentences, layers, figures and foreign text as the terminal and the reports write them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from loco_cli.errors import printable, size_words
from loco_cli.evaluation import Evaluation
from loco_cli.events import EditPreview
from loco_cli.layers import LayerSet
from loco_cli.localization import KNOWN_SCALE, Localization
from loco_cli.manifest import EditRecord, Manifest, Strength
from loco_cli.methods import LOCALIZE_METHODS
from loco_cli.plan import Plan, PlannedRuns
from loco_cli.recipe.record import LocalizeSettings

_NONE = "–"
HALF = 0.5  # a share of the full swap's effect under which no range is named the concept's
_MAX_LOST = 0.05  # share of a change that may be lost to rounding without a warning
# drift of unrelated prompts that is warned of. Of 19 edits of `tiny` that were made too strong on
# purpose, the six that kept less than nine tenths of what they should drifted by 0.9 to 2.7, the
# others by 0.7 at most; one in the paper's form is not found out, which kept 0.83 and drifted by
# 0.4. That was before edits kept everyday prompts: one that does drifts less however low its ridge
_MAX_DRIFT = 0.8


def layer_span(layers: Sequence[int]) -> str:
    """Return layers in short, ends included: `8`, `8–9`, `1–3, 10`; nothing is `original`."""
    if not layers:
        return "original"
    runs: list[list[int]] = []
    for layer in LayerSet(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def layer_words(layers: Sequence[int]) -> str:
    """Return layers in a sentence: `layer 8`, `layers 8 and 9`, `layers 8 to 11`."""
    found = LayerSet(layers)
    if len(found) == 1:
        return f"layer {found[0]}"
    if len(found) > 2 and found.range:
        return f"layers {found[0]} to {found[-1]}"
    return f"layers {', '.join(map(str, found[:-1]))} and {found[-1]}" if found else "no layers"


def place_words(layers: Sequence[int]) -> str:
    """Return the place of an edit in a sentence: its layers, or the text encoder if it has none."""
    return layer_words(layers) if layers else "the text encoder"


def range_words(layers: Sequence[int]) -> str:
    """Return layers as the recipe has them: `layer_range: [8, 10]` or `layers: [1, 2, 10]`."""
    found = LayerSet(layers)
    return f"layer_range: {list(found.range)}" if found.range else f"layers: {list(found)}"


def _shortfall(found: Localization, wanted: float | None) -> str | None:
    """Return a sentence where the layers found do too little, or less than the effect `wanted`."""
    where = f"{layer_words(found.layer_set)} ({range_words(found.layer_set)})"
    does = f"the best, {where}, makes {found.effect or 0:.0%} of what swapping all layers does"
    if not found.does(HALF):
        return f"no layer range holds `{found.concept.subject}`: {does}"
    if wanted is not None and not found.is_enough(wanted):
        return f"no layer range reaches `localize.effect`, which is {wanted:.0%}: {does}"
    return None


def _accepted_below_target(found: Localization, wanted: float | None) -> str | None:
    """Return a sentence where less than `wanted` was taken, as far as the scale is known."""
    if wanted is None or found.does(wanted) or not found.is_enough(wanted):
        return None
    return (
        f"{layer_words(found.layer_set)} made {found.effect or 0:.0%} of what swapping all layers "
        f"does, not clearly short of {wanted:.0%}: what these do is known to within "
        f"{found.scale_error or 0:.1%} of itself"
    )


def _noncontiguous(found: Localization, wanted: float) -> str | None:
    """Return a sentence where no range was enough, and layers were found that do not touch."""
    if found.window is None or found.layer_range:
        return None
    where = f"{layer_words(found.layer_set)} ({range_words(found.layer_set)})"
    return (
        f"no layer range reaches `localize.effect`, which is {wanted:.0%}: "
        f"`{found.concept.subject}` is edited in the smallest set found that does, {where}"
    )


def strength_words(strength: Strength) -> str:
    """Return a sentence on the strength that pictures chose, with the figures of what was taken."""
    taken = strength.taken
    if taken is None:
        return "strength: a constant, since no picture could tell"
    shares = {"forgotten": taken.forgotten, "became": taken.became, "kept": taken.kept}
    figures = ", ".join(f"{name} {percent(share)}" for name, share in shares.items())
    tried = len(strength.tried)
    return f"strength {taken.ridge}, of {tried} tried: {figures} of pictures that it was chosen by"


def too_weak(strength: Strength | None) -> tuple[str, ...]:
    """Return a sentence where a measured strength is not enough, or could not be measured."""
    if strength is None:
        return ()
    if strength.taken is None:
        return (
            "the strength could not be measured: the model draws nothing of one of the concepts "
            "that its scorer recognises",
        )
    if strength.taken.reaches(strength.target):
        return ()
    return (
        f"no strength that was tried reaches `edit.target`, which is {strength.target:.0%}; "
        "the best of them is taken",
    )


def percent(share: float | None) -> str:
    """Return a share as people read it, `97.5%`; an unknown one is a dash."""
    if share is None:
        return _NONE
    return f"{100 * share:.1f}".removesuffix(".0").replace("-", "−") + "%"


def score_words(score: float | None) -> str:
    """Return a score to three decimals; an unknown one is a dash."""
    return _NONE if score is None else f"{score:.3f}".replace("-", "−")


def small(figure: float | None) -> str:
    """Return a figure that may be tiny, to three digits; an unknown one is a dash."""
    return _NONE if figure is None else f"{figure:.3g}"


def listed(words: Iterable[str]) -> str:
    """Return words as a list in a sentence: `a, b and c`."""
    found = list(words)
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


def writable(text: str) -> str:
    """Return `text` with what UTF-8 cannot hold written as an escape: a name's odd bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


def plan_lines(plan: Plan) -> tuple[str, ...]:
    """Return the lines that a terminal shows of a plan."""
    method = LOCALIZE_METHODS.get(plan.method)
    sought = "states" if method and method.finds == "states" else "layers"
    lines = [f"{plan.command} with {plan.model} ({plan.family}) at {plan.path}"]
    for edit in plan.edits:
        where = f"{sought} to be found" if edit.layers is None else place_words(edit.layers)
        lines.append(f"  {edit.kind} `{edit.subject}` → `{edit.to or 'nothing'}`, {where}")
        lines += [f"    {a!r} → {b!r}" for a, b in zip(edit.source, edit.target, strict=True)]
    if plan.localize:
        verb = "find" if any(edit.layers is None for edit in plan.edits) else "score"
        lines.append(f"  {verb} the {sought}: at most {cost_words(plan.localize)}")
    if plan.strength:
        lines.append(f"  choose the strength: at most {cost_words(plan.strength)}")
    if plan.pictures:
        lines.append(f"  make pictures: {cost_words(plan.pictures)}")
    lines += [f"  change {name}" for name in plan.tensors]
    if plan.output:
        size = f" ({size_words(plan.output_bytes)})" if plan.output_bytes else ""
        form = " as a LoRA" if plan.form == "lora" else ""
        lines.append(f"  write {plan.output}{size}{form}")
    return (*lines, *(f"  not reached: {limit}" for limit in plan.limits))


def borrowed_encoders(model: str, lender: str | None) -> tuple[str, ...]:
    """Return a sentence where the prompts of an edit are read with another model's encoders."""
    if lender is None:
        return ()
    return (
        f"`{model}` has not all of its text encoders: prompts are read with those of "
        f"`{lender}`, and the edit is made for those",
    )


def search_costs(localize: PlannedRuns | None, strength: PlannedRuns | None) -> tuple[str, ...]:
    """Return a sentence for each search that comes before an edit, with its cost."""
    said = []
    if localize:
        said.append(f"first finding the layers: at most {cost_words(localize)}")
    if strength:
        first = "then" if localize else "first"
        said.append(f"{first} choosing the strength: at most {cost_words(strength)}")
    return tuple(said)


def cost_words(runs: PlannedRuns) -> str:
    """Return a cost: "272 pictures, 10880 UNet evaluations"."""
    return f"{runs.n_pictures} pictures, {runs.unet_evaluations} UNet evaluations"


def localization_sentences(found: Localization, wanted: float | None = None) -> tuple[str, ...]:
    """
    Return what a localization says, in sentences.

    One that found nothing says so, and one that found less than the effect `wanted`.
    """
    span = abs(found.original_score - found.target_score)
    noise = max((score.stderr for score in found.scores), default=0.0)
    if span == 0 or span < 2 * noise:
        return (
            f"swapping every layer hardly changes the score ({found.original_score:.3f} to "
            f"{found.target_score:.3f}): the model, or the scorer, does not know this concept",
        )
    where = f"{layer_words(found.layer_set)} ({range_words(found.layer_set)})"
    share = f"{found.effect or 0.0:.0%} of what swapping all layers does"
    paths = tuple(f"layer {layer.layer} is {layer.module_path}" for layer in found.layers)
    details = (*paths, *_how_sure(found), *_how_vague(found, wanted), *_past_the_layers(found))
    if found.neurons:
        whole = found.neurons.layer_effect or 0.0
        n, n_all = len(found.neurons.channels), 2 * len(found.layers)
        return (
            f"holding {n} channels of {n_all} projections in {where} makes {share}; "
            f"swapping these layers whole makes {whole:.0%}",
            *details,
        )
    if found.ranking is None and len(found.scores) == 1:
        return (f"swapping {where} makes {share}{_give_or_take(found)}", *details)
    lacking = _shortfall(found, wanted)
    if lacking:
        return (lacking, *details)
    how_far = _give_or_take(found) if found.window else ""
    return (f"the concept lies in {where}: swapping there makes {share}{how_far}", *details)


def _give_or_take(found: Localization) -> str:
    chosen = next((one for one in found.scores if one.layer_set == found.layer_set), None)
    if chosen is None or chosen.n < 2:
        return ""
    return f", give or take {chosen.stderr / abs(found.original_score - found.target_score):.0%}"


def _how_sure(found: Localization) -> tuple[str, ...]:
    """Return what a search that leaves windows out can say for itself."""
    if found.ranking is None:
        return ()
    if LOCALIZE_METHODS[found.method].ranks:
        return (
            "of the layers to which the subject adds most these do most; "
            "`--method locogen` tries more",
        )
    n_layers, n_tried = len(found.ranking), len(found.scores)
    if found.window:
        return _how_small(found)
    tried = f"{n_tried} ranges were tried of those that {n_layers} layers have"
    if found.margin is None:
        return (f"{tried}; `--search exhaustive` tries all",)
    ahead = f"the best is {found.margin:.1f} standard errors ahead of the next as wide"
    return (f"{tried}, {ahead}; `--search exhaustive` tries all",)


def _how_vague(found: Localization, wanted: float | None) -> tuple[str, ...]:
    """Return a sentence where what all layers do, and so every share of it, is not well known."""
    taken, error = _accepted_below_target(found, wanted), found.scale_error or 0.0
    if taken:
        return (f"{taken}; more `--seeds` tell more",)
    if error <= KNOWN_SCALE:
        return ()
    return (
        f"what swapping all layers does differs from seed to seed, so that shares are known to "
        f"within {error:.0%} of themselves; more `--seeds` tell more",
    )


def _how_small(found: Localization) -> tuple[str, ...]:
    """Return what a search of sets can say for its size."""
    tried = f"{len(found.scores)} sets were tried"
    fewer = [
        one.effect or 0.0
        for one in found.scores
        if len(one.layer_set) == len(found.layers) - 1 and set(one.layer_set) < set(found.layer_set)
    ]
    if len(fewer) < len(found.layers):
        return (f"{tried}; a smaller one may be enough",)
    return (f"{tried}; without any one of these layers it is {max(fewer):.0%} at most",)


def _past_the_layers(found: Localization) -> tuple[str, ...]:
    """Return whether the prompt was swapped where a model pools it, past keys and values."""
    if found.pooled_swapped is None:
        return ()
    if found.pooled_swapped:
        return ("the pooled prompt, which `add_embedding` reads, was swapped with every range",)
    return (
        "keys and values alone were swapped: the pooled prompt, which `add_embedding` reads, "
        "stayed as it was (`--pooled` swaps it as well)",
    )


def edit_doubts(found: Sequence[Localization], settings: LocalizeSettings) -> tuple[str, ...]:
    """Return a sentence for each localization that did not find enough, or not in a range."""
    said = [_shortfall(one, settings.wanted) for one in found]
    said += [_accepted_below_target(one, settings.wanted) for one in found]
    if settings.window is None:
        said += [_noncontiguous(one, settings.effect) for one in found]
    return tuple(sentence for sentence in said if sentence)


def edit_limits(manifest: Manifest) -> tuple[str, ...]:
    """Return a sentence for each thing that a written edit does not reach."""
    said = [f"the edit does not reach {limit}" for limit in manifest.model.unreachable]
    carried = ", ".join(f"`{printable(path)}`" for path in manifest.base.carried)
    if carried and manifest.output.kind == "checkpoint":
        said.append(f"these weights are copied as they are, and not edited: {carried}")
    return tuple(said)


def preview_sentences(preview: EditPreview) -> tuple[str, ...]:
    """Return a sentence for each edit, on its strength, and on what it is to leave alone."""
    measured = (strength_words(preview.strength),) if preview.strength else ()
    return (*map(_edit_sentence, preview.edits), *measured, *_drift_sentence(preview))


def preview_warnings(preview: EditPreview) -> tuple[str, ...]:
    """Return a sentence for each thing that speaks against an edit."""
    said = []
    worst = preview.worst_rounded
    if worst.rounding_error > _MAX_LOST:
        said.append(
            f"rounding to {worst.dtype} loses {worst.rounding_error:.0%} of the change of "
            f"`{worst.key}`"
        )
    if preview.drift and preview.drift.unrelated > _MAX_DRIFT:
        said.append(
            f"the edit may harm what it is not about: unrelated prompts drift by "
            f"{preview.drift.unrelated:.0%}; a higher `--ridge` or fewer layers are gentler"
        )
    return (*said, *too_weak(preview.strength))


def written_files(root: Path, manifest: str, undo: str, report: str | None) -> str:
    """Return a sentence on what an edit has written; a LoRA has no report."""
    if report is None:
        return f"wrote {root} and its manifest {manifest}; the base stays as it is"
    return f"wrote {root}, its manifest {manifest}, its undo file {undo} and its report {report}"


def _edit_sentence(edit: EditRecord) -> str:
    neurons = "" if edit.neurons is None else f", {edit.neurons} neurons a projection"
    residual = "" if edit.residual is None else f", residual {edit.residual:.0%}"
    return (
        f"{edit.kind} `{edit.subject}` → `{edit.to or 'nothing'}` "
        f"in {place_words(edit.layer_set)}: "
        f"{edit.n_keys} keys, ridge {edit.ridge or 0:.3g}{neurons}{residual}"
    )


def _drift_sentence(preview: EditPreview) -> tuple[str, ...]:
    drift = preview.drift
    if drift is None:
        return ()
    kept = drift.preserved
    preserved = "" if kept is None else f"preserved prompts drift by {kept:.1%}, "
    return (
        f"{preserved}unrelated ones by {drift.unrelated:.1%}, most of them "
        f"`{drift.worst}` by {drift.worst_drift:.1%}",
    )


def figures_sentence(evaluation: Evaluation) -> str:
    """Return the figures as one line, each with its 95 % interval."""
    figures = {**evaluation.figures, "harmonic_mean": evaluation.harmonic_mean}
    words = []
    for name, value in figures.items():
        share = "–" if value is None else f"{value:.2f}"
        between = evaluation.intervals.get(name)
        ends = f" ({between[0]:.2f}–{between[1]:.2f})" if between else ""
        words.append(f"{name.replace('_', ' ')} {share}{ends}")
    if evaluation.unlabelled:
        before, after = evaluation.unlabelled
        words.append(f"score of unrelated prompts {before:.3f} → {after:.3f}")
    return ", ".join(words)
