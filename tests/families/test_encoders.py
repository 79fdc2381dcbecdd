"""Edits of the text encoders of every family, in several layouts."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from tests.checkpoints import tree_bytes
from tests.families.in_memory import PROMPT, RIDGE, SUBJECT, TEMPLATES, TO, published_form
from tests.families.layouts import F16, F32, Layout, in_file, in_folder, write_folder
from tests.families.pictures import draw, end_of, load_file, load_folder
from tests.families.small import SmallModel, small_model
from tests.families.test_matrix import NOISE, RECIPE, ROUNDING

OUT_PROJ = "self_attn.out_proj.weight"
FOLDER, FILE = in_folder(F16), in_file(F16)
OPEN_CLIP = "model.transformer.resblocks.0.attn.out_proj.weight"
CLIP = f"text_model.encoder.layers.0.{OUT_PROJ}"
# layout and names of the edited tensors of each cell
CELLS: dict[tuple[str, str], tuple[Layout, set[str]]] = {
    ("sd15", "folder"): (FOLDER, {CLIP}),
    ("sd15", "variants"): (in_folder(F32, F16), {CLIP}),
    ("sd15", "file"): (FILE, {f"cond_stage_model.transformer.{CLIP}"}),
    ("sd21", "folder"): (FOLDER, {CLIP}),
    ("sd21", "file"): (FILE, {f"cond_stage_model.{OPEN_CLIP}"}),
    ("sdxl", "folder"): (FOLDER, {CLIP}),
    ("sdxl", "file"): (
        FILE,
        {f"conditioner.embedders.0.transformer.{CLIP}", f"conditioner.embedders.1.{OPEN_CLIP}"},
    ),
}


@dataclass(frozen=True)
class Cell:
    """One family in one layout, its encoders edited; `companion` is a whole folder of the model."""

    model: SmallModel
    layout: Layout
    base: Path
    output: Path
    companion: Path
    names: set[str]

    def load(self, path: Path, variant: str | None = None) -> DiffusionPipeline:
        if self.layout.kind == "folder":
            return load_folder(path, self.model, variant)
        return load_file(path, self.model, self.companion)


def edit_encoders(loco, base: Path, output: Path, *options: str) -> Path:
    """Edit the encoders of a base from the command line, and return the output."""
    settings = {**RECIPE["edit"], "method": "diffquickfix", "encoders": "all"}
    recipe = output.with_name("recipe.yaml")
    recipe.write_text(json.dumps({**RECIPE, "edit": settings}))
    done = loco("edit", recipe, "--model", base, "--output", output, *options)
    assert done.exit_code == 0, done.stderr
    return output


@pytest.fixture(scope="module", params=CELLS, ids="-".join)
def cell(request, tmp_path_factory, loco):
    (layout, names), model = CELLS[request.param], small_model(request.param[0])
    root = tmp_path_factory.mktemp("cell")
    companion = write_folder(root / "companion", model, F16)
    base = layout.write(root, model)
    output = edit_encoders(loco, base, root / f"edited{base.suffix}")

    yield Cell(model, layout, base, output, companion, names)
    shutil.rmtree(root)


def test_it_verifies_and_the_diff_is_the_plan(cell, loco, tmp_path):
    """`verify` passes, `diff` lists the planned tensors, and `undo` restores the base."""
    verified = loco("verify", cell.output)
    compared = loco("diff", cell.base, cell.output, "--json")

    assert verified.exit_code == 0, verified.stderr
    found = json.loads(compared.stdout)
    assert {tensor["name"] for tensor in found["tensors"]} == cell.names
    owners = {name for name in cell.model.tensors if name.startswith("text_encoder")}
    assert {tensor["component"] for tensor in found["tensors"]} == owners
    assert len(found["tensors"]) == found["counts"]["changed"]
    assert found["manifest"]["matches"] is True
    destination = tmp_path / f"base{cell.base.suffix}"
    done = loco("undo", cell.output, "--output", destination)
    assert done.exit_code == 0, done.stderr
    assert tree_bytes(destination) == tree_bytes(cell.base)


def test_it_draws_what_the_edit_in_memory_draws(cell):
    """
    Each copy draws the same picture as the pipeline with the edit applied in memory.

    The edit in memory is the published form, solved from the inputs and outputs of the encoders.
    """
    rows = []
    for variant, dtype in cell.layout.dtypes.items():
        pipe = cell.load(cell.base, variant)
        # the edit is solved once, from the finest dtype
        rows = rows or [rows_of(pipe, *parts) for parts in encoders_of(pipe)]
        before = draw(pipe, PROMPT.format(SUBJECT))
        for (encoder, _), (keys, answers) in zip(encoders_of(pipe), rows, strict=True):
            edit_in_memory(first_out_proj(encoder), keys, answers, dtype)
        wanted = draw(pipe, PROMPT.format(SUBJECT))

        found = draw(cell.load(cell.output, variant), PROMPT.format(SUBJECT))

        change = (wanted - before).norm()
        assert change > 10 * NOISE
        assert (wanted - found).norm() < ROUNDING[dtype] * change + NOISE


@pytest.mark.filterwarnings("ignore:.*")  # diffusers and peft warn of unused keys
@pytest.mark.parametrize("name", ["sd15", "sd21", "sdxl"])
def test_as_a_lora_it_is_the_same_edit(name, tmp_path, loco):
    """In diffusers, base plus LoRA equal the edited checkpoint up to float16 rounding."""
    model = small_model(name)
    base = write_folder(tmp_path / "base", model, F16)

    edited = edit_encoders(loco, base, tmp_path / "edited")
    lora = edit_encoders(loco, base, tmp_path / "lora.safetensors", "--as", "lora")

    assert loco("verify", lora).exit_code == 0
    pipe = load_folder(base, model)
    pipe.load_lora_weights(lora)
    pipe.fuse_lora(components=[part for part in model.tensors if part.startswith("text_encoder")])
    pipe.unload_lora_weights()
    wanted = load_folder(edited, model)
    for (one, _), (other, _) in zip(encoders_of(pipe), encoders_of(wanted), strict=True):
        theirs = other.state_dict()
        for key, value in one.state_dict().items():
            torch.testing.assert_close(value, theirs[key], rtol=2**-11, atol=1e-6)


def encoders_of(pipe: DiffusionPipeline) -> list[tuple[nn.Module, object]]:
    """Return each text encoder with its tokenizer."""
    pairs = [(pipe.text_encoder, pipe.tokenizer)]
    second = getattr(pipe, "text_encoder_2", None)
    return [*pairs, (second, pipe.tokenizer_2)] if second is not None else pairs


def first_out_proj(encoder: nn.Module) -> nn.Linear:
    core = getattr(encoder, "text_model", encoder)
    return core.encoder.layers[0].self_attn.out_proj


@torch.no_grad()
def rows_of(pipe: DiffusionPipeline, encoder: nn.Module, tokenizer) -> tuple[Tensor, Tensor]:
    """Return keys and answers [n, d] without bias, at the position of each prompt's last word."""
    prompts = [template.format(word) for word in (SUBJECT, TO) for template in TEMPLATES]
    last = torch.tensor([end_of(pipe, prompt) - 1 for prompt in prompts])
    ids = tokenizer(prompts, padding="max_length", max_length=77, return_tensors="pt").input_ids
    module, seen = first_out_proj(encoder), {}
    handle = module.register_forward_hook(lambda _, args, out: seen.update(read=args[0], wrote=out))
    encoder(ids)
    handle.remove()
    rows = torch.arange(len(prompts))
    keys, _ = seen["read"][rows, last].double().chunk(2)
    _, answers = (seen["wrote"][rows, last].double() - module.bias.double()).chunk(2)
    return keys, answers


@torch.no_grad()
def edit_in_memory(module: nn.Linear, keys: Tensor, answers: Tensor, dtype: torch.dtype) -> None:
    """Put the published form in place of a weight, rounded to the dtype of its file."""
    assert RECIPE["edit"]["ridge"] == RIDGE
    module.weight.copy_(published_form(module.weight.double(), keys, answers).to(dtype))
