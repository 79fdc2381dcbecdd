"""
The records that describe a family: its network, layers, contexts, tensor names and models.

Each family is one module of this package, with its `FAMILIES` and `MODELS`. Every difference
between families is a field of a record here.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from loco_cli.families.names import LoraSpelling, TensorAlias

Shapes = Mapping[str, tuple[int, ...]]  # canonical tensor name -> shape, within one network

_CLIP_TOKENS = "text_model.embeddings.token_embedding.weight"
CLIP_POSITIONS = "text_model.embeddings.position_embedding.weight"
MAX_ENCODER_LAYERS = 1024  # sanity limit for configurations; T5-XXL, the deepest in use, has 24

# the table shared by T5's encoder and decoder, or the encoder's copy; a file needs only one
_T5_TOKENS = ("shared.weight", "encoder.embed_tokens.weight")
_BLOCK = re.compile(
    r"(text_model\.)?encoder\.(layers|block)\.\d+|(en|de)coder\.(mid_block|(up|down)_blocks\.\d+)"
)


@dataclass(frozen=True)
class Network:
    """
    A kind of denoising network: `Network("unet", "UNet", "conv_in.weight", "up_blocks.")`.

    `component` is its folder in the diffusers layout, and `title` is its name in messages. Every
    network of this kind has `input_tensor`, which reads the noisy picture. If a tensor name in a
    single file starts with `name_prefix`, the file holds only this network, with diffusers names.
    """

    component: str
    title: str
    input_tensor: str
    name_prefix: str

    @property
    def ema_component(self) -> str:
        """The component of the averaged copy (EMA)."""
        return f"{self.component}_ema"


UNET = Network("unet", "UNet", "conv_in.weight", "up_blocks.")


@dataclass(frozen=True)
class Projection:
    """
    One linear map of a layer: `Projection("to_k", d_out=320)`.

    `name` is its module within the layer. `norm` is the module of the layer that normalises its
    output, or None. Only the direction of normalised keys matters, so halving a weight change does
    not halve its effect.
    """

    name: str
    d_out: int
    has_bias: bool = False
    norm: str | None = None


@dataclass(frozen=True)
class TextInput:
    """
    The text input of a layer: `TextInput("prompt", "text")`.

    `scope` names the inputs of the keys: the `prompt`, the `timestep` and the prompt, or the
    `picture` and both others. Keys that depend on more than the prompt exist only during a run.
    `tokens` are the inputs of the projections: text, or text and picture through the same weights
    (`shared`). `order` is the order of text and picture in a joint sequence, or None for text
    alone. A layer with `has_tuple_output` returns a tuple of picture and text.
    """

    scope: Literal["prompt", "timestep", "picture"]
    tokens: Literal["text", "shared"]
    order: Literal["text first", "picture first"] | None = None
    has_tuple_output: bool = False


@dataclass(frozen=True)
class CrossAttention:
    """
    One layer that reads the text: `CrossAttention(8, "up_blocks.1...attn2", (k, v), text)`.

    `projections` are its maps of the text: keys, values, then any others.
    """

    index: int
    module_path: str
    projections: tuple[Projection, ...]
    text: TextInput

    def tensor_names(self) -> tuple[str, ...]:
        """Return the names of the projections' weights in the diffusers layout."""
        return tuple(
            f"{self.module_path}.{projection.name}.weight" for projection in self.projections
        )


