"""Models by name, and their known concepts."""

import json

import pytest

from loco_cli.concept import KINDS
from loco_cli.errors import UnknownName
from loco_cli.families import registry
from loco_cli.protocol.wordings import bare_name


def test_the_model_that_ships_comes_first():
    """The shipped models come first in every list."""
    assert registry.names()[:2] == ("tiny", "tiny-plain")
    assert registry.get("tiny").name == "tiny"


def test_an_unknown_model_names_the_known_ones():
    """The error for an unknown model lists all known models."""
    with pytest.raises(UnknownName) as caught:
        registry.get("sd41")

    assert caught.value.message == "unknown model `sd41`"
    assert all(name in caught.value.hint for name in registry.names())


def test_an_unknown_family_names_the_known_ones():
    """The error for an unknown family lists all known families."""
    with pytest.raises(UnknownName, match="unknown family `sd9`") as caught:
        registry.family("sd9")

    assert caught.value.hint == "choose one of sd1, sd2, sdxl, if"


def test_only_models_that_ship_have_a_folder():
    """A model comes either with the package or from the hub."""
    for spec in map(registry.get, registry.names()):
        assert (registry.shipped_folder(spec) is None) == (spec.hub_id is not None)


def test_the_published_layers_of_tiny_are_its_answer_key():
    """The published layers of `tiny` are the layers of its answer key."""
    spec = registry.get("tiny")
    folder = registry.shipped_folder(spec)

    key = json.loads((folder.parent / "answer_key.json").read_text())

    assert {kind: list(layers) for kind, layers in spec.published_ranges.items()} == (
        key["layer_ranges"]
    )


@pytest.mark.parametrize("name", registry.names())
def test_a_thing_is_known_once(name):
    """Every model knows concepts of each kind, and no two of a kind share a name."""
    known = registry.get(name).known_concepts

    assert set(known) == set(KINDS)
    for things in known.values():
        names = [bare_name(one) for names in things for one in names]
        assert len(set(names)) == len(names)


def test_what_is_asked_for_goes_before_the_models_own():
    """Requested steps and guidance, even 0, override the defaults of the model."""
    spec = registry.get("tiny")

    assert spec.sampling(None, None) == (spec.steps, spec.guidance)
    assert spec.sampling(5, 0.0) == (5, 0.0)
