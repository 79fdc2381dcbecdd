"""Every wrong request and every wrong file, with the sentence it gets: nothing is ever written."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from platformdirs import user_config_dir
from transformers import CLIPTokenizer
from typer.testing import CliRunner

from loco_cli.cli.app import app
from loco_cli.families import registry
from tests.checkpoints import sd1_weights, tree_bytes, write_folder

ROOT = Path(__file__).parents[2]
EDIT = ["edit", "remove_style", "--layers", "8,9"]
KNOWN = ", ".join(registry.names())
LONG = "very " * 90 + "van gogh"
LISTED = "`loco edit --help` lists what it takes"
WRITTEN = "give the folder or the file that `loco edit` wrote"
OTHER_THAN = "is not one of"
ABSENT = "cuda" if sys.platform == "darwin" else "mps"  # no machine has both

# what is typed, exit code, sentence, hint
REQUESTS = {
    "no such recipe": (
        ["edit", "nope.yaml"],
        "recipe `nope.yaml` does not exist",
        "`loco recipes list` shows the catalog",
    ),
    "a typo in a name": (
        ["edit", "remove_stile"],
        "unknown recipe `remove_stile`",
        "did you mean `remove_style`? to use it as a subject, add `--kind`",
    ),
    "a name that is nothing": (
        ["edit", "erase_everything"],
        "unknown recipe `erase_everything`",
        "`loco recipes list` shows the catalog",
    ),
    "a recipe that is a folder": (
        ["edit", "folder"],
        "recipe `folder` is a folder",
        "to use `folder` as a subject, add `--kind object`",
    ),
    "no such model": (
        [*EDIT, "--model", "sd41"],
        "unknown model `sd41`",
        f"choose one of {KNOWN}, or give a folder, a `.safetensors` file or a hub id",
    ),
    "a typo in a model": (
        [*EDIT, "--model", "tinny"],
        "unknown model `tinny`",
        "did you mean `tiny`?",
    ),
    "no such file": (
        [*EDIT, "--model", "no/such/model"],
        "there is no file or folder `no/such/model`",
        "give a diffusers folder or a single `.safetensors` file",
    ),
    "a typo in a key": (
        ["edit", "typo.yaml"],
        "recipe `typo.yaml:5`: unknown key `edit.rigde`",
        "did you mean `edit.ridge`?",
    ),
    "seeds without end": (
        [*EDIT, "--set", "evaluate.seeds=99999999999"],
        "`--set evaluate.seeds=99999999999`: `evaluate.seeds` is `99999999999`, not at most 1000",
        None,
    ),
    "a key with a wrong value": (
        ["edit", "ridge.yaml"],
        "recipe `ridge.yaml:4`: `edit.ridge` is `-1`, "
        "not `auto`, a number above 0, or a multiple such as `0.01x`",
        None,
    ),
    "an unknown key on the command line": (
        [*EDIT, "--set", "edit.rigde=1"],
        "`--set edit.rigde=1`: unknown key `edit.rigde`",
        "did you mean `edit.ridge`?",
    ),
    "a setting that is none": (
        [*EDIT, "--set", "nonsense"],
        "`--set nonsense` is not `KEY=VALUE`",
        "write it like `edit.ridge=0.1`",
    ),
    "a fact without to": (
        ["edit", "the british monarch fact"],
        "fact `the british monarch` has no target",
        "set `to:` in the recipe, or pass `--to`",
    ),
    "a fact without to, evaluated": (
        ["evaluate", "the british monarch fact"],
        "fact `the british monarch` has no target",
        "set `to:` in the recipe, or pass `--to`",
    ),
    "two bases": (
        ["evaluate", "remove_style", "--base", "tiny", "--model", "tiny-plain"],
        "`--base` and `--model` both say what was edited",
        "give one of them",
    ),
    "a fact without to in a file": (
        ["edit", "fact.yaml"],
        "recipe `fact.yaml:2`: fact `the pope` has no target",
        "set `to:` in the recipe, or pass `--to`",
    ),
    "a concept that goes to itself": (
        ["edit", "snoopy", "--to", "Snoopy"],
        "`snoopy` and its target `Snoopy` are the same",
        None,
    ),
    "no concept": (
        ["localize", ""],
        "concept `` has no subject",
        'write it like "van gogh style"',
    ),
    "a prompt without its slot": (
        ["localize", "van gogh style", "--prompt", "a house"],
        "source prompt `a house` has no `{subject}`",
        None,
    ),
    "prompts that do not pair": (
        [
            *("localize", "van gogh style", "--prompt", "{subject}", "--prompt", "a {subject}"),
            *("--prompt", "by {subject}", "--target", "{to}", "--target", "a {to}"),
        ],
        "the counts of target prompts (2) and source prompts (3) differ",
        "give one target prompt for all, or one per source prompt",
    ),
    "what is edited and preserved": (
        [*EDIT, "--set", "preserve=[van gogh]"],
        "`--set preserve=[van gogh]`: `van gogh` is both edited and preserved",
        None,
    ),
    "an edit to what another edit takes away": (
        ["edit", "many_edits", "--layers", "8", "--set", "edits.2.to=r2d2"],
        "`--set edits.2.to=r2d2`: edits 2 and 1 contradict each other: `the ceo of apple` becomes "
        "`r2d2`, but `r2d2` becomes `a robot`",
        "give edit 2 the target of edit 1, or remove one of them",
    ),
    "a subject that the tokenizer makes nothing of": (
        ["edit", "<|endoftext|>", "--layers", "8"],
        "the tokenizer finds no token of `<|endoftext|>` in `<|endoftext|>`",
        "write the subject in words",
    ),
    "a layer that is not there": (
        ["edit", "remove_style", "--layers", "8,16"],
        "layer 16 does not exist: `tiny` has layers 0 to 15",
        None,
    ),
    "a range that goes too far": (
        ["edit", "remove_style", "--layer-range", "8", "17"],
        "layer 16 does not exist: `tiny` has layers 0 to 15",
        None,
    ),
    "a range without end": (
        ["evaluate", "remove_style", "--layer-range", "0", "99999999999"],
        "layer 99999999998 does not exist: `tiny` has layers 0 to 15",
        None,
    ),
    "an empty range": (
        ["edit", "remove_style", "--layer-range", "8", "8"],
        "`--layer-range`: `edit.layer_range` is `[8, 8]`, which is empty; "
        "a range is half-open: `8 10` means layers 8 and 9",
        None,
    ),
    "layers that are none": (
        ["edit", "remove_style", "--layers", "eight"],
        "layer list `eight` does not consist of numbers and ranges",
        'write it like `"1-3,10,11"`',
    ),
    "layers that run backwards": (
        ["edit", "remove_style", "--layers", "9-8"],
        "layer list `9-8` runs backwards in `9-8`",
        None,
    ),
    "layers twice": (
        [*EDIT, "--layer-range", "8", "10"],
        "`--layers` and `--layer-range` say the same thing",
        "give one of them",
    ),
    "no published layers": (
        ["edit", "remove_style", "--model", "tiny-plain", "--set", "edit.layer_range=published"],
        "the papers name no layers for kind `style` in `tiny-plain`",
        "use `layer_range: auto`, or name the layers",
    ),
    "a window that is too wide": (
        ["localize", "van gogh style", "--width", "17"],
        "window width 17 is not between 1 and 16, the number of layers",
        None,
    ),
    "a width that is none": (
        ["localize", "van gogh style", "--width", "wide"],
        "`--width`: `localize.width` is `wide`, not `auto` or a number of layers",
        None,
    ),
    "more steps than there are": (
        ["localize", "van gogh style", "--steps", "1001"],
        "1001 steps exceed the maximum of 1000",
        None,
    ),
    "a guidance without end": (
        ["localize", "van gogh style", "--guidance", "inf"],
        "`--guidance`: `localize.guidance` is `Infinity`, not a finite number",
        None,
    ),
    "a guidance without end, drawn": (
        ["generate", "a cat", "--guidance", "inf"],
        "guidance `inf` is no finite number",
        None,
    ),
    "more neurons than channels": (
        [*EDIT, "--method", "neurons", "--neurons", "65"],
        "cannot edit 65 neurons: layer 8 of `tiny` has 64 in each projection",
        "lower `--neurons`, or name other layers",
    ),
    "more neurons than layers that may be found have": (
        ["edit", "remove_style", "--method", "neurons", "--neurons", "33"],
        "cannot edit 33 neurons: layer 0 of `tiny` has 32 in each projection",
        "lower `--neurons`, or name other layers",
    ),
    "layers for a search that looks for them": (
        ["localize", "remove_style", "--method", "contribution", "--layers", "8,9"],
        "`--layers` is set, but method `contribution` ignores it",
        "it is for `--method locogen` and `--method neurons`",
    ),
    "layers that are named, and a width to look for": (
        ["localize", "remove_style", "--layers", "8,9", "--width", "2"],
        "`localize.width` is set, but the layers are named, so none are searched for",
        "leave one of the two out",
    ),
    "a layer that is not there, to be scored": (
        ["localize", "remove_style", "--layers", "8,16"],
        "layer 16 does not exist: `tiny` has layers 0 to 15",
        None,
    ),
    "neurons that should find layers": (
        ["edit", "remove_style", "--set", "localize.method=neurons"],
        "method `neurons` ranks the neurons of known layers, but finds no layers",
        "use `--set localize.method=locogen`, or name the layers",
    ),
    "neurons for a method without": (
        [*EDIT, "--neurons", "10"],
        "method `locoedit` does not edit neurons, but `neurons` is 10",
        "leave `--neurons` out, or use `--method neurons`",
    ),
    "an edit at inference": (
        [*EDIT, "--method", "neurons", "--set", "edit.hold=inference"],
        "neurons are to be held at inference, and an edit is one of weights",
        "use `loco evaluate`, or `--set edit.hold=weights`",
    ),
    "a strength to measure, and a ridge": (
        [*EDIT, "--set", "edit.strength=measured", "--ridge", "0.1x"],
        "`edit.strength: measured` chooses the ridge, but `edit.ridge` is `0.1x`",
        "leave one of the two out",
    ),
    "a strength of neurons to measure": (
        [*EDIT, "--set", "edit.strength=measured", "--method", "neurons"],
        "method `neurons` has no strength to measure",
        "leave `edit.strength` out, or use `--method locoedit`",
    ),
    "a target that nothing is held against": (
        [*EDIT, "--set", "edit.target=0.8"],
        "`edit.target` is set, but the strength is fixed and ignores it",
        "add `--set edit.strength=measured`, or leave `edit.target` out",
    ),
    "a position that no one reads": (
        [*EDIT, "--set", "edit.position=last"],
        "method `locoedit` does not use `edit.position`",
        "leave it out, or use `--method neurons`",
    ),
    "one prompt, two targets": (
        [*EDIT, "--set", 'source=["{subject}", "{subject}"]', "--set", 'target=["x", "y"]'],
        '`--set source=["{subject}", "{subject}"]`: '
        "`van gogh` has the targets `x` and `y` in edit 0",
        "use one target, or remove one of the two source prompts",
    ),
    "a search where no layers are sought": (
        ["localize", "monet style", "--method", "causal-trace", "--search", "exhaustive"],
        "`localize.search` is set, but method `causal-trace` ignores it",
        "it is for the methods that find layers",
    ),
    "a noise of nothing": (
        ["localize", "monet style", "--method", "causal-trace", "--noise", "0"],
        "a noise of 0 leaves nothing to restore",
        "set `--noise` above 0",
    ),
    "neurons of a single prompt": (
        [*EDIT, "--method", "neurons", "--set", 'source=["by {subject}"]'],
        "neurons are ranked by their spread over prompts, but `van gogh` has one source prompt",
        "add prompts under `source`",
    ),
    "neurons that are none": (
        [*EDIT, "--set", "edit.neurons=0"],
        "`--set edit.neurons=0`: `edit.neurons` is `0`, not `auto` or a whole number above 0",
        None,
    ),
    "nothing to keep exactly": (
        [*EDIT, "--set", "preserve=none", "--set", "edit.preserve_form=null-space"],
        "`edit.preserve_form: null-space` needs prompts to preserve, but `preserve` is `none`",
        "list what to preserve, or leave `preserve_form` out",
    ),
    "a trace to edit by": (
        ["edit", "remove_style", "--set", "localize.method=causal-trace"],
        "causal tracing finds states, but an edit needs layers",
        "use `--method locogen`, or name the layers with `--layers`",
    ),
    "a component without a trace": (
        ["localize", "van gogh style", "--component", "unet"],
        "`--component` is for causal tracing",
        "add `--method causal-trace`",
    ),
    "noise without a trace": (
        ["localize", "van gogh style", "--noise", "0"],
        "`--noise` is for causal tracing",
        "add `--method causal-trace`",
    ),
    "a trace of a pooled prompt": (
        ["localize", "van gogh style", "--method", "causal-trace", "--pooled"],
        "causal tracing swaps no prompts, so `--pooled` has no effect",
        "leave `--pooled` out",
    ),
    "a ridge that is none": (
        [*EDIT, "--ridge", "much"],
        "`--ridge`: `edit.ridge` is `much`, "
        "not `auto`, a number above 0, or a multiple such as `0.01x`",
        None,
    ),
    "an output that exists": (
        [*EDIT, "--output", "folder"],
        "`folder` exists",
        "choose another `--output`, or overwrite it with `--force`",
    ),
    "an output that is not ours": (
        [*EDIT, "--output", "folder", "--force"],
        "`folder` contains `notes.txt`, which `loco` did not write",
        "choose another `--output`, or remove the folder yourself",
    ),
    "an output that is a file": (
        [*EDIT, "--output", "notes.txt", "--force"],
        "`notes.txt` is a file, not a folder",
        "choose another `--output`",
    ),
    "an output inside the base": (
        [*EDIT, "--model", "small", "--output", "small/edited"],
        "the output `small/edited` is inside `small`, which is only read",
        "choose another `--output`",
    ),
    "an output that is the base": (
        [*EDIT, "--model", "small", "--output", "small", "--force"],
        "the output `small` is `small`, which is only read",
        "choose another `--output`",
    ),
    "pictures inside the base": (
        ["generate", "a cat", "--model", "small", "--output", "small/cat.png"],
        "the output `small/cat.png` is inside `small`, which is only read",
        "choose another `--output`",
    ),
    "an evaluation inside the base": (
        ["evaluate", "remove_style", "--model", "small", "--output", "small", "--force"],
        "the output `small` is `small`, which is only read",
        "choose another `--output`",
    ),
    "an evaluation inside the edited model": (
        ["evaluate", "remove_style", "--edited", "small", "--output", "small/judged"],
        "the output `small/judged` is inside `small`, which is only read",
        "choose another `--output`",
    ),
    "a recipe saved inside the base": (
        [*EDIT, "--model", "small", "--save-recipe", "small/r.yaml", "--force"],
        "the recipe `small/r.yaml` is inside `small`, which is only read",
        "choose another `--save-recipe`",
    ),
    "an output named like a file": (
        [*EDIT, "--output", "out.safetensors"],
        "the output `out.safetensors` is a folder like the base, so "
        "its name cannot end in `.safetensors`",
        None,
    ),
    "an output below a file": (
        [*EDIT, "--output", "notes.txt/out"],
        "there is no folder `notes.txt` to write into",
        "create it first",
    ),
    "an output below nothing": (
        [*EDIT, "--output", "nowhere/out"],
        "there is no folder `nowhere` to write into",
        "create it first",
    ),
    "a saved recipe that exists": (
        [*EDIT, "--save-recipe", "notes.txt"],
        "`notes.txt` exists",
        "overwrite it with `--force`",
    ),
    "a saved recipe below a file": (
        [*EDIT, "--save-recipe", "notes.txt/r.yaml"],
        "there is no folder `notes.txt` to write into",
        "create it first",
    ),
    "results that exist": (
        ["localize", "van gogh style", "--output", "results"],
        "`results/localization.json` exists",
        "choose another `--output`, or overwrite it with `--force`",
    ),
    "results below a file": (
        ["evaluate", "remove_style", "--output", "notes.txt/found"],
        "there is no folder `notes.txt` to write into",
        "create it first",
    ),
    "results in a file": (
        ["localize", "van gogh style", "--output", "notes.txt"],
        "`notes.txt` is a file, the output is a folder",
        "choose another `--output`",
    ),
    "a picture that exists": (
        ["generate", "a cat", "--output", "cat.png"],
        "`cat.png` exists",
        "overwrite it with `--force`",
    ),
    "a picture that is none": (
        ["generate", "a cat", "--output", "cat.jpg"],
        "the output `cat.jpg` is no `.png`, which pictures are written as",
        None,
    ),
    "a picture below a file": (
        ["generate", "a cat", "--output", "notes.txt/cat.png"],
        "there is no folder `notes.txt` to write into",
        "create it first",
    ),
    "a figure that is none": (
        ["evaluate", "remove_style", "--fail-under", "beauty=1"],
        "unknown figure `beauty`",
        "choose from forgotten, became, kept",
    ),
    "a limit that is none": (
        ["evaluate", "remove_style", "--fail-under", "kept=95"],
        "limit `kept=95` is not a share from 0 to 1",
        "write it like `forgotten=0.9,kept=0.95`",
    ),
    "an edit of another model": (
        ["evaluate", "remove_style", "--edited", "small"],
        "`small` is no edit of `tiny`: their layers have other shapes",
        "give the base that it was made from with `--base`",
    ),
    "nothing to verify": (["verify", "nothing"], "there is no output `nothing`", WRITTEN),
    "nothing to undo": (["undo", "nothing"], "there is no output `nothing`", WRITTEN),
    "no model to verify": (
        ["verify", "notes.txt"],
        "`notes.txt` is neither a folder nor a `.safetensors` file",
        WRITTEN,
    ),
    "nothing to compare": (
        ["diff", "tiny", "./nothing"],
        "there is no file or folder `nothing`",
        "give a diffusers folder or a single `.safetensors` file",
    ),
}

# found with a tokenizer or a scorer in hand, but before a model is loaded
LATER = {
    "a concept that is cut off": (
        [*("edit", LONG, "--kind", "style"), "--layers", "8,9"],
        "`very very very very very very very very very very very ve...` is cut off in "
        "`very very very very very very very very very very very ve...`: "
        "the prompt has {n} tokens, but the text encoder reads only 77",
        "use a shorter subject or a shorter prompt",
    ),
    "a concept that is cut off, localized": (
        ["localize", LONG, "--kind", "style", "--prompt", "{subject}"],
        "`very very very very very very very very very very very ve...` is cut off in "
        "`very very very very very very very very very very very ve...`: "
        "the prompt has {n} tokens, but the text encoder reads only 77",
        "use a shorter subject or a shorter prompt",
    ),
    "no such scorer": (
        ["localize", "van gogh style", "--scorer", "nobody"],
        "scorer `nobody` is not a folder",
        "give the folder of a CLIP model, or `tiny`",
    ),
    "a device that is not here": (
        ["generate", "a cat", "--device", ABSENT],
        f"device `{ABSENT}` is not available on this machine",
        "use `--device auto` or `--device cpu`",
    ),
    "a device that is not here, localized": (
        ["localize", "van gogh style", "--device", ABSENT],
        f"device `{ABSENT}` is not available on this machine",
        "use `--device auto` or `--device cpu`",
    ),
}

# the files or the machine are wrong: exit code 1
FILES = {
    "a folder that is no model": (
        [*EDIT, "--model", "./folder"],
        "folder `folder` is not a model: it has no `.safetensors` file",
        "give a diffusers folder or a single `.safetensors` file",
    ),
    "a file that is no model": (
        [*EDIT, "--model", "./notes.txt"],
        "`notes.txt` is not a safetensors file: it has 4 bytes, the format needs at least 8",
        None,
    ),
    "a pickle": (
        [*EDIT, "--model", "model.ckpt"],
        "`model.ckpt` is a pickle, which can run code when it is loaded",
        "convert it to safetensors first: load it with `torch.load(..., weights_only=True)`, which "
        "runs no code, and save the tensors with `safetensors.torch.save_file`",
    ),
    "a scorer that is none": (
        ["localize", "van gogh style", "--scorer", "folder"],
        "scorer `folder` holds no readable CLIP model",
        None,
    ),
    "a scorer that is not here": (
        ["localize", "van gogh style", "--scorer", "openai/clip-vit-base-patch32"],
        "scorer `openai/clip-vit-base-patch32` is not on this machine, "
        "and the hub cannot be reached",
        "connect to the network, or point to the folder of a CLIP model with `--scorer PATH`",
    ),
    "a model that is not here": (
        ["generate", "a cat", "--model", "sd15"],
        "model `stable-diffusion-v1-5/stable-diffusion-v1-5` is not on this machine, "
        "and the hub cannot be reached",
        "connect to the network, or give the path of a folder or `.safetensors` file, "
        "or set another location of `sd15` in `CONFIG/models.yaml`",
    ),
    "an output that was never one": (
        ["verify", "small"],
        "`small` has no manifest",
        "`loco edit` writes it into the folder, or beside the file",
    ),
    "an output that cannot be undone": (
        ["undo", "small"],
        "`small` has no undo file `loco-undo.safetensors`",
        "only what `loco edit` wrote has one; it lies in the folder, or beside the file",
    ),
    "an edit without effect": (
        [*EDIT, "--ridge", "1e12"],
        "the edit changes nothing: the bytes of all 4 tensors stay the same",
        "lower `--ridge`",
    ),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("small") / "small", sd1_weights())


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, small):
    """A folder with something of everything in it, as the current one."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small, "small")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "localization.json").write_text("mine")
    for name in ("notes.txt", "cat.png", "model.ckpt"):
        (tmp_path / name).write_text("mine")
    head = "loco: 1\nedits:\n  - {kind: style, subject: monet}\n"
    (tmp_path / "typo.yaml").write_text(f"{head}edit:\n  rigde: 1\n")
    (tmp_path / "ridge.yaml").write_text(f"{head}edit: {{ridge: -1}}\n")
    (tmp_path / "fact.yaml").write_text("loco: 1\nedits: [{kind: fact, subject: the pope}]\n")
    return tmp_path


