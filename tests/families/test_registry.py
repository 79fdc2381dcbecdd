"""Models by name, and their known concepts."""

import json

from loco_cli.concept import KINDS
from loco_cli.errors import UnknownName
from loco_cli.families import registry
from loco_cli.protocol.wordings import bare_name


def test_the_model_that_ships_comes_first():
    """The shipped models come first in every list; all others come from the hub."""
    assert registry.names()[:2] == ("tiny", "tiny-plain")
    for spec in map(registry.get, registry.names()):
        assert (registry.shipped_folder(spec) is None) == (spec.hub_id is not None)


def test_an_unknown_name_lists_the_known_ones(golden):
    """The error for an unknown model or family lists all known ones."""
    with golden.raises(UnknownName, "`sd41`", *registry.names()):
        registry.get("sd41")
    with golden.raises(UnknownName, "`sd9`", *registry.catalog().families):
        registry.family("sd9")


def test_the_published_layers_of_tiny_are_its_answer_key():
    """The published layers of `tiny` are the layers of its answer key."""
    spec = registry.get("tiny")
    folder = registry.shipped_folder(spec)

    key = json.loads((folder.parent / "answer_key.json").read_text())

    assert {kind: list(layers) for kind, layers in spec.published_ranges.items()} == (
        key["layer_ranges"]
    )


def test_known_concepts_share_no_name():
    """Every model knows concepts of each kind, and no two of a kind share a name."""
    for spec in map(registry.get, registry.names()):
        assert set(spec.known_concepts) == set(KINDS)
        for concepts in spec.known_concepts.values():
            names = [bare_name(name) for names in concepts for name in names]
            assert len(set(names)) == len(names)


def test_requested_sampling_overrides_defaults():
    """Requested steps and guidance, even 0, override the defaults of the model."""
    spec = registry.get("tiny")

    assert spec.sampling(None, None) == (spec.steps, spec.guidance)
    assert spec.sampling(5, 0.0) == (5, 0.0)
