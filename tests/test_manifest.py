"""Manifests: keys, digest, and damaged documents."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from loco_cli.errors import VerificationError
from loco_cli.manifest import (
    FileRecord,
    Manifest,
    Output,
    Verification,
)

SHA = "0123456789abcdef" * 4
EXAMPLE = Path(__file__).parent / "compatibility" / "made_by_0_1_0" / "edited.loco.json"
DOCUMENT = json.loads(EXAMPLE.read_text("utf-8"))


def changed(path, value):
    document = json.loads(json.dumps(DOCUMENT))
    owner = document
    for key in path[:-1]:
        owner = owner[key]
    owner[path[-1]] = value
    return document


def test_has_the_keys_of_the_interface_in_order():
    """
    A document validates and serializes to the same keys in the same order.
    """
    assert json.dumps(Manifest.model_validate(DOCUMENT).to_json()) == json.dumps(DOCUMENT)


def test_a_layer_set_is_listed():
    """
    The document has `layers` only if `layer_range` is null.
    """
    document = changed(("edits", 0, "layer_range"), None)
    document["edits"][0]["layers"] = [1, 3]

    assert Manifest.model_validate(document).to_json() == document
    assert "layers" not in Manifest.model_validate(DOCUMENT).to_json()["edits"][0]


def test_renders_and_parses_to_the_same_digest():
    """
    A manifest and its file have the same digest.
    """
    manifest = Manifest.model_validate(DOCUMENT)

    parsed, digest = Manifest.parse(manifest.render(), "m.json")

    assert (parsed, digest) == (manifest, manifest.digest())
    assert manifest.with_output(Output()).digest() == digest


def digest_of(document):
    _, digest = Manifest.parse(json.dumps(document), "m.json")
    return digest


def test_the_digest_covers_all_but_four_keys():
    """
    The digest covers every key except the output, the times and the command line.
    """
    for path, value, is_covered in (
        (("recipe", "text"), "x", True),
        (("base", "files", 0, "sha256"), SHA[::-1], True),
        (("edits", 0, "ridge"), 0.02, True),
        (("environment", "torch"), "2.12", True),
        (("output", "files"), [], False),
        (("created",), "", False),
        (("command",), [], False),
        (("seconds", "solve"), 9.0, False),
    ):
        assert (digest_of(changed(path, value)) != digest_of(DOCUMENT)) is is_covered, path


def test_paths_stay_in_their_folder():
    """
    A path that is absolute, empty, or leads upwards is refused, also in Windows notation.
    """
    for path in ("", ".", "..", "/etc/passwd", "a/../b", "a//b", "a\\b", "C:/a", "a\0b", "./a"):
        with pytest.raises(ValidationError):
            FileRecord(path=path, bytes=0, sha256=SHA)


def test_refuses_a_damaged_document(golden):
    """
    The message names the damaged key, and escapes control characters in it.
    """
    for path, value, name in (
        (("tensors", 0, "shape"), [-1], "tensors.0.shape.0"),
        (("base", "files", 0, "sha256"), "00", "base.files.0.sha256"),
        (("model", "family"), 9, "model.family"),
        (("\x1b[2J",), 1, r"\x1b[2J"),
        (("seconds", "solve"), float("nan"), "seconds.solve"),
    ):
        with golden.raises(VerificationError, "m.json", name):
            Manifest.parse(json.dumps(changed(path, value)), "m.json")


def test_a_verification_is_ok_without_failures():
    """
    A verification is `ok` exactly if it has no failures.
    """
    assert Verification.of([]).ok
    assert not Verification.of(["`a` is missing"]).ok
