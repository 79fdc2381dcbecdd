"""Changes to one run as records: printable, hashable, fit for a plan or a manifest."""

from dataclasses import dataclass

UNET = "unet"  # the word of recipes and traces for the network that draws


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
class FixChannels:
    """
    Hold channels of one projection: `FixChannels("...attn2.to_k", (3, 17), (0.2, -1.0))`.

    Each of `channels` answers its value at every position of the prompt, on the conditional half
    and at every step. Basu et al. 2024, arXiv:2405.01008, the section on neurons.
    """

    module_path: str
    channels: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Run:
    """
    One picture to make: `Run("a cat by monet", seed=3, swap=SwapPrompt((8, 9), "a cat"))`.
    """

    prompt: str
    seed: int
    swap: SwapPrompt | None = None
    fixed: tuple[FixChannels, ...] = ()

    def prompt_at(self, layer: int) -> str:
        """Return the prompt that a layer reads."""
        return self.swap.prompt if self.swap and layer in self.swap.layers else self.prompt

    @property
    def pooled_prompt(self) -> str:
        """The prompt that is read past the layers."""
        swap = self.swap
        return swap.prompt if swap and swap.with_pooled and swap.layers else self.prompt


@dataclass(frozen=True)
class Corrupt:
    """
    Add Gaussian noise to the word embeddings of some tokens: `Corrupt((7, 8), level=3.0, seed=0)`.

    `level` counts standard deviations of those embeddings. Every text encoder of a model is given
    noise of its own.

    Meng et al. 2022, arXiv:2202.05262.
    """

    positions: tuple[int, ...]
    level: float
    seed: int


@dataclass(frozen=True)
class Restore:
    """
    Give a module the output of the clean run: `Restore("text_encoder", "...self_attn", (8,))`.

    In the UNet at every step, on the conditional half. Without `positions` all of it is restored.
    """

    component: str
    module_path: str
    positions: tuple[int, ...] | None = None


@dataclass(frozen=True)
class TracedRun:
    """
    One picture of a causal tracing: clean, corrupted, or corrupted with some states restored.

    Basu et al. 2023, arXiv:2310.13730.
    """

    prompt: str
    seed: int
    corrupt: Corrupt | None = None
    restore: tuple[Restore, ...] = ()


@dataclass(frozen=True)
class TracedBatch:
    """
    Runs of one prompt and seed that are made together, and the clean run that they restore from.

    All of them are encoded beside the clean run. It is also drawn, wanted or not, where a state of
    the UNet is restored, since that is another one at every step.
    """

    clean: TracedRun
    runs: tuple[TracedRun, ...]

    @property
    def encoded(self) -> tuple[TracedRun, ...]:
        """The runs that the text encoders read: the clean run first, and each run once."""
        return tuple(dict.fromkeys((self.clean, *self.runs)))

    @property
    def drawn(self) -> tuple[TracedRun, ...]:
        """The runs that the network reads, in the same order."""
        has_unet = any(one.component == UNET for run in self.runs for one in run.restore)
        return self.encoded if has_unet else tuple(dict.fromkeys(self.runs))
