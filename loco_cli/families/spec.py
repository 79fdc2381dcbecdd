"""
The records of a family: a network's layers and what they read, its names, its models.

A family is one module of this package, which gives `FAMILIES` and the `MODELS` that are known of
them. Everything that tells one family from another is a field of a record here.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from loco_cli.families.names import LoraSpelling, TensorAlias

Shapes = Mapping[str, tuple[int, ...]]  # of a network's tensors, by canonical name

_CLIP_TOKENS = "text_model.embeddings.token_embedding.weight"
CLIP_POSITIONS = "text_model.embeddings.position_embedding.weight"
MAX_ENCODER_LAYERS = 1024  # that a configuration may claim; T5-XXL, the deepest in use, has 24

# either is the table: the one that T5's encoder and decoder share, or a copy
_T5_TOKENS = ("shared.weight", "encoder.embed_tokens.weight")
_BLOCK = re.compile(
    r"(text_model\.)?encoder\.(layers|block)\.\d+|(en|de)coder\.(mid_block|(up|down)_blocks\.\d+)"
)


@dataclass(frozen=True)
class Network:
    """
    A kind of model that draws: `Network("unet", "UNet", "conv_in.weight", "up_blocks.")`.

    `component` is its folder in the diffusers layout, `title` its name in a sentence. Every network
    of the kind has `input_tensor`, which reads the noisy picture. A file with tensors whose names
    begin with `sign` holds a network alone, named as diffusers names it.
    """

    component: str
    title: str
    input_tensor: str
    name_prefix: str

    @property
    def ema_component(self) -> str:
        """The component of its averaged copy."""
        return f"{self.component}_ema"


UNET = Network("unet", "UNet", "conv_in.weight", "up_blocks.")


@dataclass(frozen=True)
class Projection:
    """
    One linear map of a layer, without its owner: `Projection("to_k", d_out=320)`.

    `norm` is the module of the layer that norms the map's output, None where nothing does. Of
    normed keys only the direction counts, so that half a change does not do half of it.
    """

    name: str
    d_out: int
    has_bias: bool = False
    norm: str | None = None


@dataclass(frozen=True)
class TextInput:
    """
    The way of the text into a layer: `TextInput("prompt", "text")`.

    `scope` is what the layer's keys depend on: the prompt alone, the timestep too, or also the
    picture. Keys that depend on more than the prompt exist only during a run. `tokens` are those
    that the projections read: text, or text and picture by the same weights (`shared`). `order` is
    that of text and picture in a joint sequence, None where the text stands alone. A layer with
    `has_tuple_output` returns the picture and the text, in this order.
    """

    scope: Literal["prompt", "timestep", "picture"]
    tokens: Literal["text", "shared"]
    order: Literal["text first", "picture first"] | None = None
    has_tuple_output: bool = False


@dataclass(frozen=True)
class CrossAttention:
    """
    One layer that reads the text: `CrossAttention(8, "up_blocks.1...attn2", (k, v), text)`.

    `projections` are the maps that read it: keys, then values, then others.
    """

    index: int
    module_path: str
    projections: tuple[Projection, ...]
    text: TextInput

    def tensor_names(self) -> tuple[str, ...]:
        """Return the network's names of the projections' weights, as diffusers writes them."""
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
    def token_embedding_names(self) -> tuple[str, ...]:
        """The names that the token embedding may have, as files have them."""
        return _T5_TOKENS if self.kind == "t5" else (_CLIP_TOKENS,)

    def self_attention_path(self, layer: int) -> str:
        """
        Return the tensors' prefix of a self-attention, as files have it.

        In memory a `CLIPTextModel` of transformers 5 leaves `text_model.` out.
        """
        if self.kind == "t5":
            return f"encoder.block.{layer}.layer.0.SelfAttention"
        return f"text_model.encoder.layers.{layer}.self_attn"

    def feed_forward_path(self, layer: int) -> str:
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
    A sum of a prompt's states for every block, past the layers: `Pooling("add_embedding")`.

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
        """The bias of the mean, [1, d_states]."""
        return f"{self.module}.pool.positional_embedding"

    def tensor_names(self) -> tuple[str, ...]:
        """Return the UNet's names of the maps that read the tokens: queries, keys, values."""
        return tuple(f"{self.module}.pool.{name}_proj.weight" for name in "qkv")