@dataclass(frozen=True)
class TextEncoderSpec:
    """
    One text encoder: `TextEncoderSpec("text_encoder", "tokenizer", "clip", "last", 768, 12)`.

    `component` and `tokenizer` are folders of the diffusers layout. `states` names the hidden
    states that reach the network: the last ones after the final norm, or the input of the last
    layer without a norm. `width` and `n_layers` are None if they depend on the checkpoint.
    """

    component: str
    tokenizer: str
    kind: Literal["clip", "t5"]
    states: Literal["last", "penultimate"]
    width: int | None = None
    n_layers: int | None = None
    has_projection: bool = False  # also outputs a pooled embedding
    n_tokens: int = 77

    @property
    def is_causal(self) -> bool:
        """True if each token attends only to earlier ones, so concepts reach only later states."""
        return self.kind == "clip"

    @property
    def token_embedding_names(self) -> tuple[str, ...]:
        """The names of the token embedding in files, any of which may be missing."""
        return _T5_TOKENS if self.kind == "t5" else (_CLIP_TOKENS,)

    def self_attention_path(self, layer: int) -> str:
        """
        Return the tensor name prefix of a layer's self-attention in files.

        In memory, the `CLIPTextModel` of transformers 5 has no `text_model.` prefix.
        """
        if self.kind == "t5":
            return f"encoder.block.{layer}.layer.0.SelfAttention"
        return f"text_model.encoder.layers.{layer}.self_attn"

    def feed_forward_path(self, layer: int) -> str:
        """Return the tensor name prefix of a layer's feed-forward block in files."""
        if self.kind == "t5":
            return f"encoder.block.{layer}.layer.1.DenseReluDense"
        return f"text_model.encoder.layers.{layer}.mlp"

    @property
    def out_projection(self) -> tuple[str, bool]:
        """The name of the output map of a self-attention, and True if the map has a bias."""
        return ("o", False) if self.kind == "t5" else ("out_proj", True)


@dataclass(frozen=True)
class GroupNorm:
    """
    A normalisation over all tokens within each group of channels: `GroupNorm("norm_cross")`.

    `name` is its module in every cross-attention layer. Each layer has its own weight and bias.
    """

    name: str
    n_groups: int = 32
    epsilon: float = 1e-5


@dataclass(frozen=True)
class Pooling:
    """
    Attention pooling of the prompt, which bypasses the layers: `Pooling("add_embedding")`.

    Each token is normalised over its channels. The mean of all tokens plus a learned bias becomes
    an extra token, which attends to all tokens and to itself. Its output is the pooled embedding
    that every block receives.
    """

    module: str
    epsilon: float = 1e-5

    @property
    def norm(self) -> str:
        """The module that normalises each token."""
        return f"{self.module}.norm1"

    @property
    def mean_bias(self) -> str:
        """The tensor added to the mean, [1, d_states]."""
        return f"{self.module}.pool.positional_embedding"

    def tensor_names(self) -> tuple[str, ...]:
        """Return the weight names of the query, key and value maps in the UNet."""
        return tuple(f"{self.module}.pool.{name}_proj.weight" for name in "qkv")


@dataclass(frozen=True)
class LinearMap:
    """A linear map with bias: `LinearMap("encoder_hid_proj")`, named by its module."""

    name: str


@dataclass(frozen=True)
class Context:
    """
    The input of K and V: the joined encoder states after the maps `shared`, then `norm_cross`.

    The states of several encoders are joined along their `width` or along their `tokens`. `kind`
    describes the keys: equal in all layers (`shared`), computed from the prompt for each layer
    (`per_layer`), or recorded during a run because layers rewrite the text (`sampled`).

    `shared` lists the maps that precede all layers. `pooling` is a pooled embedding of the same
    states that an edit can change, or None.
    """

    encoders: tuple[TextEncoderSpec, ...]
    join: Literal["width", "tokens"]
    kind: Literal["shared", "per_layer", "sampled"]
    shared: tuple[LinearMap, ...] = ()
    norm_cross: GroupNorm | None = None
    pooling: Pooling | None = None


