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
    """Return an app behind the same door that has one command."""
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
    `loco --version` prints the package's version.
    """
    result = run(app, ["--version"])

    assert result.stdout == f"loco {__version__}\n"
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [(UnknownName("unknown model `x`", "choose y"), 2), (CheckpointError("bad"), 1)],
)
def test_an_error_of_ours_is_a_sentence_and_its_code(error, code):
    """
    A LocoError becomes `error:` and `hint:` on stderr, nothing on stdout, and its exit code.
    """
    result = run(fails(error), ["it"])

    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {error.message}\n")
    assert (f"\nhint: {error.hint}\n" in result.stderr) == bool(error.hint)
    assert "Traceback" not in result.stderr


def test_a_full_disk_is_no_bug():
    """
    An error of the operating system is a sentence with the file's name, and exit code 1.
    """
    result = run(fails(OSError(28, "No space left on device", "out/unet")), ["it"])

    assert result.stderr == "error: `out/unet`: no space left on device\n"
    assert result.exit_code == 1


def test_a_bug_says_so_and_hides_the_traceback():
    """
    Anything unforeseen is a bug to be reported; `--debug` shows the traceback.
    """
    hidden = run(fails(ZeroDivisionError("division by zero")), ["it"])
    shown = run(fails(ZeroDivisionError("division by zero")), ["it", "--debug"])

    assert hidden.exit_code == shown.exit_code == 1
    assert hidden.stderr.startswith("error: this is a bug in loco: ZeroDivisionError: division by")
    assert "please report it, with what `--debug` prints" in hidden.stderr
    assert "Traceback" not in hidden.stderr
    assert "Traceback" in shown.stderr


def test_ctrl_c_is_130():
    """
    An interrupted command ends with 130 and without a traceback.
    """
    result = run(fails(KeyboardInterrupt()), ["it"])

    assert result.exit_code == 130
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments", [["recips"], ["models", "show"], ["models", "list", "--nope"], ["--nope"]]
)
def test_a_wrong_command_line_is_2(arguments):
    """
    Unknown commands and options, and missing arguments, end with 2 and say so on stderr.
    """
    result = run(app, arguments)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")


def test_a_typo_of_a_command_is_guessed():
    """
    An unknown command names the one that was probably meant.
    """
    assert "did you mean `recipes`?" in run(app, ["recips"]).stderr


def test_shared_options_parse():
    """
    Options that several commands share give the same values everywhere.
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


@pytest.mark.parametrize("arguments", [["--help"], ["recipes", "--help"], ["models", "list", "-h"]])
def test_help_imports_nothing_heavy(arguments):
    """
    Help is answered without tensors, models or recipes.
    """
    code = f"""
import sys
from loco_cli.cli.app import app
try:
    app({arguments!r})
except SystemExit:
    pass
print([name for name in {HEAVY!r} if name in sys.modules])
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["recipes", "list"],
        ["recipes", "check", "remove_style"],
        ["models", "show", "sd14", "--json"],
    ],
)
def test_words_need_no_torch(arguments):
    """
    Commands that only speak of recipes and models never import torch.
    """
    code = f"""
import sys
from loco_cli.cli.app import app
try:
    app({arguments!r})
except SystemExit as stop:
    assert not stop.code
print("torch" in sys.modules)
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "False"


def test_help_is_quick():
    """
    `loco --help` takes 0.3 seconds of processor time at most, start of Python included.
    """
    spent = []
    while len(spent) < 10 and min(spent, default=1.0) > 0.3:  # a busy machine is slow at times
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
def test_threads_that_wait_leave_the_cores_to_others(asked, policy):
    """
    OpenMP is told so before torch is there to read it, unless the user has said otherwise.
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


def test_a_broken_pipe_is_quiet():
    """
    A reader that stops reading gets no traceback.
    """
    command = f"{sys.executable} -m loco_cli models show tiny | head -1"

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("name")
    assert done.stderr == ""


def test_a_ctrl_c_while_loading_is_130():
    """
    SIGINT before the first command is known ends the process with 130 and without a word.
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


def test_a_real_ctrl_c_is_130():
    """
    SIGINT ends the process with 130 and prints no traceback.
    """
    code = """
import signal, time, typer
from loco_cli.cli.app import LocoGroup
# a shell that runs tests in the background has them ignore interrupts
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
