"""`loco undo` on the command line."""

import json

from tests.checkpoints import tree_bytes


def test_folder(loco, here, tiny):
    """
    The base is restored under its own name, byte for byte.
    """
    assert loco("edit", "van gogh style", "--layers", "8", "--output", "out").exit_code == 0

    result = loco("undo", "out")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("restored tiny: ")
    assert tree_bytes(here / "tiny") == tree_bytes(tiny.path)


def test_file(loco, here, tiny_file):
    """
    A single file is restored as a file, also after an edit of several concepts.
    """
    (here / "two.yaml").write_text(
        "loco: 1\n"
        "edits:\n"
        "  - {kind: style, subject: monet}\n"
        "  - {kind: object, subject: snoopy, to: a dog}\n"
        "edit: {layer_range: published}\n"
    )
    made = loco("edit", "two.yaml", "--model", tiny_file, "--output", "out", "--json")
    assert made.exit_code == 0, made.stderr
    assert sorted(path.name for path in here.iterdir()) == [
        "out.loco.html",
        "out.loco.json",
        "out.loco.yaml",
        "out.safetensors",
        "out.undo.safetensors",
        "two.yaml",
    ]
    assert len(json.loads(made.stdout)["tensors"]) == 8

    result = loco("undo", "out.safetensors", "--output", "base.safetensors", "--json")

    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["schema"] == "loco.undo/1"
    assert (here / "base.safetensors").read_bytes() == tiny_file.read_bytes()
