"""
Edits of every family in every layout.

Bytes and weights are compared in every cell. Pictures take longer and are compared once per way of
loading: from a folder of sharded variants, from a file and from a UNet.
"""

import functools
import json
import shutil
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from loco_cli.families import registry
from loco_cli.families.spec import CrossAttention
from tests.checkpoints import tree_bytes
from tests.families.in_memory import (
    PROMPT,
    RIDGE,
    SUBJECT,
    TEMPLATES,
    TO,
    InMemory,
    edit_in_memory,
    rows_of,
)
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
from tests.families.pictures import draw, load_file, load_folder, load_unet
from tests.families.small import SmallModel, small_model

FOLDERS = {
    "folder": in_folder(F16),
    "shards": in_folder(BF16, n_shards=3),
    "variants": in_folder(F32, F16),
    "variant alone": in_folder(F16, variant="fp16"),
    "sharded variants": in_folder(F32, F16, n_shards=2),
    "links": in_hub_cache(F16),
    "links to shards": in_hub_cache(F32, F16, n_shards=2),
}
FILES = {
    "file": in_file(F16),
    "ema": in_file(F32, with_ema),
    "unet": in_file(F16, only_unet),
    "diffusers unet": in_unet_file(F16),
}
NOVELAI = {"novelai": in_file(F16, as_novelai)}
PLAIN = {"folder": FOLDERS["folder"], "file": FILES["file"]}
LAYOUTS: dict[str, dict[str, Layout]] = {
    "sd15": FOLDERS | FILES | NOVELAI,
    "sd14": PLAIN,
    "openjourney": PLAIN,
    "sd21": FOLDERS | FILES,
    "sd21-base": PLAIN,
    "sdxl": FOLDERS | FILES,
    "sdxl-turbo": PLAIN,
    "deepfloyd": FOLDERS,  # never published as a file
}
DRAWN = ("sharded variants", "file", "unet")
CELLS = [(name, layout) for name, layouts in LAYOUTS.items() for layout in layouts]
# layers of down, middle and up blocks
LAYERS = {"sd1": (5, 8), "sd2": (5, 8), "sdxl": (23, 35), "if": (8, 11)}
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
# relative difference between two results that are each rounded once
ROUNDING = {F32: 1e-3, F16: 1e-2, BF16: 5e-2}
NOISE = 1e-4  # absolute difference between two pictures in float32


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
    is_drawn: bool

    @property
    def planned(self) -> set[str]:
        """The names of the planned tensors in the files of the layout."""
        names = [name for layer in edited_layers(self.model) for name in layer.tensor_names()]
        return self.layout.spell(self.model, names)


def edited_layers(model: SmallModel) -> tuple[CrossAttention, ...]:
    widths = model.configs["unet/config.json"]["block_out_channels"]
    return registry.family(model.family).layers(widths)[slice(*LAYERS[model.family])]


@pytest.fixture(scope="module")
def companions(tmp_path_factory):
    """A complete float16 folder of each small model, written once."""
    root = tmp_path_factory.mktemp("companions")
    return functools.cache(lambda name: write_folder(root / name, small_model(name), F16))


@pytest.fixture(scope="module", params=CELLS, ids="-".join)
def cell(request, tmp_path_factory, companions, loco):
    name, label = request.param
    model, layout, companion = small_model(name), LAYOUTS[name][label], companions(name)
    root = tmp_path_factory.mktemp("cell")
    base = layout.write(root, model)
    if "unet" in label:  # a UNet file takes the text encoder of a local model
        (root / "loco").mkdir()
        (root / "loco" / "models.yaml").write_text(json.dumps({name: str(companion)}))
    (root / "recipe.yaml").write_text(json.dumps(RECIPE))
    output = root / f"edited{base.suffix}"
    asked = ("edit", root / "recipe.yaml", "--model", base, "--output", output)

    with pytest.MonkeyPatch.context() as home:
        home.setenv("XDG_CONFIG_HOME", str(root))
        done = loco(*asked, "--layer-range", *LAYERS[model.family])

    assert done.exit_code == 0, done.stderr
    yield Cell(model, layout, base, output, companion, label in DRAWN)
    shutil.rmtree(root)


