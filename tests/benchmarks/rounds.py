"""One round of commands on a checkpoint: copies, edits, comparisons and the edit with diffusers."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.checkpoint.reader import read_array
from loco_cli.families import registry
from tests.benchmarks import children
from tests.benchmarks.children import Run, python, run

CONCEPT = ("van gogh style", "--to", "painting")
PAPER = ("--ridge", "0.01", "--set", "edit.tokens=last-subject", "--set", "preserve=none")
# what two ways to the same weights may differ by: one encodes in float16, and both round to it
AGREEMENT = 0.05

RunRecorder = dict[str, list[Run]]


@dataclass(frozen=True)
class Bench:
    """A model's files in a folder: `Bench("sdxl", Path("work/sdxl"), (45, 49), is_small=False)`."""

    model: str
    folder: Path
    layer_range: tuple[int, int]
    is_small: bool

    @property
    def base(self) -> Path:
        """The checkpoint as it was made."""
        return self.folder / "base.safetensors"

    @property
    def config(self) -> Path:
        """The configuration that diffusers needs for a single file."""
        return self.folder / "config"

    @property
    def tensors(self) -> tuple[str, ...]:
        """The edited tensors by their names in diffusers."""
        layers = registry.get(self.model).layers[slice(*self.layer_range)]
        return tuple(name for layer in layers for name in layer.tensor_names())


def one_round(bench: Bench) -> Iterator[tuple[str, Run]]:
    """Yield every run under its name; what it wrote is removed when it is no longer needed."""
    copy, edited = bench.folder / "copy.safetensors", bench.folder / "edited.safetensors"
    yield from _copy(bench, copy)
    paper = _edit(bench, edited, bench.layer_range, *PAPER)
    yield "edit", paper
    _check_hashes(bench, edited, json.loads(paper.output))
    children.warm(bench.base, copy)
    yield "cmp", run("cmp", bench.base, copy)
    copy.unlink()
    yield "diff", _diff(bench, edited, len(bench.tensors))
    usual = bench.folder / "usual"
    yield "usual way", _usual(bench, usual)
    _check_agreement(bench, edited, usual)
    shutil.rmtree(usual)
    _remove(edited)
    yield "edit, defaults", _edit(bench, edited, bench.layer_range)
    yield "diff, defaults", _diff(bench, edited, len(bench.tensors))
    _remove(edited)
    n_layers = registry.get(bench.model).n_layers
    yield "edit, all layers", _edit(bench, edited, (0, n_layers), *PAPER)
    yield "diff, all layers", _diff(bench, edited, 2 * n_layers)
    _remove(edited)


def _copy(bench: Bench, copy: Path) -> Iterator[tuple[str, Run]]:
    children.warm(bench.base)
    yield "cp", run("cp", bench.base, copy)
    yield "sync", run("sync", "-f", copy)
    yield "openssl", run("openssl", "dgst", "-sha256", "-r", copy)


def _edit(bench: Bench, output: Path, layer_range: tuple[int, int], *options: str) -> Run:
    children.warm(bench.base)
    layers = ("--layer-range", *map(str, layer_range))
    files = ("--model", bench.base, "--output", output)
    return python("loco_cli", "edit", *CONCEPT, *files, *layers, *options, "--json", "--quiet")


def _diff(bench: Bench, edited: Path, n_changed: int) -> Run:
    children.warm(bench.base, edited)
    found = python("loco_cli", "diff", bench.base, edited, "--json", "--quiet", ok=(1,))
    document = json.loads(found.output)
    assert document["counts"]["changed"] == n_changed
    assert document["manifest"]["matches"] is True
    return found


def _usual(bench: Bench, output: Path) -> Run:
    children.warm(bench.base)
    layers = ("--layers", *map(str, bench.layer_range))
    paths = (bench.base, bench.config, output)
    return python("tests.benchmarks.usual_way", bench.model, *paths, *layers)


def _check_hashes(bench: Bench, edited: Path, manifest: dict[str, Any]) -> None:
    for side, path in (("base", bench.base), ("output", edited)):
        recorded = {file["path"]: file["sha256"] for file in manifest[side]["files"]}
        digest = run("openssl", "dgst", "-sha256", "-r", path).output.split()[0]
        assert recorded[path.name] == digest


def _check_agreement(bench: Bench, edited: Path, usual: Path) -> None:
    """Fail unless the usual way came to the same weights."""
    base, ours, theirs = (open_checkpoint(path) for path in (bench.base, edited, usual))
    for name in bench.tensors:
        before, mine, other = (
            np.asarray(read_array(found.slots("unet", name)[0]), np.float32)
            for found in (base, ours, theirs)
        )
        apart = np.linalg.norm(mine - other) / np.linalg.norm(mine - before)
        assert apart < AGREEMENT, f"{name}: {apart:.3f} of the change apart"


def _remove(edited: Path) -> None:
    for path in edited.parent.glob(f"{edited.stem}.*"):
        path.unlink()
