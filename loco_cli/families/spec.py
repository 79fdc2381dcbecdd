"""An architecture as data: its cross-attention layers in running order, and what they read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Family = Literal["sd1", "sd2", "sdxl", "if"]
Prediction = Literal["epsilon", "v_prediction"]

CLIP_TOKENS = "text_model.embeddings.token_embedding.weight"
MAX_ENCODER_LAYERS = 1024  # that a configuration may claim; T5-XXL, the deepest in use, has 24
CLIP_POSITIONS = "text_model.embeddings.position_embedding.weight"
# either is the table: the one that T5's encoder and decoder share, or a copy
T5_TOKENS = ("shared.weight", "encoder.embed_tokens.weight")


@dataclass(frozen=True)
class Projection:
    """
    One linear map of a cross-attention layer, without its owner: `Projection("to_k", d_out=320)`.
    """

    name: str
    d_out: int
    has_bias: bool = False


@dataclass(frozen=True)
class CrossAttention:
    """
    One cross-attention layer: `CrossAttention(8, "up_blocks.1.attentions.1...attn2", (k, v))`.

    `projections` are the two that read the text: keys, then values.
    """

    index: int
    module_path: str
    projections: tuple[Projection, ...]

    def tensor_names(self) -> tuple[str, ...]:
        """Return the UNet's names of the key and value projections, as diffusers writes them."""
        return tuple(
            f"{self.module_path}.{projection.name}.weight" for projection in self.projections
        )


@dataclass(frozen=True)
class TextEncoderSpec:
    """
    One text encoder: `TextEncoderSpec("text_encoder", "tokenizer", "clip", "last", 768, 12)`.

    `component` and `tokenizer` are folders of the diffusers layout. `states` is what of it reaches
    the UNet: the last hidden states behind the final norm, or those before the last layer, without
    a norm. `width` and `n_layers` are None where only the checkpoint knows them.
    """

    component: str
    tokenizer: str
    kind: Literal["clip", "t5"]
    states: Literal["last", "penultimate"]
    width: int | None = None
    n_layers: int | None = None
    has_projection: bool = False  # writes a pooled embedding beside the states
    n_tokens: int = 77

    @property
    def is_causal(self) -> bool:
        """Whether a token sees only those before it, so that a concept is carried onwards only."""
        return self.kind == "clip"

    @property
    def token_tables(self) -> tuple[str, ...]:
        """The names that the token embedding may have, as files have them."""
        return T5_TOKENS if self.kind == "t5" else (CLIP_TOKENS,)

    def self_attention(self, layer: int) -> str:
        """
        Return the tensors' prefix of a self-attention, as files have it.

        In memory a `CLIPTextModel` of transformers 5 leaves `text_model.` out.
        """
        if self.kind == "t5":
            return f"encoder.block.{layer}.layer.0.SelfAttention"
        return f"text_model.encoder.layers.{layer}.self_attn"

    def feed_forward(self, layer: int) -> str:
        """Return the tensors' prefix of a layer's two maps behind its self-attention."""
        if self.kind == "t5":
            return f"encoder.block.{layer}.layer.1.DenseReluDense"
        return f"text_model.encoder.layers.{layer}.mlp"

    @property
    def out_projection(self) -> tuple[str, bool]:
        """The name of a self-attention's last linear map, and whether it has a bias."""
        return ("o", False) if self.kind == "t5" else ("out_proj", True)


@dataclass(frozen=True)
class GroupNorm:
    """
    A norm over all tokens and one of `n_groups` groups of channels: `GroupNorm("norm_cross")`.

    `name` is its module in every cross-attention layer: weight and bias are each layer's own.
    """

    name: str
    n_groups: int = 32
    epsilon: float = 1e-5


@dataclass(frozen=True)
class Pooling:
    """
    What sums up a prompt's states for every block, past the layers: `Pooling("add_embedding")`.

    Each token is normed over its channels. The mean of all tokens, with a number of its own added
    to every channel, is a token more: it attends to them and to itself, and its answer is the sum.
    """

    module: str
    epsilon: float = 1e-5

    @property
    def norm(self) -> str:
        """The norm of every token."""
        return f"{self.module}.norm1"

    @property
    def mean_bias(self) -> str:
        """What is added to the mean, [1, d_states]."""
        return f"{self.module}.pool.positional_embedding"

    def tensor_names(self) -> tuple[str, ...]:
        """Return the UNet's names of the maps that read the tokens: queries, keys, values."""
        return tuple(f"{self.module}.pool.{name}_proj.weight" for name in "qkv")


@dataclass(frozen=True)
class Context:
    """
    What K and V read: the states of the encoders side by side, mapped by `hid_proj`, then normed.

    `hid_proj` is a linear map with bias in the UNet, shared by its layers. `pooling` reads the
    states themselves, where there is one that an edit can reach.
    """

    encoders: tuple[TextEncoderSpec, ...]
    hid_proj: str | None = None
    norm_cross: GroupNorm | None = None
    pooling: Pooling | None = None


@dataclass(frozen=True)
class ModelSpec:
    """
    What `loco` knows of a model by name: where it comes from and which layers read the text.

    `layers` are in execution order (down, mid, up); `d_text` is the width of the context that
    K and V read. `published_ranges` holds the papers' layers per kind of concept, half-open.
    `known` are concepts that it draws, by kind; `unreachable` says what no K/V edit can reach, in
    words. `config` names its packaged configuration, `architecture` is modelspec's word for it;
    `ships` tells that its weights come with the package.
    """

    name: str
    family: Family
    title: str
    hub_id: str | None
    d_text: int
    layers: tuple[CrossAttention, ...]
    steps: int
    guidance: float
    resolution: int
    scorer: str
    published_ranges: Mapping[str, tuple[int, int]]
    known: Mapping[str, tuple[tuple[str, ...], ...]]
    context: Context
    unreachable: tuple[str, ...] = ()
    licence: str | None = None
    config: str | None = None
    architecture: str | None = None
    prediction: Prediction = "epsilon"
    ships: bool = False

    @property
    def n_layers(self) -> int:
        """How many cross-attention layers there are."""
        return len(self.layers)

    @property
    def module_paths(self) -> tuple[str, ...]:
        """The module path of every layer, in order."""
        return tuple(layer.module_path for layer in self.layers)

    @property
    def parts(self) -> tuple[str, ...]:
        """The components without which it makes no pictures."""
        encoders = (encoder.component for encoder in self.context.encoders)
        return ("unet", *encoders, *(("vae",) if self.family != "if" else ()))

    def unreached(self, *, is_pooling_edited: bool) -> tuple[str, ...]:
        """Return what an edit of the layers does not reach, in words."""
        pooling = self.context.pooling
        if not is_pooling_edited or pooling is None:
            return self.unreachable
        return tuple(one for one in self.unreachable if pooling.module not in one)

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every key and value projection, its bias with it, by name."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in self.layers:
            for projection in layer.projections:
                name = f"{layer.module_path}.{projection.name}"
                shapes[f"{name}.weight"] = (projection.d_out, self.d_text)
                if projection.has_bias:
                    shapes[f"{name}.bias"] = (projection.d_out,)
        return shapes

    def sampling(self, steps: int | None, guidance: float | None) -> tuple[int, float]:
        """Return steps and guidance: those that are asked for, else the model's own."""
        return steps or self.steps, self.guidance if guidance is None else guidance
