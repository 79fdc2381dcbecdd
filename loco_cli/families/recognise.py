"""The family of a checkpoint, told from names and shapes; an unknown one is refused."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from loco_cli.errors import CheckpointError, printable
from loco_cli.families.compvis import EMA_PREFIX
from loco_cli.families.names import OTHER_COMPONENT, TensorAlias, component_aliases
from loco_cli.families.registry import catalog, get
from loco_cli.families.spec import Family, Network, Shapes

# what weights without a network may be, told by a part of `component/name`; first match wins
_STRANGERS = (
    ("a LoRA", (".lora_", "_lora.", "lora_unet_", "lora_te", ".hada_w", ".lokr_", ".oft_")),
    ("a ControlNet", ("control_model.", "controlnet_")),
    ("a textual inversion", ("emb_params", "string_to_param")),
    (
        "a transformer such as SD 3 or Flux",
        ("joint_blocks.", "double_blocks.", "single_transformer_blocks."),
    ),
    ("a VAE", ("vae/", "/encoder.down", "/decoder.up", "/encoder.mid", "/decoder.mid")),
    ("a text encoder", ("text_encoder", "/text_model.", "/encoder.layers.")),
)


def single_file_aliases(tensors: Iterable[str]) -> tuple[TensorAlias, ...]:
    """
    Return the places of the tensors of a file that lies in no component folder.

    It is a network as diffusers names it, or in the spelling that claims the most of its tensors.
    """
    names = tuple(tensors)
    for network in catalog().networks:
        if any(name.startswith(network.name_prefix) for name in names):
            return tuple(component_aliases(network.component, names))
    spellings = dict.fromkeys(family.single_file for family in catalog().families.values())
    return max((tuple(spell(names)) for spell in spellings if spell), key=_n_claimed)


def family_of(where: Path, shapes: Mapping[tuple[str, str], tuple[int, ...]]) -> Family:
    """
    Return the family of a checkpoint by the structure of its network, whatever its widths.

    `shapes` are those of all tensors, by component and canonical name.

    Raises:
        CheckpointError: there is no network, its layers are none that are known, or the text
            encoders beside it do not fit it.
    """
    for network in catalog().networks:
        own = {name: shape for (owner, name), shape in shapes.items() if owner == network.component}
        keys = [name for name in own if name.endswith(catalog().key_ends)]
        if keys:
            break
    else:
        raise _stranger(where, shapes)
    layers = {name.rpartition(".")[0].rpartition(".")[0] for name in keys}
    fitting = [
        family
        for family in catalog().families.values()
        if family.network == network
        and family.module_paths == layers
        and all(len(own.get(name, ())) == n for name, n in family.signature.items())
    ]
    if not fitting:
        raise _unknown(where, network, len(layers), own)
    family = max(fitting, key=lambda family: len(family.signature))
    _check_encoders(where, family, own[keys[0]], shapes)
    return family


def _n_claimed(places: tuple[TensorAlias, ...]) -> int:
    return sum(place.component != OTHER_COMPONENT for place in places)


def _check_encoders(
    where: Path,
    family: Family,
    key: tuple[int, ...],
    shapes: Mapping[tuple[str, str], tuple[int, ...]],
) -> None:
    context, network = get(family.standard).context, family.network
    # the first map on the way reads the states; without one the keys do
    mapped = [shapes.get((network.component, f"{one.name}.weight")) for one in context.shared]
    d_read = next((shape for shape in mapped if shape), key)[-1]
    tables = [
        next(
            (shapes[e.component, n] for n in e.token_embedding_names if (e.component, n) in shapes),
            None,
        )
        for e in context.encoders
    ]
    d_written = sum(shape[-1] for shape in tables if shape)
    if None not in tables and d_written != d_read:
        raise CheckpointError(
            f"the parts of `{printable(where)}` do not belong together: "
            f"its text encoder writes {d_written} numbers per token, "
            f"its {network.title} reads {d_read}"
        )


def _unknown(where: Path, network: Network, n_layers: int, shapes: Shapes) -> CheckpointError:
    families = catalog().families.values()
    for refusal in (found for family in families if (found := family.refusal(shapes))):
        what, hint = refusal
        return CheckpointError(f"`{printable(where)}` {what}", hint)
    *others, last = dict.fromkeys(family.known_as for family in families)
    return CheckpointError(
        f"`{printable(where)}` is of an architecture that loco does not know: "
        f"its {network.title} has {n_layers} cross-attention layers",
        f"loco knows {', '.join(others)} and {last}",
    )


def _stranger(where: Path, shapes: Iterable[tuple[str, str]]) -> CheckpointError:
    keys = tuple(shapes)
    if not keys:
        return CheckpointError(f"`{printable(where)}` holds no tensors")
    hint = "give the checkpoint of a whole model: a `.safetensors` file or a diffusers folder"
    parts = sorted({component for component, _ in keys if component})
    if any(name.startswith(EMA_PREFIX) for _, name in keys):
        return CheckpointError(
            f"`{printable(where)}` has no UNet, only the averaged copy (EMA) of one, "
            "whose names have lost their dots",
            hint,
        )
    if len(parts) > 1:
        return CheckpointError(
            f"`{printable(where)}` has no UNet, only {printable(', '.join(parts))}", hint
        )
    names = [f"{component}/{name}" for component, name in keys]
    for what, signs in _STRANGERS:
        if any(sign in name for name in names for sign in signs):
            return CheckpointError(f"`{printable(where)}` is {what}, not a model", hint)
    return CheckpointError(
        f"`{printable(where)}` is no model that loco knows: "
        f"none of its {len(names)} tensors is a cross-attention layer of a UNet",
        hint,
    )
