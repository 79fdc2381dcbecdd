"""The app: exit codes, errors, imports and interrupts."""

import os
import signal
import subprocess
import sys
import time

import pytest
import typer
from typer.testing import CliRunner

from loco_cli import __version__
from loco_cli.cli.app import LocoGroup, app
from loco_cli.cli.options import BatchSize, Debug, DryRun, Json, LayerRange, Quiet, Set
from loco_cli.errors import CheckpointError, UnknownName

run = CliRunner().invoke

HEAVY = ("torch", "numpy", "diffusers", "transformers", "safetensors", "huggingface_hub", "yaml")


def with_command(command):
    """Return an app with the same error handler and one command of its own."""
    made = typer.Typer(cls=LocoGroup, pretty_exceptions_enable=False)
    made.command("it")(command)
    made.command("other")(lambda: None)
    return made


def fails(error):
    def command(ctx: typer.Context, debug: Debug = False):
        raise error

    return with_command(command)


def test_version():
    """
    `loco --version` prints the version of the package.
    """
    result = run(app, ["--version"])

    assert result.stdout == f"loco {__version__}\n"
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [(UnknownName("unknown model `x`", "choose y"), 2), (CheckpointError("bad"), 1)],
)
def test_loco_error(error, code):
    """
    A `LocoError` is printed with its hint on stderr, and sets the exit code.
    """
    result = run(fails(error), ["it"])

    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {error.message}\n")
    assert (f"\nhint: {error.hint}\n" in result.stderr) == bool(error.hint)
    assert "Traceback" not in result.stderr


def test_os_error():
    """
    An error of the operating system is printed with its file, and exits with 1.
    """
    result = run(fails(OSError(28, "No space left on device", "out/unet")), ["it"])

    assert result.stderr == "error: `out/unet`: no space left on device\n"
    assert result.exit_code == 1


def test_bug(golden):
    """
    Any other exception is printed as a bug, with a traceback only after `--debug`.
    """
    hidden = run(fails(ZeroDivisionError("division by zero")), ["it"])
    shown = run(fails(ZeroDivisionError("division by zero")), ["it", "--debug"])

    assert hidden.exit_code == shown.exit_code == 1
    golden(hidden.stderr)
    assert "Traceback" not in hidden.stderr
    assert "Traceback" in shown.stderr


def test_keyboard_interrupt():
    """
    An interrupted command exits with 130, without a traceback.
    """
    result = run(fails(KeyboardInterrupt()), ["it"])

    assert result.exit_code == 130
    assert "Traceback" not in result.stderr


def test_shared_options():
    """
    Shared options have the same values in all commands.
    """
    seen = {}

    def command(
        ctx: typer.Context,
        layer_range: LayerRange = None,
        batch_size: BatchSize = None,
        settings: Set = None,
        dry_run: DryRun = False,
        as_json: Json = False,
        quiet: Quiet = False,
    ):
        seen.update(range=layer_range, batch=batch_size, settings=settings)
        seen.update(json=ctx.obj.as_json, quiet=ctx.obj.is_quiet, debug=ctx.obj.is_debug)

    words = "it --layer-range 8 10 --batch-size 4 --set a=1 --set b=2 --json -q"
    result = run(with_command(command), words.split())

    assert result.exit_code == 0, result.stderr
    assert seen["range"] == (8, 10)
    assert seen["batch"] == 4
    assert seen["settings"] == ["a=1", "b=2"]
    assert (seen["json"], seen["quiet"], seen["debug"]) == (True, True, False)
    assert run(with_command(command), ["it", "--batch-size", "auto"]).exit_code == 0
    assert run(with_command(command), ["it", "--batch-size", "many"]).exit_code == 2


def test_imports_of_help():
    """
    Help imports no module of tensors, models or recipes.
    """
    lines = [["--help"], ["recipes", "--help"], ["models", "list", "-h"]]
    code = f"""
import sys
from loco_cli.cli.app import app
for line in {lines!r}:
    try:
        app(line)
    except SystemExit:
        pass
print([name for name in {HEAVY!r} if name in sys.modules])
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


def test_imports_of_catalogs():
    """
    Commands about recipes and models do not import torch.
    """
    recipe = ["recipes", "check", "remove_style"]
    lines = [["recipes", "list"], recipe, ["models", "show", "sd14", "--json"]]
    code = f"""
import sys
from loco_cli.cli.app import app
for line in {lines!r}:
    try:
        app(line)
    except SystemExit as stop:
        assert not stop.code
print("torch" in sys.modules)
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "False"


def test_time_of_help():
    """
    `loco --help` takes at most 0.3 seconds of processor time, with the start of Python.
    """
    spent = []
    while (
        len(spent) < 10 and min(spent, default=1.0) > 0.3
    ):  # other processes may slow down some runs
        before = os.times()
        subprocess.run(
            [sys.executable, "-m", "loco_cli", "--help"], capture_output=True, check=True
        )
        after = os.times()
        spent.append(
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )

    assert min(spent) <= 0.3


@pytest.mark.parametrize(("asked", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_wait_policy(asked, policy):
    """
    OpenMP threads wait passively, set before torch is imported, unless the user sets a policy.
    """
    code = """
import atexit, os, sys
from loco_cli.cli.app import main
atexit.register(lambda: print(os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules))
sys.argv = ["loco", "--version"]
main()
"""
    environ = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environ |= {"OMP_WAIT_POLICY": asked} if asked else {}

    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1] == f"{policy} False"


def test_broken_pipe():
    """
    A closed pipe gives no traceback.
    """
    command = f"{sys.executable} -m loco_cli models show tiny | head -1"

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("name")
    assert done.stderr == ""


def test_sigint_during_import():
    """
    SIGINT during the first imports exits with 130 and prints nothing.
    """
    code = """
import signal, sys
from loco_cli.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)
class Interrupted:
    def find_spec(self, name, *_):
        if name == "loco_cli.cli.console":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupted())
main()
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_sigint():
    """
    SIGINT exits with 130, without a traceback.
    """
    code = """
import signal, time, typer
from loco_cli.cli.app import LocoGroup
# a shell that runs tests in the background makes them ignore interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
app = typer.Typer(cls=LocoGroup, pretty_exceptions_enable=False)
@app.command()
def wait():
    print("ready", flush=True)
    time.sleep(30)
@app.command()
def other():
    pass
app(["wait"])
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)

    assert process.returncode == 130
    assert "Traceback" not in stderr