def refused(here, arguments, code, message, hint):
    """Run a command line, and hold stderr, exit code and the folder against what they should be."""
    before = tree_bytes(here)

    result = CliRunner().invoke(app, arguments)

    way_out = f"\nhint: {hint}\n" if hint else ""
    assert result.stderr == f"error: {message}\n{way_out}"
    assert result.stdout == ""
    assert result.exit_code == code
    assert tree_bytes(here) == before


@pytest.mark.parametrize("case", REQUESTS)
def test_a_wrong_request(here, case):
    """
    A wrong request is one sentence, exit code 2, and nothing is written.
    """
    arguments, message, hint = REQUESTS[case]

    refused(here, arguments, 2, message, hint)


@pytest.mark.parametrize("case", REQUESTS)
def test_a_wrong_request_is_found_by_a_dry_run(here, case):
    """
    The plan of a command fails with what the command fails with.
    """
    arguments, message, hint = REQUESTS[case]
    if arguments[0] in ("verify", "undo", "diff"):
        arguments = [*arguments, "--quiet"]  # they have no plan
    else:
        arguments = [*arguments, "--dry-run"]

    refused(here, arguments, 2, message, hint)


@pytest.mark.parametrize("case", LATER)
def test_a_wrong_request_that_takes_a_tokenizer(here, case, tiny):
    """
    What only tokenizer, scorer or device can tell is found before a model is loaded.
    """
    arguments, message, hint = LATER[case]
    n_tokens = len(CLIPTokenizer.from_pretrained(tiny.path / "tokenizer")(LONG).input_ids)

    refused(here, [*arguments, "--quiet"], 2, message.format(n=n_tokens), hint)


