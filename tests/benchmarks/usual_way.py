"""
An edit with diffusers: load the pipeline, solve each projection as published, save it.

    python -m tests.benchmarks.usual_way sdxl FILE CONFIG OUTPUT --layers 45 49 [--ridge 0.01]

The keys are the subject's last token in the same prompts as `loco edit` takes them. Prints the
seconds of each step as JSON.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import diffusers
import torch
import transformers
from torch import Tensor

from loco_cli.concept import Concept, edit_pairs
from loco_cli.families import registry

PIPELINES = {
    "sd1": diffusers.StableDiffusionPipeline,
    "sdxl": diffusers.StableDiffusionXLPipeline,
}


def load(name: str, file: Path, config: Path) -> diffusers.DiffusionPipeline:
    """Return the pipeline of a single float16 file."""
    family = registry.get(name).family.name
    options = {"safety_checker": None} if family == "sd1" else {"add_watermarker": False}
    return PIPELINES[family].from_single_file(
        str(file), config=str(config), local_files_only=True, dtype=torch.float16, **options
    )


@torch.no_grad()
def keys_and_targets(
    pipeline: diffusers.DiffusionPipeline, concept: Concept
) -> tuple[Tensor, Tensor]:  # [n, d_text] each
    """Return the embedding of the subject's last token, and of that which stands for it."""
    keys, targets = zip(*_rows(pipeline, concept), strict=True)
    return torch.stack(keys), torch.stack(targets)


def _rows(
    pipeline: diffusers.DiffusionPipeline, concept: Concept
) -> Iterator[tuple[Tensor, Tensor]]:
    for pair in edit_pairs(concept):
        tokens = [pipeline.tokenizer(text).input_ids for text in (pair.source, pair.target)]
        before = pair.source[: pair.source.rindex(pair.subject) + len(pair.subject)]
        last = len(pipeline.tokenizer(before).input_ids) - 2  # an end token is behind it
        answer = max(1, last - (len(tokens[0]) - len(tokens[1])))
        states = [_encode(pipeline, text) for text in (pair.source, pair.target)]
        yield states[0][last], states[1][answer]


def _encode(pipeline: diffusers.DiffusionPipeline, text: str) -> Tensor:  # [n_tokens, d_text]
    encoded = pipeline.encode_prompt(
        text, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    return encoded[0][0].double()


def published(weight: Tensor, keys: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """Return a projection as LocoEdit's code solves for it, d x d, in float64."""
    w = weight.double()
    values = targets @ w.T  # [n, d_out]
    gram = keys.T @ keys + ridge * torch.eye(keys.shape[1], dtype=torch.float64)  # [d, d]
    return ((ridge * w + values.T @ keys) @ torch.linalg.inv(gram)).to(weight.dtype)


@torch.no_grad()
def edit(
    pipeline: diffusers.DiffusionPipeline,
    name: str,
    layers: range,
    keys: Tensor,
    targets: Tensor,
    ridge: float,
) -> None:
    """Solve keys and values of some layers anew, one after the other, in place."""
    for layer in layers:
        spec = registry.get(name).layers[layer]
        attention = pipeline.unet.get_submodule(spec.module_path)
        for projection in spec.projections:
            weight = attention.get_submodule(projection.name).weight
            weight.copy_(published(weight, keys, targets, ridge))


def main() -> None:
    """Edit one file, and say how long each step took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    for path in ("file", "config", "output"):
        parser.add_argument(path, type=Path)
    parser.add_argument("--layers", type=int, nargs=2, required=True)
    parser.add_argument("--subject", default="van gogh")
    parser.add_argument("--to", default="painting")
    parser.add_argument("--ridge", type=float, default=0.01)
    args = parser.parse_args()
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    ends = [time.perf_counter()]
    pipeline = load(args.model, args.file, args.config)
    ends.append(time.perf_counter())
    keys, targets = keys_and_targets(pipeline, Concept.of("style", args.subject, args.to))
    ends.append(time.perf_counter())
    edit(pipeline, args.model, range(*args.layers), keys, targets, args.ridge)
    ends.append(time.perf_counter())
    pipeline.save_pretrained(args.output)
    ends.append(time.perf_counter())
    steps = zip(("load", "encode", "solve", "save"), ends, ends[1:], strict=False)
    print(json.dumps({step: end - begin for step, begin, end in steps}))


if __name__ == "__main__":
    main()
