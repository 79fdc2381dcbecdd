"""
The command blocks of the README and the manual, all of which run.

`.ci/run` runs the README's blocks with the marks `demo` and `tests`, each in a bare clone. The
tests below run the others, page by page, in a folder with the output of the demo:

    no mark      unchanged
    dry          with `--dry-run`; small checkpoints replace real models
    sdxl         on a small SDXL file
    pickle       on a small pickled checkpoint
    elsewhere    not at all, since they need a network or a GPU; their options are checked

The blocks with the mark `file` provide the files that the commands read, such as a recipe.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache

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
from tests.pages import PAGES, README, ROOT, blocks_of, commands_of, files_of

IN_A_CLONE = ("demo", "tests")  # run by `.ci/run`
HERE = ("after", "dry", "sdxl", "pickle")
# The `loco` of these tests: the entry point, with some words replaced.
LOCO = """#!{python}
import sys
sys.path.insert(0, {root!r})
from loco_cli.cli.app import main
sys.argv[1:] = [{small!r}.get(word, word) for word in sys.argv[1:]] + {more!r}
main()
"""
PYTHON = '#!/bin/sh\nexec {python} "$@"\n'


def pages_with(mark):
    """Return the pages that have a command block with a mark, as parameters."""
    return [pytest.param(page, id=page.stem) for page in PAGES if commands_of(page, mark)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A read-only folder with the output of the demo, an edited `tiny`."""
    folder = tmp_path_factory.mktemp("demo")
    recipe = read_recipe("remove_style", overrides=[Override("edit.layers", [8, 9], "--layers")])
    edit.run(edit.plan(recipe, EditOptions(folder / "edited")), RunOptions(device="cpu"))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Small checkpoints with the shape of known models, each written on first use."""
    folder = tmp_path_factory.mktemp("models")
    return cache(lambda name: write_folder(folder / name, small_model(name), torch.float16))


def run_block(folder, code, *, small=None, more=()):
    """Run a block in a shell that stops at the first failure; return the output of a failure."""
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    words = {"python": sys.executable, "root": str(ROOT), "small": small or {}, "more": list(more)}
    for name, script in {"loco": LOCO, "python": PYTHON}.items():
        (programs / name).write_text(script.format(**words))
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    shell = ["bash", "-euo", "pipefail", "-c", code]
    done = subprocess.run(
        shell, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else f"{code}\n{done.stdout}{done.stderr}"


def run_blocks(folder, page, mark, **how):
    """Run the blocks of a page with a mark, in order, and return the failures."""
    for name, text in files_of(page).items():
        (folder / name).write_text(text)
    return [
        failed for code in commands_of(page, mark) if (failed := run_block(folder, code, **how))
    ]


def loco_lines(page):
    """Yield the arguments of every `loco` command on a page."""
    for block in blocks_of(page):
        joined = block.code.replace("\\\n", " ") if block.run else ""
        for line in re.split(r"\n|&&|\||;", joined):
            words = shlex.split(line, comments=True) if re.match(r"\s*loco\s", line) else []
            if words:
                yield tuple(words[1:])


def test_every_block_has_a_known_mark():
    """Every mark is known, and the README alone has the two one-line blocks for a bare clone."""
    marks = {page: [block.run for block in blocks_of(page) if block.run] for page in PAGES}
    known = {*IN_A_CLONE, *HERE, "elsewhere"}

    assert {mark for found in marks.values() for mark in found} <= known
    for mark in IN_A_CLONE:
        assert [page for page in PAGES for one in marks[page] if one == mark] == [README]
        assert [len(code.splitlines()) for code in commands_of(README, mark)] == [1]
        assert f"run_block {mark}" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_the_readme_lists_every_command():
    """The README's table has the commands of `loco --help`."""
    listed = re.findall(r"^\| `loco (\w+)", README.read_text("utf-8"), re.M)

    assert sorted(listed) == sorted(get_command(app).commands)


def test_every_option_exists():
    """Each `loco` command of a page exists and has the options shown."""
    unknown = []
    for first, *rest in (words for page in PAGES for words in loco_lines(page)):
        command = get_command(app).commands.get(first, get_command(app))
        if hasattr(command, "commands") and rest:
            command, *rest = command.commands.get(rest[0]), *rest[1:]
        known = {"--help", *(name for one in getattr(command, "params", ()) for name in one.opts)}
        options = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
        if command is None or not set(options) <= known:
            unknown.append((first, *rest))

    assert unknown == []


@pytest.mark.parametrize("page", pages_with("after"))
def test_the_blocks_of_a_page_run_after_the_demo(demo, tmp_path, page):
    """The blocks of a page succeed after the demo; the tutorial takes a minute."""
    shutil.copytree(demo, tmp_path, dirs_exist_ok=True)

    assert run_blocks(tmp_path, page, "after") == []


@pytest.mark.parametrize("page", pages_with("dry"))
def test_the_blocks_for_real_models_are_planned(models, tmp_path, page):
    """The blocks for models that are not shipped succeed as plans on small models."""
    words = {word for code in commands_of(page, "dry") for word in code.split()}
    small = {name: str(models(name)) for name in set(registry.names()) & words - {"tiny"}}

    assert run_blocks(tmp_path, page, "dry", small=small, more=["--dry-run"]) == []


@pytest.mark.parametrize("page", pages_with("sdxl"))
def test_the_sdxl_block_runs(tmp_path, page):
    """The SDXL block succeeds on a file with the same tensors at reduced widths."""
    tensors = original_tensors(small_model("sdxl"))
    write_file(tmp_path / "sd_xl_base_1.0.safetensors", tensors, torch.float16)

    assert run_blocks(tmp_path, page, "sdxl") == []
    for output in ("without-van-gogh.undo.safetensors", "van-gogh-out.loco.json"):
        assert (tmp_path / output).is_file()


@pytest.mark.parametrize("page", pages_with("pickle"))
def test_a_pickle_becomes_a_file_that_is_edited(tmp_path, page):
    """The commands for a `.ckpt` file convert it to a checkpoint."""
    tensors = original_tensors(small_model("sd15"))
    halves = {name: tensor.half() for name, tensor in tensors.items()}
    torch.save({"state_dict": halves}, tmp_path / "model.ckpt")

    assert run_blocks(tmp_path, page, "pickle") == []


def test_pictures_are_small_and_recipes_exist(tmp_path):
    """Pictures have at most 500 kB; recipes that a page names or prints are valid."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
            assert (page.parent / picture).stat().st_size <= 500_000, picture
        for name in re.findall(r"loco (?:edit|evaluate|recipes show) (\w+_\w+)(?![.\w])", text):
            assert (ROOT / "recipes" / f"{name}.yaml").is_file(), name
        for name, recipe in files_of(page).items():
            (tmp_path / name).write_text(recipe)
            assert read_recipe(str(tmp_path / name)).concepts
