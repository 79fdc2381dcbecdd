"""`loco generate` on the command line."""

import json


def test_image_in_the_terminal(loco, here):
    """
    Without `--output`, the image is drawn as 24 lines of half blocks above its prompt.
    """
    result = loco("generate", "a cat", "--steps", "1")

    assert result.exit_code == 0, result.stderr
    *blocks, last = result.stdout.splitlines()
    assert len(blocks) == 24
    assert set("".join(blocks)) == {"▀"}
    assert last == "a cat, seed 0"
    assert list(here.iterdir()) == []


def test_output(loco, here):
    """
    With `--output`, one PNG is written, stdout is empty, and the document names the file.
    """
    words = loco("generate", "a cat", "--steps", "1", "--output", "cat.png")
    options = ("--seeds", "2", "--steps", "1", "-o", "all.png", "--json")
    document = loco("generate", "a cat", "a dog", *options)

    assert words.exit_code == document.exit_code == 0
    assert words.stdout == ""
    assert "wrote cat.png" in words.stderr
    found = json.loads(document.stdout)
    assert found["schema"] == "loco.generated/1"
    assert found["path"] == "all.png"
    assert [one["seed"] for one in found["pictures"]] == [0, 1, 0, 1]
    assert (here / "all.png").read_bytes().startswith(b"\x89PNG")


def test_dry_run(loco, golden, here):
    """
    `--dry-run` prints the cost and generates nothing.
    """
    result = loco("generate", "a cat", "--seeds", "3", "--steps", "5", "--dry-run")

    golden(result.stdout.splitlines()[-1])
    assert list(here.iterdir()) == []
