"""The text encoders of a checkpoint, built from its tensors for every family."""

from typing import Any

from loco_cli.checkpoint.layout import ComponentReader
from loco_cli.encoders.encode import (
    SHAPES,
    CheckpointEncoder,
    EncoderPart,
    EncoderShape,
    read_config,
)
from loco_cli.errors import CheckpointError, printable
from loco_cli.families.spec import TextEncoderSpec
from loco_cli.models.locate import LocatedModel
from loco_cli.models.tokenizers import packaged_folder, token_table, tokenizer_of

_HEAD_WIDTH = 64  # channels of one attention head in every published CLIP text encoder


def encoder_of(located: LocatedModel) -> CheckpointEncoder:
    """
    Build the text encoders of a model.

    The weights are read on the first prompt, one layer at a time. A bare UNet borrows the encoders
    of `located.encoder_model`.

    Args:
        located: The model.

    Returns:
        An encoder that maps prompts to the input of the network, in float32 on the CPU.

    Raises:
        EditError: The checkpoint has no text encoder, and this machine has none that fits.
        CheckpointError: A tensor is missing or its shape does not match the configuration, or the
            tokenizer is not readable.
    """
    texts = located.encoder_model
    context = texts.spec.context
    return CheckpointEncoder([_part(texts, encoder) for encoder in context.encoders], context.join)


def _part(located: LocatedModel, encoder: TextEncoderSpec) -> EncoderPart:
    shape = SHAPES[encoder.kind].of(_config(located, encoder), encoder.states)
    table = token_table(located, encoder).name
    reader = ComponentReader(located.checkpoint, encoder.component)
    _check_tensors(located, encoder, shape, reader.slot(table).shape[1])
    return EncoderPart(tokenizer_of(located, encoder), shape, reader, table)


def _config(located: LocatedModel, encoder: TextEncoderSpec) -> dict[str, Any]:
    """
    Return the configuration of a text encoder from its folder, or else that of its family.

    The configuration of a family is adapted to the width and the number of layers in the file.
    """
    d = token_table(located, encoder).shape[1]
    path = located.path / encoder.component / "config.json"
    if located.checkpoint.is_folder and path.is_file() and (config := read_config(path)):
        width = config.get("d_model" if encoder.kind == "t5" else "hidden_size", d)
        if width != d:
            raise CheckpointError(
                f"the {encoder.component} of `{printable(located.path)}` has width {d}, "
                f"but its configuration gives {printable(width)}"
            )
        return config
    config = read_config(packaged_folder(located) / encoder.component / "config.json")
    if d == config["hidden_size"]:
        return config
    if d % _HEAD_WIDTH:
        raise CheckpointError(
            f"the {encoder.component} of `{printable(located.path)}` has width {d}, "
            "but no configuration gives its number of heads",
            "give the diffusers folder of the model",
        )
    names = located.checkpoint.names(encoder.component)
    n_layers = sum(name.endswith("layer_norm1.weight") for name in names)
    fitted = {"hidden_size": d, "num_attention_heads": d // _HEAD_WIDTH}
    return {**config, **fitted, "num_hidden_layers": min(config["num_hidden_layers"], n_layers)}


def _check_tensors(
    located: LocatedModel, encoder: TextEncoderSpec, shape: EncoderShape, d: int
) -> None:
    """Raise CheckpointError if a tensor of the encoder is missing or has the wrong shape."""
    shapes = {
        name: slots[0].canonical_shape
        for (component, name), slots in located.checkpoint.slots_by_name.items()
        if component == encoder.component
    }
    expected = shape.tensor_shapes(d, shapes)
    what = f"the {encoder.component} of `{printable(located.path)}`"
    missing = [name for name in expected if name not in shapes]
    if missing:
        raise CheckpointError(
            f"{what} lacks {len(missing)} of {len(expected)} tensors, for example `{missing[0]}`"
        )
    for name, size in expected.items():
        if shapes[name] != size:
            raise CheckpointError(
                f"`{name}` of {what} has shape {list(shapes[name])}, but its other tensors imply "
                f"{list(size)}"
            )
    d_heads = shape.d_heads(d, shapes)
    if d_heads % shape.n_heads:
        raise CheckpointError(
            f"{what} has width {d_heads}, which is not a multiple of its {shape.n_heads} heads"
        )
