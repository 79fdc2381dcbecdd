"""Every family in every layout: edited, verified, compared, undone and drawn with."""

import copy
import json
import shutil
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from click.testing import Result
from diffusers import DiffusionPipeline
from torch import Tensor, nn
from typer.testing import CliRunner

from loco_cli.cli.app import app
from loco_cli.models.family import layers_of
from loco_cli.models.spec import CrossAttention
from tests.checkpoints import tree_bytes
from tests.families.layouts import (
    BF16,
    F16,
    F32,
    Layout,
    in_file,
    in_folder,
    in_hub_cache,
    in_unet_file,
    write_folder,
)
from tests.families.original import as_novelai, only_unet, with_ema
from tests.families.pictures import contexts_of, draw, end_of, load_file, load_folder, load_unet
from tests.families.small import SmallModel, small_model

FOLDERS = {
    "folder": in_folder(F16),
    "shards": in_folder(BF16, n_shards=3),
    "variants": in_folder(F32, F16),
    "sharded variants": in_folder(F32, F16, n_shards=2),
    "variant alone": in_folder(F16, variant="fp16"),
}
FILES = {"file": in_file(F16), "unet": in_file(F32, only_unet), "diffusers unet": in_unet_file(F16)}
ONLY_SD1 = {
    "links": in_hub_cache(F16),
    "ema": in_file(F32, with_ema),
    "novelai": in_file(F16, as_novelai),
}
LAYOUTS: dict[str, dict[str, Layout]] = {
    "sd15": FOLDERS | FILES | ONLY_SD1,
    "sd21": FOLDERS | FILES,
    "sd21-base": {"folder": FOLDERS["folder"], "file": FILES["file"]},
    "sdxl": FOLDERS | FILES,
    "deepfloyd": FOLDERS,
}
CELLS = [(name, layout) for name, layouts in LAYOUTS.items() for layout in layouts]
LAYERS = {"sd1": (8, 14), "sd2": (8, 14), "sdxl": (30, 50), "if": (8, 14)}
SUBJECT, TO = "van gogh", "painting"
PROMPT = "a house in the style of {}"
TEMPLATES = ("{}", PROMPT)
RIDGE = 0.01
RECIPE = {
    "loco": 1,
    "edits": [
        {
            "kind": "style",
            "subject": SUBJECT,
            "to": TO,
            "source": [template.format("{subject}") for template in TEMPLATES],
            "target": [template.format("{to}") for template in TEMPLATES],
        }
    ],
    "preserve": "none",
    "edit": {"tokens": "last-subject", "ridge": RIDGE},
}
# of the change: what two ways to the same numbers, rounded once each, may differ by
ROUNDING = {F32: 1e-3, F16: 1e-2, BF16: 5e-2}
NOISE = 1e-4  # of 12288 numbers in float32


@dataclass(frozen=True)
class Cell:
    """
    One family in one layout, edited: `base` and `output` are folders or files.

    `companion` is a whole folder of the model, for its configuration and what a UNet lacks.
    """

    model: SmallModel
    layout: Layout
    base: Path
    output: Path
    companion: Path

    @property
    def layers(self) -> tuple[CrossAttention, ...]:
        """The layers that were edited."""
        widths = self.model.configs["unet/config.json"]["block_out_channels"]
        return layers_of(self.model.family, widths)[slice(*LAYERS[self.model.family])]

    @property
    def planned(self) -> set[str]:
        """The names, in its files, of the tensors that should have changed."""
        names = [name for layer in self.layers for name in layer.tensor_names()]
        return self.layout.spell(self.model, names)


