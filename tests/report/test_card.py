"""The model card of an edited folder."""

import re
from dataclasses import replace

import pytest
import yaml

from loco_cli.families import registry
from loco_cli.report.card import render_card
from tests.report.manifests import edit_record

MARKUP = """a "quoted" \\ name: {x} | <img src=x> [l](y) `c` *b*"""
HOSTILE = MARKUP + " \x7f\x1b[31m \u2028 \U0001f600\n---\n# no"


def card(model="sd14", title="Remove Monet", records=(), **changes):
    spec = replace(registry.get("sd14"), **changes)
    return render_card(spec, model, title, records or (edit_record(),), "0.1.0")


def front_matter(text):
    _, block, _ = text.split("---\n", 2)
    return yaml.safe_load(block)


def test_another_model_of_the_same_shape_has_no_licence():
    """A folder or hub id with the shape of a known model gets neither its id nor its licence."""
    folder, hub = front_matter(card("my-finetune")), front_matter(card("me/my-finetune"))

    assert "base_model" not in folder
    assert "license" not in folder
    assert hub["base_model"] == "me/my-finetune"
    assert "license" not in hub


@pytest.mark.parametrize("name", ["no", "1e5", HOSTILE, "caf\udce9", "\ufeff\x85\xa0\ue000"])
def test_front_matter_is_safe_yaml(name):
    """Any name reads back unchanged from the front matter."""
    fields = front_matter(card("sd14", hub_id=name, licence="Null"))

    assert fields["base_model"] == name.encode("utf-8", "backslashreplace").decode()
    assert fields["license"] == "null"


def test_foreign_text_is_not_markdown():
    """Names and titles stay on one line and open no tag, link, heading, code or table cell."""
    text = card(HOSTILE, HOSTILE, (edit_record(subject=HOSTILE, to=HOSTILE),))
    body = text.split("---\n", 2)[2]

    assert not re.search(r"(?<!\\)<img", body)
    assert not re.search(r"(?<!\\)\[l", body)
    assert "\n# no" not in body
    rows = [line for line in body.splitlines() if line.startswith("| style")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [9]
    text.encode()


def test_layers_have_module_paths_and_concepts():
    """Each edited layer has one row with its module path and its concepts."""
    spec = registry.get("sd14")
    text = card(
        records=(edit_record(), edit_record(subject="r2d2", layer_range=None, layers=(1, 9)))
    )

    for layer, concepts in {1: "r2d2", 8: "monet", 9: "monet, r2d2"}.items():
        assert f"| {layer} | `{spec.layers[layer].module_path}` | {concepts} |" in text
    assert "`layer_range: [8, 10]`, `layers: [1, 9]`" in text


def test_an_edit_of_the_text_encoder_names_no_layer():
    """Without layers, the card names the text encoder and lists no module path."""
    text = card(records=(edit_record(layer_range=None, ridge=None, tokens=None),))

    assert "text encoder" in text
    assert "attn2" not in text


def test_a_card_lists_its_limits(golden):
    """The card has the keys of the hub, the limits of edit and family, and the way back."""
    golden(
        card(
            title=None,
            unreachable=("Pooled embeddings reach the UNet without passing through K and V",),
        )
    )
