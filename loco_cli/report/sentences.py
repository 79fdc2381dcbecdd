"""Sentences on a result, as the terminal and the reports say them."""

from loco_cli.events import EditPreview
from loco_cli.manifest import EditRecord
from loco_cli.report.words import place_words, strength_words, too_weak

MAX_LOST = 0.05  # share of a change that may be lost to rounding without a warning
# drift of unrelated prompts that is warned of. Of 19 edits of `tiny` that were made too strong on
# purpose, the six that kept less than nine tenths of what they should drifted by 0.9 to 2.7, the
# others by 0.7 at most; one in the paper's form is not found out, which kept 0.83 and drifted by
# 0.4. That was before edits kept everyday prompts: one that does drifts less however low its ridge
MAX_DRIFT = 0.8


def preview_sentences(preview: EditPreview) -> tuple[str, ...]:
    """Return a sentence for each edit, on its strength, and on what it is to leave alone."""
    measured = (strength_words(preview.strength),) if preview.strength else ()
    return (*map(_edit_sentence, preview.edits), *measured, *_drift_sentence(preview))


def preview_warnings(preview: EditPreview) -> tuple[str, ...]:
    """Return a sentence for each thing that speaks against an edit."""
    said = []
    if preview.lost > MAX_LOST:
        said.append(
            f"rounding to {preview.lost_dtype} loses {preview.lost:.0%} of the change of "
            f"`{preview.lost_key}`"
        )
    if preview.drift and preview.drift.unrelated > MAX_DRIFT:
        said.append(
            f"the edit may harm what it is not about: unrelated prompts drift by "
            f"{preview.drift.unrelated:.0%}; a higher `--ridge` or fewer layers are gentler"
        )
    return (*said, *too_weak(preview.strength))


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
