"""
Diff-QuickFix: rewrite the output projection of a text encoder's first self-attention.

Tracing found one state in CLIP's text encoder that restores a corrupted concept: what the first
self-attention writes at the subject's last token. The linear map that writes it is given new
answers, in closed form:

    min_W  sum_i |W k_i - (z_i - b)|^2 + ridge |W - W'|^2
    W = (ridge W' + sum_i (z_i - b) k_i^T) (ridge I + sum_i k_i k_i^T)^-1

    symbol   what
    W', b    `out_proj` as it is, and its bias, which stays and is added to every answer
    k_i      what `out_proj` reads at a position of a source prompt
    z_i      what it writes at the position of the target prompt that answers to it

Since `z_i - b = W' t_i`, where `t_i` is what it reads of the target prompt, this is the system that
LocoEdit solves for keys and values, and the same rows take part: `tokens`, several concepts at
once, prompts that keep their answers. The first self-attention reads nothing but tokens and
positions, so no layer has to run before it.

Basu et al. 2024, arXiv:2310.13730. Their code fits to `z_i`, and the bias is then added to answers
that hold it already.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from loco_cli.editing.methods import TensorKey
from loco_cli.editing.preserve import preserve_set, preserved_prompts
from loco_cli.errors import RequestError, printable
from loco_cli.layers import LayerSet
from loco_cli.models.locate import LocatedModel
from loco_cli.recipe.record import Recipe

if TYPE_CHECKING:
    from loco_cli.editing.deltas import SolvedEdit
    from loco_cli.encoders.encode import CheckpointEncoder, EncoderPart

_LEAVE_OUT = "or use `--method locoedit`"


def check(located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet] | None) -> None:
    """Raise RequestError where no first self-attention of CLIP's can be edited, as asked."""
    method, encoders = recipe.edit.method, located.spec.context.encoders
    if recipe.edit.layer_range != "auto":
        raise RequestError(
            f"method `{method}` edits the text encoder, and no layers of the UNet",
            f"leave the layers out (`--set edit.layer_range=auto`), {_LEAVE_OUT}",
        )
    if any(encoder.kind != "clip" for encoder in encoders):
        raise RequestError(
            f"method `{method}` rests on a causal state that CLIP's text encoder has; that of "
            f"`{located.name}` is T5, which looks both ways, and the papers found none in it",
            "use `--method locoedit`",
        )
    if not located.has_encoders:
        raise RequestError(
            f"method `{method}` edits the text encoder, and `{printable(located.path)}` has "
            "none of "
            "its own",
            f"give the whole checkpoint, {_LEAVE_OUT}",
        )
    if len(encoders) > 1 and recipe.edit.encoders != "all":
        raise RequestError(
            f"`{located.name}` has {len(encoders)} text encoders, in which the papers found no "
            f"single causal state that method `{method}` could edit",
            f"edit all of them with `--set edit.encoders=all`, {_LEAVE_OUT}",
        )


def tensors(
    located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet]
) -> tuple[TensorKey, ...]:
    """Return the projection by which each encoder's first self-attention writes its answer."""
    return tuple(
        (encoder.component, f"{encoder.self_attention_path(0)}.{encoder.out_projection[0]}.weight")
        for encoder in located.spec.context.encoders
    )


def solve(
    located: LocatedModel,
    recipe: Recipe,
    layers_of: Sequence[LayerSet],
    encoder: "CheckpointEncoder",
) -> "SolvedEdit":
    """Return the solved edit of a recipe: all of its edits together, in each text encoder apart."""
    from loco_cli.editing.deltas import (  # torch lives behind this line
        SolvedEdit,
        TensorChange,
        edit_record,
    )
    from loco_cli.editing.keys import encode_problem

    preserved = preserve_set(located.spec, recipe, encoder)
    prompts = preserved_prompts(located.spec, recipe, preserved)
    problems = [encode_problem(recipe, prompts, _up_to_out_proj(part)) for part in encoder.parts]
    everything = range(len(recipe.edits))
    solutions = [problem.solve(everything) for problem in problems]
    changes = tuple(
        TensorChange(component, name, solution, problem.drift_probe())
        for (component, name), solution, problem in zip(
            tensors(located, recipe, layers_of), solutions, problems, strict=True
        )
    )
    records = tuple(
        edit_record(
            entry,
            recipe,
            LayerSet(),
            ridge=solutions[0].ridge,
            n_keys=len(problems[0].rows(i)[0]),
            residual=max(
                solution.residual(*problem.rows(i))
                for solution, problem in zip(solutions, problems, strict=True)
            ),
        )
        for i, entry in enumerate(recipe.edits)
    )
    return SolvedEdit(changes, records, preserved)


def _up_to_out_proj(part: "EncoderPart") -> "CheckpointEncoder":
    """Return an encoder that stops before the first `out_proj`; that reads its states."""
    from loco_cli.encoders.clip import ClipShape
    from loco_cli.encoders.encode import CheckpointEncoder

    assert isinstance(part.shape, ClipShape)
    return CheckpointEncoder([replace(part, shape=replace(part.shape, states="mixed"))])
