"""
Small models of the true architectures: every block, name and layer, at reduced widths.

Weights come from a fixed seed. Encoders keep the 64 channels per head of CLIP, because a file does
not contain the number of heads. Tokenizers have the vocabulary of CLIP, except DeepFloyd's.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import Unigram
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

from loco_cli.families import registry

WORDS = ("a", "painting", "in", "the", "style", "of", "van", "gogh", "photo", "house", "cat")
LETTERS = "abcdefghijklmnopqrstuvwxyz,.'- "
_VAE = {"block_out_channels": (8, 16, 24, 24), "norm_num_groups": 4, "sample_size": 64}
_CLIP_L = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 1}
_OPEN_CLIP = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 2}
_UNET = {"sample_size": 8, "norm_num_groups": 4}
_SD = {"block_out_channels": (8, 16, 24, 24)}

# values that replace those of the packaged configuration, by component
_SMALLER: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "sd15": {
        "unet": {**_UNET, **_SD, "cross_attention_dim": 64, "attention_head_dim": 4},
        "text_encoder": _CLIP_L,
    },
    "sd21": {
        "unet": {**_UNET, **_SD, "cross_attention_dim": 128, "attention_head_dim": (1, 2, 4, 4)},
        "text_encoder": _OPEN_CLIP,
    },
    "sdxl": {
        "unet": {
            **_UNET,
            "block_out_channels": (8, 16, 24),
            "cross_attention_dim": 192,
            "attention_head_dim": (1, 2, 4),
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 128,
        },
        "text_encoder": _CLIP_L,
        "text_encoder_2": {**_OPEN_CLIP, "projection_dim": 128},
    },
}
_LIKE = {"sd14": "sd15", "openjourney": "sd15", "sd21-base": "sd21", "sdxl-turbo": "sdxl"}
_SMALLER = {**_SMALLER, **{name: _SMALLER[like] for name, like in _LIKE.items()}}
_CLASSES: Mapping[str, Callable[[Any], nn.Module]] = {
    "UNet2DConditionModel": UNet2DConditionModel.from_config,
    "AutoencoderKL": AutoencoderKL.from_config,
    "CLIPTextModel": lambda config: CLIPTextModel(CLIPTextConfig(**config)),
    "CLIPTextModelWithProjection": lambda config: CLIPTextModelWithProjection(
        CLIPTextConfig(**config)
    ),
    "T5EncoderModel": lambda config: T5EncoderModel(T5Config(**config)),
}

# DeepFloyd/IF-I-XL-v1.0, which has no packaged configuration
_IF_INDEX = {
    "_class_name": "IFPipeline",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDPMScheduler"],
    "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "T5Tokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "watermarker": [None, None],
}
_IF_SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "clip_sample": True,
    "dynamic_thresholding_ratio": 0.95,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.5,
    "thresholding": True,
    "variance_type": "learned_range",
}
IF_UNET = {
    "_class_name": "UNet2DConditionModel",
    "act_fn": "gelu",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
    "attention_head_dim": 8,
    "block_out_channels": (8, 16, 24, 32),
    "cross_attention_dim": 64,
    "cross_attention_norm": "group_norm",
    "down_block_types": ("ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3),
    "encoder_hid_dim": 48,
    "encoder_hid_dim_type": "text_proj",
    "in_channels": 3,
    "layers_per_block": 3,
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "norm_num_groups": 4,
    "out_channels": 6,
    "resnet_time_scale_shift": "scale_shift",
    "sample_size": 16,
    "time_embedding_act_fn": "gelu",
    "up_block_types": (*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"),
}
_T5 = {
    "architectures": ["T5EncoderModel"],
    "d_ff": 96,
    "d_kv": 12,
    "d_model": 48,
    "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": False,
    "is_gated_act": True,
    "model_type": "t5",
    "num_heads": 4,
    "num_layers": 24,
    "tie_word_embeddings": False,
    "vocab_size": 64,
}


@dataclass(frozen=True)
class SmallModel:
    """
    A model in memory: `small_model("sd15")`.

    `tensors` are each part's, float32, named as published folders name them; `configs` hold the
    JSON beside them, by path.
    """

    name: str
    family: str
    tensors: Mapping[str, Mapping[str, Tensor]]
    configs: Mapping[str, Mapping[str, Any]]

    def write_configs(self, root: Path) -> None:
        """Write all files of a diffusers folder except its weights."""
        for path, config in self.configs.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(json.dumps(config), encoding="utf-8")
        for part in ("tokenizer", "tokenizer_2"):
            if f"{part}/tokenizer_config.json" in self.configs and self.family != "if":
                shutil.copy(registry.CLIP_VOCABULARY, root / part / "vocab.json")
                shutil.copy(registry.CLIP_MERGES, root / part / "merges.txt")


@cache
def small_model(name: str) -> SmallModel:
    """Return the small version of a known model from the hub."""
    if name == "deepfloyd":
        return _model(name, _if_configs())
    return _model(name, _packaged_configs(name, {"vae": _VAE, **_SMALLER[name]}))


def full_model(name: str) -> SmallModel:
    """Return a known model at its published size, with tensors on the meta device."""
    with torch.device("meta"):
        return _model(name, _packaged_configs(name, {}))


def _model(name: str, configs: Mapping[str, Mapping[str, Any]]) -> SmallModel:
    index = configs["model_index.json"]
    tensors = {}
    for seed, part in enumerate(("unet", "vae", "text_encoder", "text_encoder_2")):
        if part in index:
            torch.manual_seed(seed)
            tensors[part] = _published(_drawn(index[part][1], configs[f"{part}/config.json"]))
    family = registry.get(name).family.name
    if family == "sd1":
        positions = torch.arange(77)[None]
        tensors["text_encoder"]["text_model.embeddings.position_ids"] = positions
    return SmallModel(name, family, tensors, configs)


def _packaged_configs(
    name: str, smaller: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return the JSON of a packaged configuration, with parts replaced by `smaller`."""
    folder = registry.config_folder(registry.get(name))
    assert folder
    return {
        path.relative_to(folder).as_posix(): {
            **json.loads(path.read_text(encoding="utf-8")),
            **(smaller.get(path.parent.name, {}) if path.name == "config.json" else {}),
        }
        for path in sorted(folder.rglob("*.json"))
    }


