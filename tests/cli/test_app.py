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


def last_line(code, **options):
    """Run code in a new interpreter, and return the last line of its output."""
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True, **options)
    return done.stdout.splitlines()[-1]


def test_version():
    """
    `loco --version` prints the version of the package.
    """
    result = run(app, ["--version"])

    assert result.stdout == f"loco {__version__}\n"
    assert result.exit_code == 0


def test_error(golden):
    """
    An error is printed with its hint and without a traceback, and sets the exit code.
    """
    for error, code in (
        (UnknownName("unknown model `x`", "choose y"), 2),
        (CheckpointError("bad"), 1),
        (OSError(28, "No space left on device", "out/unet"), 1),
        (ZeroDivisionError("division by zero"), 1),
        (KeyboardInterrupt(), 130),
    ):
        result = run(fails(error), ["it"])

        assert (result.exit_code, result.stdout) == (code, "")
        assert "Traceback" not in result.stderr
        golden(result.stderr)


def test_debug():
    """
    `--debug` shows the traceback of a bug.
    """
    result = run(fails(ZeroDivisionError("division by zero")), ["it", "--debug"])

    assert result.exit_code == 1
    assert "Traceback" in result.stderr


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


@pytest.mark.parametrize(
    ("lines", "absent"),
    [
        (["--help", "recipes --help", "models list -h"], HEAVY),
        (["recipes list", "recipes check remove_style", "models show sd14 --json"], ["torch"]),
    ],
    ids=["help", "catalogs"],
)
def test_imports(lines, absent):
    """
    Help imports no module of tensors, models or recipes; commands about these import no torch.
    """
    code = f"""
import sys
from loco_cli.cli.app import app
for line in {lines!r}:
    try:
        app(line.split())
    except SystemExit as stop:
        assert not stop.code
print([name for name in {absent!r} if name in sys.modules])
"""

    assert last_line(code) == "[]"


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

    assert last_line(code, env=environ) == f"{policy} False"


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
