"""Diffs: the document `loco.diff/1` and the order of its tensors."""

import json

from loco_cli.diff import Diff

SIDE = {"name": "a", "layout": "file", "family": "sd1", "files": 1, "tensors": 9, "bytes": 99}
DOCUMENT = {
    "schema": "loco.diff/1",
    "a": SIDE,
    "b": SIDE,
    "counts": {
        "identical": 8,
        "changed": 1,
        "only_in_a": 0,
        "only_in_b": 0,
        "reshaped": 0,
        "retyped": 0,
    },
    "tensors": [
        {
            "name": "w",
            "shape": [2, 2],
            "dtype": "F16",
            "status": "changed",
            "relative_change": 0.01,
            "max_abs": 0.1,
            "rank": 1,
            "share_changed": 0.5,
            "component": "unet",
            "block": "conv_in",
            "label": "IN00",
            "file": "a.safetensors",
            "canonical_name": "conv_in.bias",
        }
    ],
    "metadata": {"format": {"a": "pt", "b": None}},
    "manifest": {
        "found": True,
        "matches": True,
        "unexpected": [],
        "missing": [],
        "side": "b",
        "is_base": None,
    },
}


def test_has_the_keys_of_the_interface_in_order():
    """
    A document validates and serializes to the same keys in the same order.
    """
    assert json.dumps(Diff.model_validate(DOCUMENT).to_json()) == json.dumps(DOCUMENT)


def test_metadata_is_not_a_difference():
    """
    Checkpoints are the same if no tensor differs, even if their metadata differ.
    """
    assert not Diff.model_validate(DOCUMENT).is_same
    assert Diff.model_validate({**DOCUMENT, "tensors": []}).is_same


def test_blocks_are_in_execution_order():
    """
    Blocks are sorted as down, mid, up, and layers of a block by number, not as text.
    """
    attention = "{}.attentions.0.transformer_blocks.{}.attn2.to_k.weight"
    wanted = [
        ("down_blocks.1.attentions.0", "IN04", (0, 9, 10)),
        ("mid_block.attentions.0", "M00", (0,)),
        ("up_blocks.0.attentions.0", "OUT00", (2,)),
    ]
    (example,) = DOCUMENT["tensors"]
    tensors = [
        {**example, "block": block, "label": label, "canonical_name": name}
        for block, label, depths in wanted
        for depth in depths
        for name in [attention.format(block.removesuffix(".attentions.0"), depth)]
    ]

    blocks = Diff.model_validate({**DOCUMENT, "tensors": sorted(tensors, key=str)}).by_block()

    assert [
        (of_one[0].block, of_one[0].label, tuple(t.name_in_block for t in of_one))
        for of_one in blocks
    ] == [
        (block, label, tuple(f"transformer_blocks.{d}.attn2.to_k.weight" for d in depths))
        for block, label, depths in wanted
    ]
