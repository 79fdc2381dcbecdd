"""The family of a checkpoint, recognised by the names and shapes of its tensors."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from loco_cli.errors import CheckpointError, printable
from loco_cli.families.compvis import EMA_PREFIX
from loco_cli.families.names import OTHER_COMPONENT, TensorAlias, component_aliases
from loco_cli.families.registry import catalog, get
from loco_cli.families.spec import Family, Network, Shapes

# kinds of files without a network, each with parts of `component/name`; the first match wins
_OTHER_FILE_KINDS = (
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
    Return the canonical names of the tensors of a single file.

    The file is a network with diffusers' names, or it has the layout that recognises the most of
    its tensors.

    Args:
        tensors: The names of all tensors of the file.

    Returns:
        The aliases of all tensors. Several aliases share a fused tensor.
    """
    names = tuple(tensors)
    for network in catalog().networks:
        if any(name.startswith(network.name_prefix) for name in names):
            return tuple(component_aliases(network.component, names))
    layouts = dict.fromkeys(family.single_file for family in catalog().families.values())
    return max(
        (tuple(aliases_of(names)) for aliases_of in layouts if aliases_of), key=_n_recognised
    )


def family_of(where: Path, shapes: Mapping[tuple[str, str], tuple[int, ...]]) -> Family:
    """
    Return the family of a checkpoint, recognised by the structure of its network at any width.

    Args:
        where: The path of the checkpoint, named in errors.
        shapes: The shape of every tensor, by component and canonical name.

    Raises:
        CheckpointError: The checkpoint has no network, no family has the layers of its network, or
            the widths of its network and its text encoders disagree.
    """
    for network in catalog().networks:
        own = {name: shape for (owner, name), shape in shapes.items() if owner == network.component}
        keys = [name for name in own if name.endswith(catalog().key_ends)]
        if keys:
            break
    else:
        raise _no_network(where, shapes)
    layers = {name.rpartition(".")[0].rpartition(".")[0] for name in keys}
    fitting = [
        family
        for family in catalog().families.values()
        if family.network == network
        and family.module_paths == layers
        and all(len(own.get(name, ())) == n for name, n in family.signature.items())
    ]
    if not fitting:
        raise _unknown_architecture(where, network, len(layers), own)
    family = max(fitting, key=lambda family: len(family.signature))
    _check_encoders(where, family, own[keys[0]], shapes)
    return family


def _n_recognised(aliases: tuple[TensorAlias, ...]) -> int:
    return sum(alias.component != OTHER_COMPONENT for alias in aliases)


def _check_encoders(
    where: Path,
    family: Family,
    key: tuple[int, ...],
    shapes: Mapping[tuple[str, str], tuple[int, ...]],
) -> None:
    context, network = get(family.standard).context, family.network
    # the first shared map reads the encoder states; without one, the key projections read them
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
            f"the components of `{printable(where)}` do not fit together: the text encoder outputs "
            f"{d_written} features per token, but the {network.title} expects {d_read}"
        )


def _unknown_architecture(
    where: Path, network: Network, n_layers: int, shapes: Shapes
) -> CheckpointError:
    families = catalog().families.values()
    for family in families:
        if refusal := family.refusal(shapes):
            reason, hint = refusal
            return CheckpointError(f"`{printable(where)}` {reason}", hint)
    *others, last = dict.fromkeys(family.known_as for family in families)
    return CheckpointError(
        f"`{printable(where)}` has an unknown architecture: "
        f"its {network.title} has {n_layers} cross-attention layers",
        f"loco supports {', '.join(others)} and {last}",
    )


def _no_network(where: Path, shapes: Iterable[tuple[str, str]]) -> CheckpointError:
    keys = tuple(shapes)
    if not keys:
        return CheckpointError(f"`{printable(where)}` holds no tensors")
    hint = "pass the checkpoint of a complete model: a `.safetensors` file or a diffusers folder"
    parts = sorted({component for component, _ in keys if component})
    if any(name.startswith(EMA_PREFIX) for _, name in keys):
        return CheckpointError(
            f"`{printable(where)}` has no UNet, only the averaged copy (EMA) of a UNet, "
            "and the names in that copy lack their dots",
            hint,
        )
    if len(parts) > 1:
        return CheckpointError(
            f"`{printable(where)}` has no UNet, only {printable(', '.join(parts))}", hint
        )
    names = [f"{component}/{name}" for component, name in keys]
    for kind, fragments in _OTHER_FILE_KINDS:
        if any(fragment in name for name in names for fragment in fragments):
            return CheckpointError(f"`{printable(where)}` is {kind}, not a model", hint)
    return CheckpointError(
        f"`{printable(where)}` is not a model that loco supports: "
        f"none of its {len(names)} tensors belongs to a cross-attention layer of a UNet",
        hint,
    )
