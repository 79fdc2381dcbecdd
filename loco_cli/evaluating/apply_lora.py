"""A LoRA on a running model: what it adds to the weights of its base, for a while."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from torch import Tensor, nn

from loco_cli.checkpoint.lora import LoraPart
from loco_cli.sampling.conditioning import PromptReader
from loco_cli.sampling.pipeline import Pipeline
from loco_cli.sampling.weights import parameter_of, replaced_weights


@contextmanager
def with_lora(pipeline: Pipeline, parts: Sequence[LoraPart]) -> Iterator[Pipeline]:
    """Give the pipeline with a LoRA at strength 1; after it, the weights are what they were."""
    with ExitStack() as stack:
        for component in sorted({part.component for part in parts}):
            module = getattr(pipeline.pipe, component)
            own = [part for part in parts if part.component == component]
            stack.enter_context(replaced_weights(module, _merged(module, own)))
        # the prompts that were read so far may read otherwise now
        yield replace(pipeline, reader=PromptReader(pipeline.pipe, pipeline.spec))


def _merged(module: nn.Module, parts: Sequence[LoraPart]) -> dict[str, Tensor]:
    merged = {}
    for part in parts:
        weight = parameter_of(module, part.name).detach().cpu().double()
        merged[part.name] = weight + part.read().reshape(weight.shape)
    return merged
