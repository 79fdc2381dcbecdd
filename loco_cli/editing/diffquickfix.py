"""
Diff-QuickFix: rewrite the output projection of a text encoder's first self-attention.

Causal tracing found one state in CLIP's text encoder that restores a corrupted concept: the output
of the first self-attention at the subject's last token. Diff-QuickFix solves for a new projection
that writes the state of the target prompt instead:

    min_W  sum_i |W k_i - (z_i - b)|^2 + ridge |W - W'|^2
    W = (ridge W' + sum_i (z_i - b) k_i^T) (ridge I + sum_i k_i k_i^T)^-1

    symbol   meaning
    W', b    the present weight of `out_proj`, and its bias, which does not change
    k_i      the input of `out_proj` at a position of a source prompt
    z_i      its output at the matching position of the target prompt

Let `t_i` be the input of `out_proj` for the target prompt. Then `z_i - b = W' t_i`, which is the
system that LocoEdit solves for keys and values. The same options apply: `tokens`, several concepts
at once, and preserved prompts. The first self-attention depends only on tokens and positions, so
no other layer has to run.

Basu et al. 2024, arXiv:2310.13730. Their code fits to `z_i`, which already includes the bias, so
their edited encoder adds it twice.
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

_USE_LOCOEDIT = "or use `--method locoedit`"


def check(located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet] | None) -> None:
    """Raise RequestError if the model has no CLIP text encoder that the recipe may edit."""
    method, encoders = recipe.edit.method, located.spec.context.encoders
    if recipe.edit.layer_range != "auto":
        raise RequestError(
            f"method `{method}` edits the text encoder and takes no layers of the UNet",
            f"leave the layers out (`--set edit.layer_range=auto`), {_USE_LOCOEDIT}",
        )
    if any(encoder.kind != "clip" for encoder in encoders):
        raise RequestError(
            f"method `{method}` needs the single causal state of CLIP's text encoder; "
            f"`{located.name}` uses T5, which is bidirectional, and the papers found no such state "
            "in it",
            "use `--method locoedit`",
        )
    if not located.has_encoders:
        raise RequestError(
            f"method `{method}` edits the text encoder, but `{printable(located.path)}` has none",
            f"give the whole checkpoint, {_USE_LOCOEDIT}",
        )
    if len(encoders) > 1 and recipe.edit.encoders != "all":
        raise RequestError(
            f"method `{method}` edits a single causal state, but `{located.name}` has "
            f"{len(encoders)} text encoders, in which the papers found no such state",
            f"edit all of them with `--set edit.encoders=all`, {_USE_LOCOEDIT}",
        )


def tensors(
    located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet]
) -> tuple[TensorKey, ...]:
    """Return the output projection of the first self-attention of each text encoder."""
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
    """Solve all edits of a recipe together, separately for each text encoder."""
    from loco_cli.editing.deltas import SolvedEdit, TensorChange, edit_record  # imports torch
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
    """Return an encoder whose states are the inputs of the first `out_proj`."""
    from loco_cli.encoders.clip import ClipShape
    from loco_cli.encoders.encode import CheckpointEncoder

    assert isinstance(part.shape, ClipShape)
    return CheckpointEncoder([replace(part, shape=replace(part.shape, states="mixed"))])
