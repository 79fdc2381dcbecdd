"""Interventions in a run as records, printable and hashable."""

from dataclasses import dataclass

UNET = "unet"  # component name of the denoising network in recipes and traces


@dataclass(frozen=True)
class SwapPrompt:
    """
    Swap the prompt of some layers: `SwapPrompt((8, 9), "a painting")`.

    The key and value projections of `layers` read the embedding of `prompt`, in the conditional
    half of the batch and at every step. All other layers read the prompt of the run. With
    `with_pooled`, the pooled embedding comes from `prompt` too: in SDXL the pooled text embedding,
    in DeepFloyd the output of `add_embedding`. Without layers, nothing changes.

    LocoGen, arXiv:2405.01008, which swaps only keys and values.
    """

    layers: tuple[int, ...]
    prompt: str
    with_pooled: bool = False


@dataclass(frozen=True)
class FixChannels:
    """
    Fix channels of one projection: `FixChannels("...attn2.to_k", (3, 17), (0.2, -1.0))`.

    Each of `channels` outputs its value at every token of the prompt, in the conditional half of
    the batch and at every step. Basu et al. 2024, arXiv:2405.01008, section on neurons.
    """

    module_path: str
    channels: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Run:
    """
    One picture to generate: `Run("a cat by monet", seed=3, swap=SwapPrompt((8, 9), "a cat"))`.
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
        """The prompt of the pooled embedding."""
        swap = self.swap
        return swap.prompt if swap and swap.with_pooled and swap.layers else self.prompt


@dataclass(frozen=True)
class Corrupt:
    """
    Add Gaussian noise to the word embeddings of some tokens: `Corrupt((7, 8), level=3.0, seed=0)`.

    `level` is in standard deviations of the embeddings of all words. Each text encoder of a model
    gets its own noise.

    Meng et al. 2022, arXiv:2202.05262.
    """

    positions: tuple[int, ...]
    level: float
    seed: int


@dataclass(frozen=True)
class Restore:
    """
    Restore the clean output of a module: `Restore("text_encoder", "...self_attn", (8,))`.

    The UNet is restored at every step, in the conditional half of the batch. Without `positions`,
    the whole output is restored.
    """

    component: str
    module_path: str
    positions: tuple[int, ...] | None = None


@dataclass(frozen=True)
class TracedRun:
    """
    One picture of a causal trace: clean, corrupted, or corrupted with some states restored.

    Basu et al. 2023, arXiv:2310.13730.
    """

    prompt: str
    seed: int
    corrupt: Corrupt | None = None
    restore: tuple[Restore, ...] = ()


@dataclass(frozen=True)
class TracedBatch:
    """
    Runs of one prompt and seed in one batch, and the clean run that provides restored states.

    The text encoders always read the clean run too. The UNet reads it only if a state of the UNet
    is restored, because that state differs at every step.
    """

    clean: TracedRun
    runs: tuple[TracedRun, ...]

    @property
    def encoded(self) -> tuple[TracedRun, ...]:
        """The runs that the text encoders read, without duplicates, the clean run first."""
        return tuple(dict.fromkeys((self.clean, *self.runs)))

    @property
    def drawn(self) -> tuple[TracedRun, ...]:
        """The runs that the UNet reads, in the same order."""
        has_unet = any(one.component == UNET for run in self.runs for one in run.restore)
        return self.encoded if has_unet else tuple(dict.fromkeys(self.runs))
