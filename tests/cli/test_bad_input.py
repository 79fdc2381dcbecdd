"""Wrong requests and wrong files: one sentence each, the right exit code, and nothing written."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoints import sd1_weights, tree_bytes, write_folder

ROOT = Path(__file__).parents[2]
EDIT = "edit remove_style --layers 8,9"
LONG = f"{'very ' * 90}van gogh"  # longer than the 77 tokens of CLIP
ABSENT_DEVICE = "cuda" if sys.platform == "darwin" else "mps"  # no machine has both
UNET = "small/unet/diffusion_pytorch_model.safetensors"

# a wrong command line, and a name that the error must contain
REQUESTS = [
    ("edit nope.yaml", "nope.yaml"),
    ("edit remove_stile", "remove_stile"),
    ("EDIT --model sd41", "sd41"),
    ("edit typo.yaml", "typo.yaml:5"),
    ("EDIT --set evaluate.seeds=99999999999", "--set evaluate.seeds=99999999999"),
    ("EDIT --set edit.rigde=1", "--set edit.rigde=1"),
    ("evaluate remove_style --base tiny --model tiny-plain", "--base"),
    ("edit snoopy --to Snoopy", "snoopy"),
    ("localize 'van gogh style' --prompt 'a house'", "a house"),
    (
        "localize x --prompt '{subject}' --prompt 'a {subject}' --prompt 'by {subject}' "
        "--target '{to}' --target 'a {to}'",
        "2 target prompts",
    ),
    ("edit '<|endoftext|>' --layers 8", "<|endoftext|>"),
    ("edit remove_style --layers 8,16", "tiny"),
    ("edit remove_style --layer-range 8 8", "--layer-range"),
    ("edit remove_style --layers eight", "eight"),
    ("EDIT --layer-range 8 10", "--layer-range"),
    ("localize 'van gogh style' --width 17", "17"),
    ("localize 'van gogh style' --window set --width 2", "--width 2"),
    ("localize 'van gogh style' --steps 1001", "1001"),
    ("generate 'a cat' --guidance inf", "inf"),
    ("EDIT --method neurons --neurons 65", "tiny"),
    ("localize remove_style --method contribution --layers 8,9", "contribution"),
    ("localize remove_style --layers 8,9 --width 2", "localize.width"),
    ("edit remove_style --set localize.method=neurons", "neurons"),
    ("EDIT --neurons 10", "locoedit"),
    ("EDIT --method neurons --set edit.hold=inference", "inference"),
    ("EDIT --set edit.strength=measured --ridge 0.1x", "0.1x"),
    ("EDIT --set edit.strength=measured --method neurons", "neurons"),
    ("EDIT --set edit.target=0.8", "edit.target"),
    ("EDIT --set edit.position=last", "edit.position"),
    (
        """EDIT --set 'source=["{subject}", "{subject}"]' --set 'target=["x", "y"]'""",
        "van gogh",
    ),
    ("localize 'monet style' --method causal-trace --search exhaustive", "causal-trace"),
    ("""EDIT --method neurons --set 'source=["by {subject}"]'""", "van gogh"),
    ("EDIT --set edit.neurons=0", "--set edit.neurons=0"),
    ("EDIT --set preserve=none --set edit.preserve_form=null-space", "null-space"),
    ("localize 'van gogh style' --component unet", "--component"),
    ("localize 'van gogh style' --noise 0", "--noise"),
    ("localize 'van gogh style' --method causal-trace --pooled", "pooled"),
    ("EDIT --ridge much", "--ridge"),
    ("EDIT --output folder", "folder"),
    ("EDIT --output notes.txt --force", "notes.txt"),
    ("EDIT --model small --output small/edited", "small/edited"),
    ("generate 'a cat' --model small --output small/cat.png", "small/cat.png"),
    ("evaluate remove_style --edited small --output small/judged", "small/judged"),
    ("EDIT --model small --save-recipe small/r.yaml --force", "small/r.yaml"),
    ("EDIT --output notes.txt/out", "notes.txt"),
    ("EDIT --save-recipe notes.txt", "notes.txt"),
    ("localize 'van gogh style' --output results", "results/localization.json"),
    ("generate 'a cat' --output cat.png", "cat.png"),
    ("evaluate remove_style --fail-under beauty=1", "beauty"),
    ("evaluate remove_style --edited small", "small"),
    ("verify nothing", "nothing"),
    ("verify notes.txt", "notes.txt"),
    ("diff tiny ./nothing", "nothing"),
]

# requests whose check needs a tokenizer, a scorer or a device, but no loaded model
LATE_REQUESTS = [
    (f"{EDIT.replace('remove_style', 'LONG')} --kind style", "very very"),
    ("localize 'van gogh style' --scorer nobody", "nobody"),
    ("localize 'van gogh style' --device DEVICE", "DEVICE"),
]

# wrong files, or a machine that lacks something
FILES = [
    ("EDIT --model ./folder", "folder"),
    (
        "localize 'van gogh style' --scorer openai/clip-vit-base-patch32",
        "openai/clip-vit-base-patch32",
    ),
    ("generate 'a cat' --model sd15", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    ("verify small", "small"),
    ("EDIT --ridge 1e12", "4 tensors"),
]

# command lines that the parser refuses
USAGE_ERRORS = [
    ("edti", "edti"),
    ("recipes lst", "lst"),
    ("nonsense", "nonsense"),
    ("EDIT --modle tiny", "--modle"),
    ("EDIT --nonsense", "--nonsense"),
    ("EDIT --device tpu", "tpu"),
    ("EDIT --dtype int4", "int4"),
    ("EDIT --method x", "--method"),
    ("EDIT --kind mood", "mood"),
    ("EDIT --batch-size many", "many"),
    ("EDIT --seeds 0", "--seeds"),
    ("EDIT --seeds 99999999999", "--seeds"),
    ("EDIT --seeds two", "--seeds"),
    ("EDIT --guidance -1", "--guidance"),
    ("EDIT --guidance low", "--guidance"),
    ("EDIT --layer-range 8", "--layer-range"),
    ("EDIT --model", "--model"),
    ("edit", "RECIPE"),
    ("edit van gogh style", "gogh style"),
]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("small") / "small", sd1_weights())


@pytest.fixture(autouse=True)
def here(here, small):
    """Fill the current folder with a model, recipes, and files of other programs."""
    shutil.copytree(small, "small")
    for name in ("folder/notes.txt", "results/localization.json"):
        (here / name).parent.mkdir()
        (here / name).write_text("mine")
    for name in ("notes.txt", "cat.png"):
        (here / name).write_text("mine")
    edits = "loco: 1\nedits:\n  - {kind: style, subject: monet}\n"
    (here / "typo.yaml").write_text(f"{edits}edit:\n  rigde: 1\n")
    return here


def words_of(line):
    """Return the words of a command line, with its placeholders filled in."""
    values = {"LONG": LONG, "DEVICE": ABSENT_DEVICE}
    return [values.get(word, word) for word in shlex.split(line.replace("EDIT", EDIT))]


@pytest.mark.parametrize(("line", "name"), REQUESTS, ids=[line for line, _ in REQUESTS])
def test_wrong_request(refused, line, name):
    """
    A wrong request is refused by the command and by its dry run, with the same sentence.
    """
    words = words_of(line)

    refused(*words, exit_code=2, names=[name])

    if words[0] not in ("verify", "undo", "diff"):  # these have no `--dry-run`
        refused(*words, "--dry-run", exit_code=2, is_same=True)


@pytest.mark.parametrize(("line", "name"), LATE_REQUESTS, ids=[line for line, _ in LATE_REQUESTS])
def test_wrong_request_that_needs_a_tokenizer(refused, line, name):
    """
    Errors that only a tokenizer, a scorer or a device reveals come before a model is loaded.
    """
    placeholder = {ABSENT_DEVICE: "DEVICE"}

    refused(*words_of(line), "--quiet", exit_code=2, names=[name], placeholders=placeholder)


@pytest.mark.parametrize(("line", "name"), FILES, ids=[line for line, _ in FILES])
def test_wrong_file(refused, line, name):
    """
    A wrong file, or a machine that lacks something, is refused with exit code 1.
    """
    refused(*words_of(line), "--quiet", exit_code=1, names=[name])


@pytest.mark.parametrize(("line", "name"), USAGE_ERRORS, ids=[line for line, _ in USAGE_ERRORS])
def test_usage_error(refused, line, name):
    """
    An error of the command line parser is printed like any other error, with a hint.
    """
    refused(*words_of(line), exit_code=2, names=[name])


def test_damaged_weights(refused, here):
    """
    Every command that reads a model refuses a damaged file by its header, and names its path.
    """
    os.truncate(here / UNET, (here / UNET).stat().st_size - 100)

    refused(*words_of("EDIT"), "--model", "./small", exit_code=1, names=[UNET])
    for line in ("generate 'a cat'", "localize 'van gogh style'"):
        refused(*words_of(line), "--model", "./small", exit_code=1, is_same=True)


@pytest.mark.parametrize(
    "line",
    [
        "localize 'van gogh style' --output out",
        "edit 'van gogh style' --output out",
        "generate 'a cat' --output out.png --steps 1000 --seeds 9",
    ],
)
def test_ctrl_c_while_sampling(here, line):
    """
    An interrupt during sampling ends with 130, without a traceback, and leaves no file.
    """
    before = tree_bytes(here)
    # a shell that runs tests in the background makes them ignore interrupts
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + (
        "from loco_cli.cli.app import app; app()"
    )
    words = [*shlex.split(line), "--device", "cpu", "--batch-size", "1"]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    env = {**os.environ, "PYTHONPATH": str(ROOT)}

    with subprocess.Popen([sys.executable, "-c", code, *words], env=env, **pipes) as process:
        for progress in process.stderr:
            is_sampling = "ing " in progress and not progress.startswith("loading")
            if is_sampling and " 0/" in progress:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        out = process.stdout.read()

    assert process.returncode == 130
    assert "Traceback" not in rest
    assert out == ""
    assert tree_bytes(here) == before
