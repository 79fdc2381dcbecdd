"""The manifest as a document: keys, digest, and what is refused."""

import json

import pytest
from pydantic import ValidationError

from loco_cli.errors import VerificationError
from loco_cli.manifest import (
    FileRecord,
    Manifest,
    Output,
    Restoration,
    Verification,
)

SHA = "0123456789abcdef" * 4
DOCUMENT = {
    "schema": "loco.manifest/1",
    "loco_version": "0.1.0",
    "created": "2026-01-01T00:00:00+00:00",
    "command": ["loco", "edit", "recipe.yaml"],
    "recipe": {"text": "loco: 1\n", "sha256": SHA, "overrides": {"edit.ridge": 0.1}},
    "model": {
        "name": "sdxl",
        "family": "sdxl",
        "revision": None,
        "unreachable": ["the pooled prompt"],
        "texts": None,
    },
    "base": {
        "files": [{"path": "unet/a.safetensors", "bytes": 10, "sha256": SHA}],
        "parent": None,
        "name": "tiny",
        "left_out": [],
        "carried": [],
    },
    "output": {
        "files": [{"path": "unet/a.safetensors", "bytes": 12, "sha256": SHA}],
        "kind": "checkpoint",
        "stamped": True,
    },
    "localizations": [{"schema": "loco.localization/1"}],
    "preserve": ["monet"],
    "edits": [
        {
            "kind": "style",
            "subject": "van gogh",
            "to": "painting",
            "method": "locoedit",
            "layer_range": [8, 10],
            "ridge": 0.01,
            "tokens": "subject-to-end",
            "n_keys": 4,
        }
    ],
    "tensors": [
        {
            "name": "w",
            "file": "unet/a.safetensors",
            "shape": [2, 2],
            "dtype": "F16",
            "sha256_before": SHA,
            "sha256_after": SHA[::-1],
            "rank": 1,
            "relative_change": 0.01,
            "rounding_error": 0.001,
        }
    ],
    "environment": {
        "python": "3.12",
        "torch": "2.13",
        "diffusers": "0.42",
        "transformers": "5.23",
        "device": "cpu",
        "dtype": "float32",
    },
    "seconds": {"localize": 0.0, "solve": 0.0, "write": 0.0},
}


def changed(path, value):
    document = json.loads(json.dumps(DOCUMENT))
    owner = document
    for key in path[:-1]:
        owner = owner[key]
    owner[path[-1]] = value
    return document


def test_is_the_interface_s_document():
    """
    A document goes through the record and comes out with the same keys in the same order.
    """
    assert json.dumps(Manifest.model_validate(DOCUMENT).to_json()) == json.dumps(DOCUMENT)


def test_a_layer_set_is_listed_beside_an_empty_range():
    """
    `layers` appears only where `layer_range` is null.
    """
    document = changed(("edits", 0, "layer_range"), None)
    document["edits"][0]["layers"] = [1, 3]

    assert Manifest.model_validate(document).to_json() == document
    assert "layers" not in Manifest.model_validate(DOCUMENT).to_json()["edits"][0]


def test_renders_and_parses_to_the_same_digest():
    """
    The digest of a manifest in memory is the digest of its file.
    """
    manifest = Manifest.model_validate(DOCUMENT)

    parsed, digest = Manifest.parse(manifest.render(), "m.json")

    assert (parsed, digest) == (manifest, manifest.digest())
    assert manifest.with_output(Output()).digest() == digest


def digest_of(document):
    _, digest = Manifest.parse(json.dumps(document), "m.json")
    return digest


@pytest.mark.parametrize(
    ("path", "value", "is_covered"),
    [
        (("recipe", "text"), "x", True),
        (("base", "files", 0, "sha256"), SHA[::-1], True),
        (("edits", 0, "ridge"), 0.02, True),
        (("environment", "torch"), "2.12", True),
        (("output", "files"), [], False),
        (("created",), "", False),
        (("command",), [], False),
        (("seconds", "solve"), 9.0, False),
    ],
)
def test_the_digest_covers_all_but_four_keys(path, value, is_covered):
    """
    Output, time and command line are not in the digest; everything else is.
    """
    assert (digest_of(changed(path, value)) != digest_of(DOCUMENT)) is is_covered


@pytest.mark.parametrize(
    "path", ["", ".", "..", "/etc/passwd", "a/../b", "a//b", "a\\b", "C:/a", "a\0b", "./a"]
)
def test_paths_stay_in_their_folder(path):
    """
    A path that is absolute, empty, or leads upwards is refused, in Windows' spelling too.
    """
    with pytest.raises(ValidationError):
        FileRecord(path=path, bytes=0, sha256=SHA)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("tensors", 0, "shape"), [-1], "tensors.0.shape.0"),
        (("base", "files", 0, "sha256"), "00", "base.files.0.sha256"),
        (("model", "family"), 9, "model.family"),
        (("\x1b[2J",), 1, r"\x1b[2J"),
        (("seconds", "solve"), float("nan"), "seconds.solve"),
    ],
)
def test_refuses_a_damaged_document(path, value, words):
    """
    The message names the key, printable whatever it holds.
    """
    with pytest.raises(VerificationError) as caught:
        Manifest.parse(json.dumps(changed(path, value)), "m.json")

    assert words in caught.value.message
    assert "\x1b" not in caught.value.message


def test_a_verification_is_ok_without_failures():
    """
    The verdict follows from the failures.
    """
    assert Verification.of([]).ok
    assert Verification.of(["`a` is missing"]).to_json() == {
        "schema": "loco.verification/1",
        "ok": False,
        "failures": ["`a` is missing"],
    }


def test_a_restoration_is_a_document():
    """
    What `undo` did is told as `loco.undo/1`.
    """
    restoration = Restoration(restored="base", files=(), left_out=())

    assert restoration.to_json() == {
        "schema": "loco.undo/1",
        "restored": "base",
        "files": [],
        "left_out": [],
    }
