"""
Small Stable Diffusion 1 checkpoints with the real tensor names, in every layout.

Each weight has two names, the original one and that of diffusers. `families/test_names.py` compares
them with the conversion of diffusers.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

WIDTHS = (8, 16, 16, 16)
D_TEXT = 12
N_TOKENS, VOCABULARY = 10, 20
GROUPS = 4
UNET_CONFIG = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": WIDTHS,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "cross_attention_dim": D_TEXT,
    "attention_head_dim": 4,
    "norm_num_groups": GROUPS,
}
VAE_CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": WIDTHS,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "norm_num_groups": GROUPS,
}
WEIGHT_FILES = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
K = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
K_ORIGINAL = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


@dataclass(frozen=True)
class Weight:
    """
    One tensor under both names: `Weight("...input_blocks.0.0.bias", "unet", "conv_in.bias", ...)`.
    """

    original: str
    component: str
    name: str
    value: np.ndarray


Spelling = tuple[str, str, tuple[int, ...]]  # original name, diffusers name, shape


def sd1_weights(seed: int = 0) -> tuple[Weight, ...]:
    """Return every weight of the small model, float32, drawn from `seed`."""
    rng = np.random.default_rng(seed)
    parts = (
        ("model.diffusion_model.", "unet", _unet()),
        ("cond_stage_model.transformer.", "text_encoder", _clip()),
        ("first_stage_model.", "vae", _vae()),
    )
    return tuple(
        Weight(prefix + original, part, name, rng.standard_normal(shape).astype(np.float32) * 0.05)
        for prefix, part, spellings in parts
        for original, name, shape in spellings
    )


def write_folder(
    root: Path,
    weights: Iterable[Weight],
    *,
    dtype: type = np.float16,
    variants: Mapping[str, type] | None = None,
    n_shards: int = 1,
) -> Path:
    """Write a diffusers folder; `variants` adds files such as `{"fp16": np.float16}`."""
    kept = tuple(weights)
    for component, stem in WEIGHT_FILES.items():
        own = {w.name: w.value for w in kept if w.component == component}
        for variant, variant_dtype in {"": dtype, **(variants or {})}.items():
            name = f"{stem}.{variant}" if variant else stem
            shards = n_shards if component == "unet" else 1
            _write_shards(root / component, name, variant, _cast(own, variant_dtype), shards)
    for component, config in (("unet", UNET_CONFIG), ("vae", VAE_CONFIG), ("text_encoder", {})):
        (root / component / "config.json").write_text(json.dumps(config))
    (root / "scheduler").mkdir()
    (root / "scheduler" / "scheduler_config.json").write_text("{}\n")
    (root / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}\n')
    (root / "README.md").write_text("# the base's own card\n")
    return root


def write_single_file(
    path: Path,
    weights: Iterable[Weight],
    *,
    dtype: type = np.float16,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a single file in the original layout, and the buffers of such files."""
    tensors = _cast({w.original: _as_convolution(w) for w in weights}, dtype)
    positions = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    tensors[positions] = np.arange(N_TOKENS, dtype=np.int64)[None]
    tensors["alphas_cumprod"] = np.linspace(1, 0, 5, dtype=np.float32)
    save_file(tensors, path, metadata)
    return path


def tree_bytes(root: Path) -> dict[str, bytes]:
    """Return every file under a folder, or the file itself, by its relative path."""
    if root.is_file():
        return {"": root.read_bytes()}
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def _as_convolution(weight: Weight) -> np.ndarray:
    # the VAE's attention has 1x1 convolutions in this layout, and linear maps in diffusers
    is_map = ".attn_1." in weight.original and weight.value.ndim == 2
    return weight.value[..., None, None] if is_map else weight.value


def _cast(tensors: Mapping[str, np.ndarray], dtype: type) -> dict[str, np.ndarray]:
    return {name: value.astype(dtype) for name, value in tensors.items()}