def _if_configs() -> dict[str, dict[str, Any]]:
    return {
        "model_index.json": _IF_INDEX,
        "scheduler/scheduler_config.json": _IF_SCHEDULER,
        "text_encoder/config.json": _T5,
        "tokenizer/tokenizer.json": _unigram(),
        "tokenizer/tokenizer_config.json": {
            "tokenizer_class": "T5Tokenizer",
            "extra_ids": 0,
            "model_max_length": 77,
        },
        "unet/config.json": IF_UNET,
    }


def _drawn(kind: str, config: Mapping[str, Any]) -> nn.Module:
    module = _CLASSES[kind](config)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            # equal norms and zero biases would hide exchanged tensors
            parameter.add_(0.05 * torch.randn_like(parameter))
            if ".to_out.0." in name:
                parameter.mul_(8)  # larger, or an untrained model would ignore its prompt
    return module


def _published(module: nn.Module) -> dict[str, Tensor]:
    """Return the state of a module under the tensor names of files."""
    state = {name: value.detach().contiguous() for name, value in module.state_dict().items()}
    if isinstance(module, CLIPTextModel):
        return {f"text_model.{name}": value for name, value in state.items()}
    state.pop("encoder.embed_tokens.weight", None)  # T5 ties it to `shared.weight`
    return state


def _unigram() -> dict[str, Any]:
    """Return a tokenizer like T5's: words and letters as pieces, with an end token."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(letter, -4.0) for letter in LETTERS] + [(f"▁{word}", -1.0) for word in WORDS]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return json.loads(tokenizer.to_str())
