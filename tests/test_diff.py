"""The diff as a document."""

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


def test_is_the_interface_s_document():
    """
    A document goes through the record and comes out with the same keys in the same order.
    """
    assert json.dumps(Diff.model_validate(DOCUMENT).to_json()) == json.dumps(DOCUMENT)


def test_is_the_same_when_no_tensor_differs():
    """
    Metadata alone makes no difference.
    """
    assert not Diff.model_validate(DOCUMENT).is_same
    assert Diff.model_validate({**DOCUMENT, "tensors": []}).is_same


def test_blocks_come_as_the_model_runs_them():
    """
    Down, middle, up; in a block the tenth layer comes behind the ninth, whatever the file's order.
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
