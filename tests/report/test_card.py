import re
from dataclasses import replace

import pytest
import yaml

from loco_cli.families import registry
from loco_cli.manifest import EditRecord
from loco_cli.report.card import render_card

MARKUP = """a "quoted" \\ name: {x} | <img src=x> [l](y) `c` *b*"""
HOSTILE = MARKUP + " \x7f\x1b[31m \u2028 \U0001f600\n---\n# no"


def record(**changes):
    values = {
        "kind": "style",
        "subject": "monet",
        "to": "painting",
        "method": "locoedit",
        "layer_range": (8, 10),
        "ridge": 0.0123,
        "tokens": "subject-to-end",
        "n_keys": 24,
    }
    return EditRecord(**{**values, **changes})


def card(model="sd14", title="Remove Monet", records=(), **changes):
    spec = replace(registry.get("sd14"), **changes)
    return render_card(spec, model, title, records or (record(),), "0.1.0")


def front_matter(text):
    _, block, _ = text.split("---\n", 2)
    return yaml.safe_load(block)


def test_front_matter_says_what_the_hub_asks():
    """
    Base, relation, library, task, licence and tags are there, under the hub's keys.
    """
    told = front_matter(card())

    assert told["base_model"] == "CompVis/stable-diffusion-v1-4"
    assert told["base_model_relation"] == "finetune"
    assert told["library_name"] == "diffusers"
    assert told["pipeline_tag"] == "text-to-image"
    assert told["license"] == "creativeml-openrail-m"
    assert {"loco", "concept-editing", "concept-editing-style"} <= set(told["tags"])


def test_another_model_of_the_same_shape_is_not_called_the_known_one():
    """
    A folder or hub id that only looks like a known model gets neither its id nor its licence.
    """
    folder, hub = front_matter(card("my-finetune")), front_matter(card("me/my-finetune"))

    assert "base_model" not in folder
    assert "license" not in folder
    assert hub["base_model"] == "me/my-finetune"
    assert "license" not in hub


@pytest.mark.parametrize("name", ["no", "1e5", HOSTILE, "caf\udce9", "\ufeff\x85\xa0\ue000"])
def test_front_matter_is_safe_yaml(name):
    """
    Whatever a name holds, the front matter reads back as the text that it was.
    """
    told = front_matter(card("sd14", hub_id=name, licence="Null"))

    assert told["base_model"] == name.encode("utf-8", "backslashreplace").decode()
    assert told["license"] == "null"


def test_foreign_text_is_no_markdown():
    """
    Names and titles stay on their line and open no tag, link, heading, code or table cell.
    """
    text = card(HOSTILE, HOSTILE, (record(subject=HOSTILE, to=HOSTILE),))
    body = text.split("---\n", 2)[2]

    assert not re.search(r"(?<!\\)<img", body)
    assert not re.search(r"(?<!\\)\[l", body)
    assert "\n# no" not in body
    rows = [line for line in body.splitlines() if line.startswith("| style")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [9]
    text.encode()


def test_layers_stand_beside_their_module_paths():
    """
    Each edited layer is listed once, beside its path and the concepts that it was edited for.
    """
    spec = registry.get("sd14")
    text = card(records=(record(), record(subject="r2d2", layer_range=None, layers=(1, 9))))

    for layer, concepts in {1: "r2d2", 8: "monet", 9: "monet, r2d2"}.items():
        assert f"| {layer} | `{spec.layers[layer].module_path}` | {concepts} |" in text
    assert "`layer_range: [8, 10]`, `layers: [1, 9]`" in text


def test_an_edit_of_the_text_encoder_names_no_layer():
    """
    Without layers the card says where else, and lists no module path.
    """
    text = card(records=(record(layer_range=None, ridge=None, tokens=None),))

    assert "text encoder" in text
    assert "attn2" not in text


def test_the_card_says_what_an_edit_is_not():
    """
    An edit is not deletion, and what the family's edit cannot reach is told; so is the way back.
    """
    text = card(unreachable=("Pooled embeddings reach the UNet past K and V",))

    assert "not a deletion" in text
    assert "- Pooled embeddings reach the UNet past K and V." in text
    assert "loco undo" in text
    assert "loco verify" in text


def test_a_card_without_title_is_named_after_the_model():
    """
    A recipe without a title still gives a heading.
    """
    assert "\n# sd14, edited\n" in card(title=None)