def loco(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module", params=CELLS, ids="-".join)
def cell(request, tmp_path_factory):
    name, layout = request.param
    model, layout = small_model(name), LAYOUTS[name][layout]
    root = tmp_path_factory.mktemp("cell")
    base = layout.write(root, model)
    companion = write_folder(root / "companion", model, F16)
    (root / "loco").mkdir()
    (root / "loco" / "models.yaml").write_text(json.dumps({name: str(companion)}))
    (root / "recipe.yaml").write_text(json.dumps(RECIPE))
    output = root / f"edited{base.suffix}"
    asked = ("edit", root / "recipe.yaml", "--model", base, "--output", output)

    with pytest.MonkeyPatch.context() as home:
        home.setenv("XDG_CONFIG_HOME", str(root))  # where a UNet alone finds its text encoder
        done = loco(*asked, "--layer-range", *LAYERS[model.family])

    assert done.exit_code == 0, done.stderr
    yield Cell(model, layout, base, output, companion)
    shutil.rmtree(root)


def test_exactly_the_planned_tensors_change(cell):
    """
    Keys and values of the named layers differ, in every copy; all else is the base's, bit for bit.
    """
    before, after = tree_bytes(cell.base), tree_bytes(cell.output)
    weights = [path for path in before if not path or path.endswith(".safetensors")]
    changed = Counter()

    for path in weights:
        (order, one), (other_order, other) = tensors_of(before[path]), tensors_of(after[path])
        assert order == other_order
        changed.update(name for name in order if one[name] != other[name])

    assert set(changed) == cell.planned
    assert set(changed.values()) == {len(cell.layout.dtypes)}
    assert all(after[path] == content for path, content in before.items() if path not in weights)


def test_it_verifies_and_the_diff_is_the_plan(cell):
    """
    `verify` finds nothing wrong, and `diff` finds what was planned and nothing else.
    """
    verified = loco("verify", cell.output)
    compared = loco("diff", cell.base, cell.output, "--json")

    assert verified.exit_code == 0, verified.stderr
    assert compared.exit_code == 1, compared.stderr
    found = json.loads(compared.stdout)
    assert {tensor["name"] for tensor in found["tensors"]} == cell.planned
    assert {tensor["status"] for tensor in found["tensors"]} == {"changed"}
    assert found["manifest"]["matches"] is True
    counts = found["counts"]
    assert counts.pop("changed") == len(found["tensors"])
    assert counts.pop("identical") > 0
    assert set(counts.values()) == {0}


def test_undoing_gives_the_base(cell, tmp_path):
    """
    `undo` restores every file of the base, byte for byte.
    """
    destination = tmp_path / f"base{cell.base.suffix}"

    done = loco("undo", cell.output, "--output", destination)

    assert done.exit_code == 0, done.stderr
    assert tree_bytes(destination) == tree_bytes(cell.base)


def test_it_draws_what_the_edit_in_memory_draws(cell):
    """
    Loaded by diffusers, every copy draws what the pipeline draws after the same edit in memory.

    That edit is the published form, solved here from what the pipeline's own layers read.
    """
    finest = next(iter(cell.layout.dtypes))
    rows = rows_of(load(cell, cell.base, finest), cell.layers)
    for variant, dtype in cell.layout.dtypes.items():
        base, edited = (load(cell, path, variant) for path in (cell.base, cell.output))
        before, found = (draw(pipe, PROMPT.format(SUBJECT)) for pipe in (base, edited))
        before_weights = copy.deepcopy(base.unet.state_dict())

        edit_in_memory(base.unet, rows, dtype)

        expected = draw(base, PROMPT.format(SUBJECT))
        change = (before - expected).norm()
        assert change > 10 * NOISE
        assert (found - expected).norm() < ROUNDING[dtype] * change + NOISE
        for name, weight in base.unet.state_dict().items():
            step = weight - before_weights[name]
            error = edited.unet.get_parameter(name) - weight
            assert error.norm() <= ROUNDING[dtype] * step.norm(), name


def tensors_of(content: bytes) -> tuple[list[str], dict[str, tuple[str, list[int], bytes]]]:
    """Return the names of a file's tensors in its order, and dtype, shape and bytes of each."""
    n_bytes = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:n_bytes])
    header.pop("__metadata__", None)
    return list(header), {
        name: (
            entry["dtype"],
            entry["shape"],
            content[slice(*(n_bytes + offset for offset in entry["data_offsets"]))],
        )
        for name, entry in header.items()
    }


def load(cell: Cell, path: Path, variant: str | None) -> DiffusionPipeline:
    if cell.layout.kind == "folder":
        return load_folder(path, cell.model, variant)
    if cell.layout.kind == "file":
        return load_file(path, cell.model, cell.companion)
    pipe = load_folder(cell.companion, cell.model)
    pipe.unet = load_unet(path, cell.companion)
    return pipe


def rows_of(
    pipe: DiffusionPipeline, layers: Iterable[CrossAttention]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return keys and targets [n, d] of each projection: prompts at their last word's position."""
    paths = [f"{layer.module_path}.{p.name}" for layer in layers for p in layer.projections]
    prompts = [template.format(word) for word in (SUBJECT, TO) for template in TEMPLATES]
    last = torch.tensor([end_of(pipe, prompt) - 1 for prompt in prompts])
    contexts = contexts_of(pipe, paths, prompts)
    return {
        path: context[torch.arange(len(prompts)), last].double().chunk(2)
        for path, context in contexts.items()
    }


@torch.no_grad()
def edit_in_memory(
    unet: nn.Module, rows: Mapping[str, tuple[Tensor, Tensor]], dtype: torch.dtype
) -> None:
    """Edit the projections of a UNet, rounding them to the dtype of their file."""
    for path, (keys, targets) in rows.items():
        weight = unet.get_submodule(path).weight
        edited = published_form(weight.double(), keys, targets @ weight.double().T)
        weight.copy_(edited.to(dtype))


def published_form(weight: Tensor, keys: Tensor, values: Tensor) -> Tensor:  # [d_out, d]
    """Return (ridge W + values^T keys) (ridge I + keys^T keys)^-1, arXiv:2405.01008."""
    gram = RIDGE * torch.eye(keys.shape[1], dtype=keys.dtype) + keys.T @ keys
    return torch.linalg.solve(gram, (RIDGE * weight + values.T @ keys).T).T
