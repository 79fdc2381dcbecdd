"""
The cost of a UNet evaluation in other memory formats and compiled.

    python -m tests.benchmarks.formats [--model tiny] [--batch 32] [--repeat 8] [--device cpu]

The ways take turns; medians of the processor's seconds (of the clock's on an accelerator) and how
far the predictions are apart. The first call, which compiles, is told by itself.
"""

import argparse
import copy
import time
from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch import Tensor, nn

from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions, load_model

Evaluate = Callable[[], Tensor]


def ways_of(unet: nn.Module, batch: int, device: str) -> Mapping[str, Evaluate]:
    """Return an evaluation of the same noise and prompts in every way."""
    generator = torch.Generator().manual_seed(0)
    config, dtype = unet.config, next(unet.parameters()).dtype
    size = (batch, config.in_channels, config.sample_size, config.sample_size)
    noise = torch.randn(size, generator=generator).to(device, dtype)
    states = torch.randn(batch, 77, config.cross_attention_dim, generator=generator)
    states = states.to(device, dtype)

    def call(model: nn.Module, sample: Tensor) -> Evaluate:
        return lambda: model(sample, torch.tensor(500), encoder_hidden_states=states)[0]

    last = torch.channels_last
    return {
        "as it is": call(unet, noise),
        "channels last": call(
            copy.deepcopy(unet).to(memory_format=last), noise.to(memory_format=last)
        ),
        "compiled": call(torch.compile(copy.deepcopy(unet)), noise),
    }


@torch.no_grad()
def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    pipeline = load_model(locate(args.model), RunOptions(device=args.device))
    ways = ways_of(pipeline.pipe.unet, args.batch, args.device)
    clock = time.process_time if args.device == "cpu" else time.monotonic
    first, answers = {}, {}
    for name, evaluate in ways.items():
        begun = time.monotonic()
        answers[name] = evaluate().float().cpu()
        first[name] = time.monotonic() - begun
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.repeat):
        for name, evaluate in ways.items():
            begun = clock()
            evaluate().cpu()
            spent[name].append(clock() - begun)
    for name in ways:
        apart = float((answers[name] - answers["as it is"]).abs().max())
        print(f"{name}: {median(spent[name]):.3f} s, first {first[name]:.1f} s, apart {apart:.1e}")


if __name__ == "__main__":
    main()