def _write_shards(
    folder: Path, name: str, variant: str, tensors: dict[str, np.ndarray], n_shards: int
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if n_shards == 1:
        save_file(tensors, folder / f"{name}.safetensors", {"format": "pt"})
        return
    weight_map = {}
    for shard in range(n_shards):
        file = f"{name}-{shard + 1:05}-of-{n_shards:05}.safetensors"
        own = dict(list(tensors.items())[shard::n_shards])
        save_file(own, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(own, file)
    stem = name.removesuffix(f".{variant}")
    ending = f".index.{variant}.json" if variant else ".index.json"
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors{ending}").write_text(json.dumps(index))


def _both(original: str, name: str, *shape: int, with_bias: bool = True) -> Iterator[Spelling]:
    yield f"{original}.weight", f"{name}.weight", shape
    if with_bias:
        yield f"{original}.bias", f"{name}.bias", shape[:1]


def _resnet(original: str, name: str, c_in: int, c_out: int) -> Iterator[Spelling]:
    yield from _both(f"{original}.in_layers.0", f"{name}.norm1", c_in)
    yield from _both(f"{original}.in_layers.2", f"{name}.conv1", c_out, c_in, 3, 3)
    yield from _both(f"{original}.emb_layers.1", f"{name}.time_emb_proj", c_out, 4 * WIDTHS[0])
    yield from _both(f"{original}.out_layers.0", f"{name}.norm2", c_out)
    yield from _both(f"{original}.out_layers.3", f"{name}.conv2", c_out, c_out, 3, 3)
    if c_in != c_out:
        yield from _both(f"{original}.skip_connection", f"{name}.conv_shortcut", c_out, c_in, 1, 1)


def _attention(original: str, name: str, c: int) -> Iterator[Spelling]:
    yield from _both(f"{original}.norm", f"{name}.norm", c)
    yield from _both(f"{original}.proj_in", f"{name}.proj_in", c, c, 1, 1)
    for inner, c_context in (("attn1", c), ("attn2", D_TEXT)):
        block = f"transformer_blocks.0.{inner}"
        for projection, c_in in (("to_q", c), ("to_k", c_context), ("to_v", c_context)):
            end = f"{block}.{projection}"
            yield from _both(f"{original}.{end}", f"{name}.{end}", c, c_in, with_bias=False)
        yield from _both(f"{original}.{block}.to_out.0", f"{name}.{block}.to_out.0", c, c)
    norms = (("norm1", c), ("norm2", c), ("norm3", c))
    for end, *shape in (*norms, ("ff.net.0.proj", 8 * c, c), ("ff.net.2", c, 4 * c)):
        block = f"transformer_blocks.0.{end}"
        yield from _both(f"{original}.{block}", f"{name}.{block}", *shape)
    yield from _both(f"{original}.proj_out", f"{name}.proj_out", c, c, 1, 1)


def _unet() -> Iterator[Spelling]:
    w0, w1, w2, w3 = WIDTHS
    yield from _both("time_embed.0", "time_embedding.linear_1", 4 * w0, w0)
    yield from _both("time_embed.2", "time_embedding.linear_2", 4 * w0, 4 * w0)
    yield from _both("input_blocks.0.0", "conv_in", w0, 4, 3, 3)
    down = ((1, w0, w0), (2, w0, w0), (4, w0, w1), (5, w1, w1), (7, w1, w2), (8, w2, w2))
    for (n, c_in, c), at in zip(down, ("0.0", "0.1", "1.0", "1.1", "2.0", "2.1"), strict=True):
        block, j = at.split(".")
        name = f"down_blocks.{block}"
        yield from _resnet(f"input_blocks.{n}.0", f"{name}.resnets.{j}", c_in, c)
        yield from _attention(f"input_blocks.{n}.1", f"{name}.attentions.{j}", c)
    for n, block, c in ((3, 0, w0), (6, 1, w1), (9, 2, w2)):
        name = f"down_blocks.{block}.downsamplers.0.conv"
        yield from _both(f"input_blocks.{n}.0.op", name, c, c, 3, 3)
    yield from _resnet("input_blocks.10.0", "down_blocks.3.resnets.0", w2, w3)
    yield from _resnet("input_blocks.11.0", "down_blocks.3.resnets.1", w3, w3)
    yield from _resnet("middle_block.0", "mid_block.resnets.0", w3, w3)
    yield from _attention("middle_block.1", "mid_block.attentions.0", w3)
    yield from _resnet("middle_block.2", "mid_block.resnets.1", w3, w3)
    yield from _unet_up()
    yield from _both("out.0", "conv_norm_out", w0)
    yield from _both("out.2", "conv_out", 4, w0, 3, 3)


def _unet_up() -> Iterator[Spelling]:
    w0, w1, w2, w3 = WIDTHS
    skips = [w3, w3, w2, w2, w2, w1, w1, w1, w0, w0, w0, w0]  # outputs of the way down, in reverse
    outs = [w3] * 3 + [w2] * 3 + [w1] * 3 + [w0] * 3
    c_before = w3
    for n, (c_skip, c) in enumerate(zip(skips, outs, strict=True)):
        name = f"up_blocks.{n // 3}"
        yield from _resnet(f"output_blocks.{n}.0", f"{name}.resnets.{n % 3}", c_before + c_skip, c)
        if n >= 3:
            yield from _attention(f"output_blocks.{n}.1", f"{name}.attentions.{n % 3}", c)
        if n in (2, 5, 8):
            slot = 1 if n == 2 else 2
            end = f"{name}.upsamplers.0.conv"
            yield from _both(f"output_blocks.{n}.{slot}.conv", end, c, c, 3, 3)
        c_before = c


def _clip() -> Iterator[Spelling]:
    def same(name: str, *shape: int, with_bias: bool = True) -> Iterator[Spelling]:
        yield from _both(f"text_model.{name}", f"text_model.{name}", *shape, with_bias=with_bias)

    yield from same("embeddings.token_embedding", VOCABULARY, D_TEXT, with_bias=False)
    yield from same("embeddings.position_embedding", N_TOKENS, D_TEXT, with_bias=False)
    for n in range(2):
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from same(f"encoder.layers.{n}.self_attn.{projection}", D_TEXT, D_TEXT)
        yield from same(f"encoder.layers.{n}.layer_norm1", D_TEXT)
        yield from same(f"encoder.layers.{n}.layer_norm2", D_TEXT)
        yield from same(f"encoder.layers.{n}.mlp.fc1", 4 * D_TEXT, D_TEXT)
        yield from same(f"encoder.layers.{n}.mlp.fc2", D_TEXT, 4 * D_TEXT)
    yield from same("final_layer_norm", D_TEXT)


def _vae_resnet(original: str, name: str, c_in: int, c_out: int) -> Iterator[Spelling]:
    for end, *shape in (
        ("norm1", c_in),
        ("conv1", c_out, c_in, 3, 3),
        ("norm2", c_out),
        ("conv2", c_out, c_out, 3, 3),
    ):
        yield from _both(f"{original}.{end}", f"{name}.{end}", *shape)
    if c_in != c_out:
        yield from _both(f"{original}.nin_shortcut", f"{name}.conv_shortcut", c_out, c_in, 1, 1)


def _vae_middle(half: str, c: int) -> Iterator[Spelling]:
    original, name = f"{half}.mid", f"{half}.mid_block"
    yield from _vae_resnet(f"{original}.block_1", f"{name}.resnets.0", c, c)
    yield from _both(f"{original}.attn_1.norm", f"{name}.attentions.0.group_norm", c)
    ends = {"q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
    for short, end in ends.items():
        yield from _both(f"{original}.attn_1.{short}", f"{name}.attentions.0.{end}", c, c)
    yield from _vae_resnet(f"{original}.block_2", f"{name}.resnets.1", c, c)


def _vae() -> Iterator[Spelling]:
    w0, w3 = WIDTHS[0], WIDTHS[3]
    yield from _both("encoder.conv_in", "encoder.conv_in", w0, 3, 3, 3)
    c_before = w0
    for n, c in enumerate(WIDTHS):
        for j in range(2):
            name = f"encoder.down_blocks.{n}.resnets.{j}"
            yield from _vae_resnet(f"encoder.down.{n}.block.{j}", name, c_before, c)
            c_before = c
        if n < 3:
            name = f"encoder.down_blocks.{n}.downsamplers.0.conv"
            yield from _both(f"encoder.down.{n}.downsample.conv", name, c, c, 3, 3)
    yield from _vae_middle("encoder", w3)
    yield from _both("encoder.norm_out", "encoder.conv_norm_out", w3)
    yield from _both("encoder.conv_out", "encoder.conv_out", 8, w3, 3, 3)
    yield from _both("quant_conv", "quant_conv", 8, 8, 1, 1)
    yield from _both("post_quant_conv", "post_quant_conv", 4, 4, 1, 1)
    yield from _both("decoder.conv_in", "decoder.conv_in", w3, 4, 3, 3)
    yield from _vae_middle("decoder", w3)
    c_before = w3
    for n, c in enumerate(reversed(WIDTHS)):  # the original counts them from the picture's end
        for j in range(3):
            name = f"decoder.up_blocks.{n}.resnets.{j}"
            yield from _vae_resnet(f"decoder.up.{3 - n}.block.{j}", name, c_before, c)
            c_before = c
        if n < 3:
            name = f"decoder.up_blocks.{n}.upsamplers.0.conv"
            yield from _both(f"decoder.up.{3 - n}.upsample.conv", name, c, c, 3, 3)
    yield from _both("decoder.norm_out", "decoder.conv_norm_out", w0)
    yield from _both("decoder.conv_out", "decoder.conv_out", 3, w0, 3, 3)