@dataclass(frozen=True)
class LinearMap:
    """A linear map with bias, by its module in the network: `LinearMap("encoder_hid_proj")`."""

    name: str


@dataclass(frozen=True)
class Context:
    """
    The states that K and V read: those of the encoders, joined, behind `shared`, then `norm_cross`.

    The states of several encoders are joined side by side in `width`, or one after another along
    `tokens`. By `kind`, keys are the same in all layers (`shared`), a function of the prompt that
    is each layer's own (`per_layer`), or `sampled` from a run, where layers rewrite the text.

    `shared` are maps on the way that all layers have in common. `pooling` reads the states
    themselves, where there is one that an edit can reach.
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
    An architecture: everything that its models share, whatever their widths.

    `name` is its word in documents, `known_as` its name in a list of all, which several families
    may have in common. Lists are in the order of `place`. The model `standard` stands for models of
    unknown widths: its context, sampling and limits are theirs.

    The layers follow from the rows of `width_tensors` by `layer_table`. A network belongs to the
    family if its key projections, whose names end with `key_end`, are those of the layers, and it
    has the tensors of `signature`, each with as many dimensions. Where several families fit, the
    one with the longest signature is right. `refusal` returns a sentence and a hint on a network
    that resembles the family and is none of it.

    `single_file` places the tensors of a file in the original layout, None where there is none.
    `block_label` returns the block of a tensor of the network, and its label if there is one. With
    guidance, a batch is twice as long and its second half conditional (`halves`), or it has the
    prompts alone (`none`). With `has_residual_attention` a layer returns the whole stream, and not
    only its own share. `pipeline` is diffusers' class, `n_channels` those of the picture it reads.
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
        """Return the layers of a network with these widths, in execution order."""
        n, title = len(self.width_tensors), self.network.title
        if len(widths) != n:
            raise ValueError(f"a {title} of family {self.name} has {n} block widths")
        return self.layer_table(tuple(widths))

    @property
    def module_paths(self) -> frozenset[str]:
        """The modules of its layers."""
        layers = self.layers((1,) * len(self.width_tensors))
        return frozenset(layer.module_path for layer in layers)

    def block_of(self, component: str, name: str) -> tuple[str, str | None]:
        """Return a tensor's block by its diffusers name and, in the network, its label if any."""
        if component in (self.network.component, self.network.ema_component):
            return self.block_label(name)
        block = _BLOCK.match(name)
        return (block[0] if block else name.split(".")[0]), None


@dataclass(frozen=True)
class ModelSpec:
    """
    A known model: its source, the layers that read the text, its defaults and limits.

    `layers` are in execution order; `d_text` is the width of the context that K and V read.
    `published_ranges` holds the papers' layers per kind of concept, half-open. `known` are concepts
    that it draws, by kind; `unreachable` says what no K/V edit can reach, in words. `config` names
    its packaged configuration; `ships` tells that its weights come with the package.

    Models of one shape are told apart by `architecture`, modelspec's word for it, by `prediction`,
    and by `spacing`, a timestep spacing of the scheduler that none of the others has.
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
        """The component that draws: `unet`."""
        return self.family.network.component

    @property
    def n_layers(self) -> int:
        """How many layers read the text."""
        return len(self.layers)

    @property
    def module_paths(self) -> tuple[str, ...]:
        """The module path of every layer, in order."""
        return tuple(layer.module_path for layer in self.layers)

    @property
    def parts(self) -> tuple[str, ...]:
        """The components without which it makes no pictures."""
        encoders = (encoder.component for encoder in self.context.encoders)
        return (self.network, *encoders, *(("vae",) if self.family.has_vae else ()))

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
