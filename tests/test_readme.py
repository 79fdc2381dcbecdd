"""
Every command block of the README is run.

`.ci/run` runs the two marked `demo` and `tests`, each in a bare clone. The others are run here, as
they stand, in a folder where the demo has been: those that need a real model (`dry`) on a small
checkpoint in its place, and with `--dry-run`; the walk-through of SDXL (`sdxl`) on a small file.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.main import get_command

from loco_cli.cli.app import app
from loco_cli.commands import edit
from loco_cli.families import registry
from loco_cli.models.session import RunOptions
from loco_cli.outputs.paths import EditOptions
from loco_cli.recipe.catalog import read_recipe
from loco_cli.recipe.load import Override
from tests.families.layouts import write_folder
from tests.families.original import original_tensors, write_file
from tests.families.small import small_model

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?:^<!-- run: (?P<mark>\w+) -->\n)?^```bash\n(?P<code>.*?)^```$", re.M | re.S)
BLOCKS = [
    (found["mark"] or "after", found["code"])
    for found in BLOCK.finditer((ROOT / "README.md").read_text("utf-8"))
]
IN_A_CLONE = ("demo", "tests")  # run by `.ci/run`
# what `.venv/bin/loco` is here: the entry point, with other words in place of some
LOCO = """#!{python}
import sys
sys.path.insert(0, {root!r})
from loco_cli.cli.app import main
sys.argv[1:] = [{small!r}.get(word, word) for word in sys.argv[1:]] + {more!r}
main()
"""


def marked(mark):
    """Return the blocks of a mark as parameters, named after their first line."""
    return [pytest.param(code, id=code.splitlines()[0]) for name, code in BLOCKS if name == mark]


@pytest.fixture
def here(tmp_path):
    """A folder with a `loco` to run and an edited `tiny`, as the demo leaves it."""
    recipe = read_recipe("remove_style", overrides=[Override("edit.layers", [8, 9], "--layers")])
    edit.run(edit.plan(recipe, EditOptions(tmp_path / "edited")), RunOptions(device="cpu"))
    return tmp_path


def run_block(folder, code, *, small=None, more=()):
    """Run a block as a shell does that stops at the first failure."""
    loco = folder / ".venv" / "bin" / "loco"
    loco.parent.mkdir(parents=True)
    words = {"python": sys.executable, "root": str(ROOT), "small": small or {}, "more": list(more)}
    loco.write_text(LOCO.format(**words))
    loco.chmod(0o755)
    shell = ["bash", "-euo", "pipefail", "-c", code]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        shell, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_every_block_is_run_by_somebody():
    """
    No block is in another language or under an unknown mark, and the two of a bare clone stand
    once each.
    """
    marks = [mark for mark, _ in BLOCKS]
    fences = re.findall(r"^```(\w*)$", (ROOT / "README.md").read_text("utf-8"), re.M)

    assert fences == ["bash", ""] * len(BLOCKS)
    assert set(marks) <= {*IN_A_CLONE, "after", "dry", "sdxl"}
    for mark in IN_A_CLONE:
        assert marks.count(mark) == 1
        assert f"run_block {mark}" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_every_command_is_in_the_table():
    """
    The table of commands lists what `loco --help` lists.
    """
    listed = re.findall(r"^\| `loco (\w+)", (ROOT / "README.md").read_text("utf-8"), re.M)

    assert sorted(listed) == sorted(get_command(app).commands)


@pytest.mark.parametrize("code", marked("after"))
def test_a_block_runs_after_the_demo(here, code):
    """
    What the README shows beside the two marked blocks ends well, on what the demo made.
    """
    done = run_block(here, code)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("code", marked("dry"))
def test_a_block_for_real_models_is_planned(tmp_path, code):
    """
    What the README shows of models that are not shipped is a plan on a small one of their shape.
    """
    real = set(registry.names()) & set(code.split()) - {"tiny", "tiny-plain"}
    small = {
        name: str(write_folder(tmp_path / name, small_model(name), torch.float16)) for name in real
    }

    done = run_block(tmp_path, code, small=small, more=["--dry-run"])

    assert done.returncode == 0, done.stdout + done.stderr
    assert real


@pytest.mark.parametrize("code", marked("sdxl"))
def test_the_walk_through_of_sdxl_is_walked(tmp_path, code):
    """
    Every step of it is taken, on a file of the same tensors at reduced widths.
    """
    model = small_model("sdxl")
    write_file(tmp_path / "sd_xl_base_1.0.safetensors", original_tensors(model), torch.float16)

    done = run_block(tmp_path, code)

    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "without-van-gogh.undo.safetensors").is_file()
    assert (tmp_path / "van-gogh-out.loco.json").is_file()


def test_what_it_shows_is_there():
    """
    Every picture and every recipe that the README names is in the repository.
    """
    text = (ROOT / "README.md").read_text("utf-8")

    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        assert (ROOT / picture).stat().st_size < 500_000
    for recipe in re.findall(r"loco (?:edit|evaluate|recipes show) (\w+_\w+)", text):
        assert (ROOT / "recipes" / f"{recipe}.yaml").is_file()


def test_what_contributors_are_sent_to_is_there():
    """
    Every file that the guide for contributors names exists, placeholders in capitals left out.
    """
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"`((?:loco_cli|tests|recipes)/[\w/.]+|\w+\.md)`", text))

    real = {name for name in named if not re.search(r"[A-Z]{4,}(?!\w*\.md)", name)}
    assert len(real) > 20
    assert [name for name in sorted(real) if not (ROOT / name).exists()] == []
