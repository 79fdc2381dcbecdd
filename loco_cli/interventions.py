"""What is done to one run, as records: printable, hashable, fit for a plan or a manifest."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SwapPrompt:
    """
    Let some layers read another prompt: `SwapPrompt((8, 9), "a painting")`.

    Keys and values of `layers` see the whole embedding of `prompt`, on the conditional half and
    at every step; all other layers keep the run's own prompt. No layers means no change.

    LocoGen, arXiv:2405.01008.
    """

    layers: tuple[int, ...]
    prompt: str


@dataclass(frozen=True)
class Run:
    """
    One picture to make: `Run("a cat by monet", seed=3, swap=SwapPrompt((8, 9), "a cat"))`.
    """

    prompt: str
    seed: int
    swap: SwapPrompt | None = None
