"""Diffs: equality and the order of tensors."""

from loco_cli.diff import Counts, Diff, Side, TensorDelta, Verdict


def diff_of(*places):
    """Return a diff with one changed tensor for each (block, label, canonical name)."""
    side = Side(name="a", layout="file", family="sd1", files=1, tensors=9, bytes=99)
    tensors = [
        TensorDelta(
            name=name,
            shape=(2, 2),
            dtype="F16",
            status="changed",
            component="unet",
            block=block,
            label=label,
            file="a.safetensors",
            canonical_name=name,
        )
        for block, label, name in places
    ]
    return Diff(
        a=side,
        b=side,
        counts=Counts(changed=len(tensors)),
        tensors=tensors,
        metadata={"format": {"a": "pt", "b": None}},
        manifest=Verdict(found=False),
    )


def test_metadata_is_not_a_difference():
    """
    Checkpoints are the same if no tensor differs, even if their metadata differ.
    """
    assert not diff_of(("conv_in", "IN00", "conv_in.bias")).is_same
    assert diff_of().is_same


def test_blocks_are_in_execution_order():
    """
    Blocks are sorted as down, mid, up, and layers of a block by number, not as text.
    """
    expected = [
        ("down_blocks.1.attentions.0", "IN04", f"down_blocks.1.attentions.0.{layer}.to_k.weight")
        for layer in (0, 9, 10)
    ]
    expected += [("mid_block.attentions.0", "M00", "mid_block.attentions.0.0.to_k.weight")]
    expected += [("up_blocks.0.attentions.0", "OUT00", "up_blocks.0.attentions.0.2.to_k.weight")]

    blocks = diff_of(*sorted(expected, key=str)).by_block()

    assert [len(block) for block in blocks] == [3, 1, 1]
    ordered = [tensor for block in blocks for tensor in block]
    assert [(one.block, one.label, one.canonical_name) for one in ordered] == expected
    assert ordered[2].name_in_block == "10.to_k.weight"