@dataclass(frozen=True, eq=False)
class Family:
    """
    An architecture: all properties that its models share at any width.

    `name` appears in documents, and `known_as` in the list of supported families, where several
    families may share it. Lists are sorted by `order`. Models of unknown widths take context,
    sampling and limits from the model `standard`.

    `layer_table` builds the layers from the block widths, which are the row counts of
    `width_tensors`. A network belongs to the family if two conditions hold. Its key projections,
    whose names end with `key_end`, are exactly those of the layers. It also has each tensor of
    `signature`, with the given number of dimensions. If several families fit, the longest signature
    wins. `refusal` explains why a similar network is not supported: it returns a message and a
    hint, or None.

    `single_file` maps the tensor names of the original layout, or is None if there is no such
    layout. `block_label` returns the block of a network's tensor, and its label or None. With
    `guided_batch` set to `halves`, guidance doubles the batch and the conditional half comes
    second; `none` means that a batch never doubles. A layer with `has_residual_attention` returns
    the residual stream plus its own output. `pipeline` is the class in diffusers, and `n_channels`
    is the number of input channels of the network.
    """

    name: str
    title: str
    known_as: str
    standard: str
    network: Network
    layer_table: Callable[[Sequence[int]], tuple[CrossAttention, ...]]
    width_tensors: tuple[str, ...]
    key_end: str
    signature: Mapping[str, int]
    single_file: Callable[[Sequence[str]], Iterable[TensorAlias]] | None
    block_label: Callable[[str], tuple[str, str | None]]
    lora: LoraSpelling
    pipeline: str
    pipeline_options: Mapping[str, Any]
    n_channels: int
    has_vae: bool
    guided_batch: Literal["halves", "none"]
    has_residual_attention: bool = False
    refusal: Callable[[Shapes], tuple[str, str] | None] = lambda shapes: None
    order: int = 100

    def layers(self, widths: Sequence[int]) -> tuple[CrossAttention, ...]:
        """Return the layers of a network with these block widths, in execution order."""
        n, title = len(self.width_tensors), self.network.title
        if len(widths) != n:
            raise ValueError(f"a {title} of family {self.name} has {n} block widths")
        return self.layer_table(tuple(widths))

    @property
    def module_paths(self) -> frozenset[str]:
        """The module paths of all layers."""
        layers = self.layers((1,) * len(self.width_tensors))
        return frozenset(layer.module_path for layer in layers)

    def block_of(self, component: str, name: str) -> tuple[str, str | None]:
        """Return the block of a tensor, and the label of a network's block or None."""
        if component in (self.network.component, self.network.ema_component):
            return self.block_label(name)
        block = _BLOCK.match(name)
        return (block[0] if block else name.split(".")[0]), None


@dataclass(frozen=True)
class ModelSpec:
    """
    A known model: its source, its layers, its defaults and its limits.

    `layers` are in execution order, and `d_text` is the width of the context that K and V read.
    `published_ranges` holds the half-open layer ranges of the papers, by kind of concept.
    `known_concepts` lists concepts that the model draws, by kind. `unreachable` describes the text
    inputs that no K/V edit can change. `config` is the folder of the packaged configuration. The
    weights of a model with `is_shipped` come with the package.

    Three fields distinguish models of the same shape: `architecture`, in modelspec's terms,
    `prediction`, and `spacing`, a timestep spacing that only this model uses.
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
    known_concepts: Mapping[str, tuple[tuple[str, ...], ...]]
    context: Context
    unreachable: tuple[str, ...] = ()
    licence: str | None = None
    config: str | None = None
    architecture: str | None = None
    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    spacing: str | None = None
    is_shipped: bool = False

    @property
    def network(self) -> str:
        """The component of the network: `unet`."""
        return self.family.network.component

    @property
    def n_layers(self) -> int:
        """The number of layers that read the text."""
        return len(self.layers)

    @property
    def module_paths(self) -> tuple[str, ...]:
        """The module paths of the layers, in execution order."""
        return tuple(layer.module_path for layer in self.layers)

    @property
    def parts(self) -> tuple[str, ...]:
        """The components that the model needs to generate pictures."""
        encoders = (encoder.component for encoder in self.context.encoders)
        return (self.network, *encoders, *(("vae",) if self.family.has_vae else ()))

    def unreached(self, *, is_pooling_edited: bool) -> tuple[str, ...]:
        """Return descriptions of the text inputs that an edit of the layers does not change."""
        pooling = self.context.pooling
        if not is_pooling_edited or pooling is None:
            return self.unreachable
        return tuple(limit for limit in self.unreachable if pooling.module not in limit)

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every projection's weight and bias, by tensor name."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in self.layers:
            for projection in layer.projections:
                name = f"{layer.module_path}.{projection.name}"
                shapes[f"{name}.weight"] = (projection.d_out, self.d_text)
                if projection.has_bias:
                    shapes[f"{name}.bias"] = (projection.d_out,)
        return shapes

    def sampling(self, steps: int | None, guidance: float | None) -> tuple[int, float]:
        """Return the requested steps and guidance, or the model's defaults."""
        return steps or self.steps, self.guidance if guidance is None else guidance
