"""A single file as a pipeline: what it lacks comes from a configuration, nothing from a network."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from loco_cli.families.spec import ModelSpec, TextEncoderSpec
from loco_cli.sampling.vocabulary import packaged_tokenizers

Tensors = Callable[[str], Mapping[str, Tensor]]  # of a component, as diffusers names them


def read_single_file(
    kind: Any, path: Path, spec: ModelSpec, config: Path, tensors: Tensors, options: dict[str, Any]
) -> DiffusionPipeline:
    """
    Return the pipeline, of diffusers' class `kind`, of a file with its `config` folder.

    Text encoders are made of the file's own tensors here, since diffusers knows but some of the
    names that files have for them.
    """
    encoders = {
        encoder.component: _encoder(encoder, config, tensors, options["dtype"])
        for encoder in spec.context.encoders
    }
    return kind.from_single_file(
        str(path), config=str(config), **encoders, **packaged_tokenizers(config), **options
    )


def _encoder(encoder: TextEncoderSpec, config: Path, tensors: Tensors, dtype: Any) -> CLIPTextModel:
    kind = CLIPTextModelWithProjection if encoder.has_projection else CLIPTextModel
    return kind.from_pretrained(
        None,
        config=kind.config_class.from_pretrained(config / encoder.component),
        state_dict=dict(tensors(encoder.component)),
        dtype=dtype,
    )