@pytest.mark.parametrize("case", FILES)
def test_wrong_files(here, case):
    """
    Wrong files, or a machine that lacks something, are one sentence and exit code 1.
    """
    arguments, message, hint = FILES[case]
    if hint is not None:
        hint = hint.replace("CONFIG", user_config_dir("loco"))

    refused(here, [*arguments, "--quiet"], 1, message, hint)


WEIGHTS = "small/unet/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:-100], "is cut short"),
        (lambda content: content[:5], "is not a safetensors file"),
        (lambda content: b"\xff" * 8 + content[8:], "header"),
        (lambda content: content[:8] + b"[" + content[9:], "header"),
        (lambda content: content + b"\0", "byte"),
    ],
    ids=["truncated", "nearly empty", "huge header", "no JSON", "one byte too many"],
)
@pytest.mark.parametrize("command", [EDIT, ["generate", "a cat"], ["localize", "van gogh style"]])
def test_a_damaged_file(here, damage, said, command):
    """
    A truncated or corrupt file is refused by its header, by every command, with its path.
    """
    path = here / WEIGHTS
    path.write_bytes(damage(path.read_bytes()))

    result = CliRunner().invoke(app, [*command, "--model", "./small"])

    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert f"`{WEIGHTS}`" in result.stderr
    assert said in result.stderr
    assert "bug" not in result.stderr
    assert not (here / "small-remove_style").exists()


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["edti"], "there is no command `edti`", "did you mean `edit`?"),
        (["recipes", "lst"], "there is no command `lst`", "did you mean `list`?"),
        (["nonsense"], "there is no command `nonsense`", "`loco --help` lists what it takes"),
        ([*EDIT, "--modle", "tiny"], "there is no option `--modle`", "did you mean `--model`?"),
        ([*EDIT, "--nonsense"], "there is no option `--nonsense`", LISTED),
        ([*EDIT, "--device", "tpu"], f"`--device` is wrong: `tpu` {OTHER_THAN} `auto`, ", LISTED),
        ([*EDIT, "--dtype", "int4"], f"`--dtype` is wrong: `int4` {OTHER_THAN} `auto`, ", LISTED),
        ([*EDIT, "--method", "x"], f"`--method` is wrong: `x` {OTHER_THAN} `locoedit`, ", LISTED),
        ([*EDIT, "--kind", "mood"], f"`--kind` is wrong: `mood` {OTHER_THAN} `style`, ", LISTED),
        (
            [*EDIT, "--batch-size", "many"],
            "`--batch-size` is wrong: `many` is not `auto` or a number from 1",
            LISTED,
        ),
        ([*EDIT, "--seeds", "0"], "`--seeds` takes at least 1", LISTED),
        ([*EDIT, "--seeds", "99999999999"], "`--seeds` takes at most 1000", LISTED),
        ([*EDIT, "--seeds", "two"], "`--seeds` takes whole numbers", LISTED),
        ([*EDIT, "--guidance", "-1"], "`--guidance` takes at least 0", LISTED),
        ([*EDIT, "--guidance", "low"], "`--guidance` takes a number", LISTED),
        ([*EDIT, "--layer-range", "8"], "option `--layer-range` requires 2 arguments", None),
        ([*EDIT, "--model"], "option `--model` requires an argument", None),
        (["edit"], "`RECIPE` is missing", LISTED),
        (
            ["edit", "van", "gogh", "style"],
            "`loco edit` takes no more arguments: `gogh style`",
            'text of several words stands in quotes, as in "van gogh style"',
        ),
    ],
)
def test_a_wrong_option(here, arguments, message, hint):
    """
    What the command line itself refuses is a sentence like any other, and says what is right.
    """
    before = tree_bytes(here)

    result = CliRunner().invoke(app, arguments, prog_name="loco")

    said, *way_out = result.stderr.rstrip("\n").split("\n\nhint: ")
    assert said.startswith(f"error: {message}")
    assert way_out == ([hint] if hint else [])
    assert result.stdout == ""
    assert result.exit_code == 2
    assert tree_bytes(here) == before


@pytest.mark.parametrize(
    "command",
    [
        ["localize", "van gogh style", "--output", "out"],
        ["edit", "van gogh style", "--output", "out"],
        ["generate", "a cat", "--output", "out.png", "--steps", "1000", "--seeds", "9"],
    ],
    ids=lambda command: command[0],
)
def test_ctrl_c_in_the_middle(here, command):
    """
    An interrupt while pictures are made ends with 130, without a traceback, and leaves nothing.
    """
    before = tree_bytes(here)
    # a shell that runs tests in the background has them ignore interrupts
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + (
        "from loco_cli.cli.app import app; app()"
    )
    line = [sys.executable, "-c", code, *command, "--device", "cpu", "--batch-size", "1"]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    env = {**os.environ, "PYTHONPATH": str(ROOT)}

    with subprocess.Popen(line, env=env, **pipes) as done:
        for said in done.stderr:
            if "ing " in said and " 0/" in said and not said.startswith("loading"):
                done.send_signal(signal.SIGINT)
                break
        rest = done.stderr.read()
        out = done.stdout.read()

    assert done.returncode == 130
    assert "Traceback" not in rest
    assert out == ""
    assert tree_bytes(here) == before
