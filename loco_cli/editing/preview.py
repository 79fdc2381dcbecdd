"""What is known of an edit before anything of it is written, and what speaks against it."""

from dataclasses import dataclass

from loco_cli.drift import Drift
from loco_cli.manifest import EditRecord
from loco_cli.report.words import place_words, strength_words, too_weak
from loco_cli.strength import Strength

COARSE = 0.05  # a share of the change that may be lost to rounding without a word
# a drift of unrelated prompts. Of 19 edits of `tiny` that were made too strong on purpose, the six
# that kept less than nine tenths of what they should drifted by 0.9 to 2.7, the others by 0.7 at
# most; one in the paper's form is not found out, which kept 0.83 and drifted by 0.4. That was
# before edits kept everyday prompts: one that does drifts less however low its ridge is
STRONG = 0.8


@dataclass(frozen=True)
class WorstRounding:
    """The tensor whose change suffers most when stored: `WorstRounding("..", "F16", 0.01)`."""

    key: str
    dtype: str
    lost: float


@dataclass(frozen=True)
class EditPreview:
    """What can be said of an edit: residual of each, drift, rounding, what chose its strength."""

    edits: tuple[EditRecord, ...]
    drift: Drift | None
    coarsest: WorstRounding
    strength: Strength | None = None

    def in_words(self) -> tuple[str, ...]:
        """Return a sentence for each edit, on its strength, and on what it is to leave alone."""
        return (*map(_of_edit, self.edits), *self._measured(), *self._drift())

    def warnings(self) -> tuple[str, ...]:
        """Return a sentence for each thing that speaks against the edit."""
        return (*self._rounding(), *self._strength(), *too_weak(self.strength))

    def _measured(self) -> tuple[str, ...]:
        return (strength_words(self.strength),) if self.strength else ()

    def _drift(self) -> tuple[str, ...]:
        if self.drift is None:
            return ()
        kept = self.drift.preserved
        preserved = "" if kept is None else f"preserved prompts drift by {kept:.1%}, "
        return (
            f"{preserved}unrelated ones by {self.drift.unrelated:.1%}, most of them "
            f"`{self.drift.worst}` by {self.drift.worst_drift:.1%}",
        )

    def _rounding(self) -> tuple[str, ...]:
        worst = self.coarsest
        if worst.lost <= COARSE:
            return ()
        return (f"rounding to {worst.dtype} loses {worst.lost:.0%} of the change of `{worst.key}`",)

    def _strength(self) -> tuple[str, ...]:
        if self.drift is None or self.drift.unrelated <= STRONG:
            return ()
        return (
            f"the edit may harm what it is not about: unrelated prompts drift by "
            f"{self.drift.unrelated:.0%}; a higher `--ridge` or fewer layers are gentler",
        )


def _of_edit(edit: EditRecord) -> str:
    neurons = "" if edit.neurons is None else f", {edit.neurons} neurons a projection"
    residual = "" if edit.residual is None else f", residual {edit.residual:.0%}"
    return (
        f"{edit.kind} `{edit.subject}` → `{edit.to or 'nothing'}` "
        f"in {place_words(edit.layer_set)}: "
        f"{edit.n_keys} keys, ridge {edit.ridge or 0:.3g}{neurons}{residual}"
    )
