"""What is done to one run, as records: printable, hashable, fit for a plan or a manifest."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SwapPrompt:
    """
    Let some layers read another prompt: `SwapPrompt((8, 9), "a painting")`.

    Keys and values of `layers` see the whole embedding of `prompt`, on the conditional half and
    at every step; all other layers keep the run's own prompt. With `with_pooled` the prompt is
    also read past the layers, where a model has such a way: SDXL's pooled embedding, what
    DeepFloyd's `add_embedding` pools for itself. No layers means no change.

    LocoGen, arXiv:2405.01008, which swaps keys and values alone.
    """

    layers: tuple[int, ...]
    prompt: str
    with_pooled: bool = False


@dataclass(frozen=True)
class Run:
    """
    One picture to make: `Run("a cat by monet", seed=3, swap=SwapPrompt((8, 9), "a cat"))`.
    """

    prompt: str
    seed: int
    swap: SwapPrompt | None = None

    def prompt_at(self, layer: int) -> str:
        """Return the prompt that a layer reads."""
        return self.swap.prompt if self.swap and layer in self.swap.layers else self.prompt

    @property
    def pooled_prompt(self) -> str:
        """The prompt that is read past the layers."""
        swap = self.swap
        return swap.prompt if swap and swap.with_pooled and swap.layers else self.prompt
