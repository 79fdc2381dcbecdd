"""How far an edit moves what it is to leave alone."""

from collections.abc import Sequence
from statistics import fmean

from pydantic import BaseModel, ConfigDict


class Drift(BaseModel):
    """
    How far an edit moves the answers to prompts that it is to leave alone, of what they were.

    The mean over the words of prompts of the preserve set, None where there is none, and over those
    of unrelated ones; `worst` is the unrelated prompt that moves most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preserved: float | None
    unrelated: float
    worst: str
    worst_drift: float

    @classmethod
    def of(
        cls, preserved: Sequence[tuple[str, float]], unrelated: Sequence[tuple[str, float]]
    ) -> "Drift":
        """Return the drift of an edit from that of each prompt."""
        worst, most = max(unrelated, key=lambda one: one[1])
        return cls(
            preserved=fmean(drift for _, drift in preserved) if preserved else None,
            unrelated=fmean(drift for _, drift in unrelated),
            worst=worst,
            worst_drift=most,
        )
