"""
The time of the solve for growing numbers of concepts, compared with the published form.

    python -m tests.benchmarks.solving sdxl [--repeat 3] [--concepts 1 10 100]

Keys are random, seven for each concept, as many as a style has prompts; weights are random, one
for each shape, since what they hold makes no difference to the time. Prints JSON.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from loco_cli.editing.ridge import solve_keys
from loco_cli.families import registry
from loco_cli.families.spec import ModelSpec
from loco_cli.protocol.wordings import EDIT_TEMPLATES
from loco_cli.recipe.values import Ridge
from tests.published import ridge_update

N_KEYS = len(EDIT_TEMPLATES["style"])
RIDGE = 0.01
SMALL = {"sd15": ((8, 16, 24, 24), 64), "sdxl": ((8, 16, 24), 192)}


def seconds_of(work: Callable[[], object], repeat: int) -> list[float]:
    """Return the seconds of each repetition of some work."""
    taken = []
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return taken


def problem(spec: ModelSpec, n_concepts: int) -> tuple[Tensor, Tensor]:  # [n, d_text] each
    """Return random keys and targets of the size of text embeddings."""
    generator = torch.Generator().manual_seed(n_concepts)
    shape = (2, n_concepts * N_KEYS, spec.d_text)
    keys, targets = torch.randn(shape, generator=generator)
    return keys, targets


def weights_of(spec: ModelSpec) -> list[Tensor]:
    """Return a float16 weight for every projection; those of one shape are one."""
    shapes = [shape for shape in spec.tensor_shapes().values() if len(shape) == 2]
    of_shape = {shape: (0.02 * torch.randn(shape)).half() for shape in dict.fromkeys(shapes)}
    return [of_shape[shape] for shape in shapes]


def factors(
    weights: list[Tensor], keys: Tensor, targets: Tensor
) -> list[tuple[Tensor, Tensor]]:  # [d_out, n], [n, d_text]
    """Return the change of every projection in two factors."""
    none = keys[:0]
    solution = solve_keys(keys, targets, none, None, Ridge(RIDGE))
    return [solution.change(weight) for weight in weights]


def write_out(weights: list[Tensor], changes: list[tuple[Tensor, Tensor]]) -> None:
    """Make every new weight, rounded to its dtype; none is kept."""
    for weight, (left, right) in zip(weights, changes, strict=True):
        (weight.double() + left @ right).to(weight.dtype)


def timed(weights: list[Tensor], keys: Tensor, targets: Tensor, repeat: int) -> dict[str, Any]:
    """Return the seconds of all factors, of all new weights, and of one published solve."""
    changes = factors(weights, keys, targets)
    values = targets @ weights[0].float().T  # [n, d_out]
    work: dict[str, Callable[[], object]] = {
        "factors": lambda: factors(weights, keys, targets),
        "weights": lambda: write_out(weights, changes),
        "published": lambda: ridge_update(weights[0], keys, values, RIDGE),
    }
    return {what: seconds_of(task, repeat) for what, task in work.items()}


def main() -> None:
    """Print how long each size takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--concepts", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--small", action="store_true", help="reduced widths")
    args = parser.parse_args()
    spec = registry.get(args.model)
    if args.small:
        widths, d_text = SMALL[args.model]
        spec = replace(spec, d_text=d_text, layers=spec.family.layers(widths))
    weights, sizes = weights_of(spec), []
    for n_concepts in args.concepts:
        keys, targets = problem(spec, n_concepts)
        seconds = timed(weights, keys, targets, args.repeat)
        sizes.append({"concepts": n_concepts, "keys": len(keys), "seconds": seconds})
    print(json.dumps({"tensors": len(weights), "sizes": sizes}))


if __name__ == "__main__":
    main()