def test_exactly_the_planned_tensors_change(cell):
    """Keys and values of the edited layers differ in every copy; all other bytes are equal."""
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


def test_it_verifies_and_the_diff_is_the_plan(cell, loco):
    """`verify` passes, and `diff` lists exactly the planned tensors."""
    verified = loco("verify", cell.output)
    compared = loco("diff", cell.base, cell.output, "--json")

    assert verified.exit_code == 0, verified.stderr
    assert compared.exit_code == 1, compared.stderr
    found = json.loads(compared.stdout)
    assert {tensor["name"] for tensor in found["tensors"]} == cell.planned
    assert {tensor["status"] for tensor in found["tensors"]} == {"changed"}
    # labels such as IN04 number the original layout, which DeepFloyd does not have
    is_labelled = cell.model.family != "if"
    assert {tensor.get("label") is not None for tensor in found["tensors"]} == {is_labelled}
    assert found["manifest"]["matches"] is True
    counts = found["counts"]
    assert counts.pop("changed") == len(found["tensors"])
    assert counts.pop("identical") > 0
    assert set(counts.values()) == {0}


def test_undoing_gives_the_base(cell, tmp_path, loco):
    """`undo` restores every file of the base, byte for byte."""
    destination = tmp_path / f"base{cell.base.suffix}"

    done = loco("undo", cell.output, "--output", destination)

    assert done.exit_code == 0, done.stderr
    assert tree_bytes(destination) == tree_bytes(cell.base)


def test_it_is_what_the_edit_in_memory_is(cell, in_memory):
    """
    Each copy has the weights and draws the picture of a pipeline with the edit applied in memory.

    The edit in memory is the published form, solved from the inputs of the pipeline's layers.
    """
    finest = next(iter(cell.layout.dtypes.values()))
    for variant, dtype in cell.layout.dtypes.items():
        expected = in_memory(cell.model.name, finest, dtype)

        found = load(cell, variant, **expected.tokenizers)

        for path, weight in expected.weights.items():
            error = found.unet.get_submodule(path).weight - weight
            assert error.norm() <= ROUNDING[dtype] * expected.steps[path], path
        if cell.is_drawn:
            before, after = expected.pictures
            change = (after - before).norm()
            error = (after - draw(found, PROMPT.format(SUBJECT))).norm()
            assert change > 10 * NOISE
            assert error < ROUNDING[dtype] * change + NOISE


def tensors_of(content: bytes) -> tuple[list[str], dict[str, tuple[str, list[int], bytes]]]:
    """Return the tensor names of a file in order, and dtype, shape and bytes of each."""
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


def load(cell: Cell, variant: str | None, **parts: Any) -> DiffusionPipeline:
    if cell.layout.kind == "folder":
        return load_folder(cell.output, cell.model, variant, **parts)
    if cell.layout.kind == "file":
        return load_file(cell.output, cell.model, cell.companion, **parts)
    pipe = load_folder(cell.companion, cell.model, **parts)
    pipe.unet = load_unet(cell.output, cell.companion)
    return pipe


@pytest.fixture(scope="module")
def in_memory(tmp_path_factory):
    """Edit small models in memory, each once: name, dtype of the encoder read, dtype of all."""
    root = tmp_path_factory.mktemp("memory")

    @functools.cache
    def pipe_of(name: str, dtype: torch.dtype) -> DiffusionPipeline:
        model = small_model(name)
        return load_folder(write_folder(root / f"{name}-{dtype}", model, dtype), model)

    @functools.cache
    def rows(name: str, dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
        return rows_of(pipe_of(name, dtype), edited_layers(small_model(name)))

    @functools.cache
    def edited(name: str, finest: torch.dtype, dtype: torch.dtype) -> InMemory:
        return edit_in_memory(pipe_of(name, dtype), rows(name, finest), dtype)

    return edited
