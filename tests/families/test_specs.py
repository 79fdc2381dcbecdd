"""The layer tables of all families, compared with small UNets."""

import json
from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel

from loco_cli.errors import UnknownName
from loco_cli.families import registry
from loco_cli.families.registry import spec_for
from tests.families.small import IF_UNET

D_TEXT = 64
N_TOKENS = 5
D_HIDDEN = IF_UNET["encoder_hid_dim"]  # width of the encoder states before a shared map
WIDTHS = {
    "sd1": (8, 16, 24, 32),
    "sd2": (8, 16, 24, 32),
    "sdxl": (8, 16, 24),
    "if": (8, 16, 24, 32),
}
FAMILIES = tuple(WIDTHS)
KNOWN_WIDTHS = {name: (320, 640, 1280, 1280) for name in registry.names()} | {
    "tiny": (32, 64, 64, 64),
    "tiny-plain": (32, 64, 64, 64),
    "sdxl": (320, 640, 1280),
    "sdxl-turbo": (320, 640, 1280),
    "deepfloyd": (704, 1408, 2112, 2816),
}
SMALL = {
    "sd1": {"attention_head_dim": 4},
    "sd2": {"attention_head_dim": 4},
    "sdxl": {"attention_head_dim": 4, "projection_class_embeddings_input_dim": 6 * 256 + 32},
    "if": {},
}


def config_of(family):
    if family == "if":
        return IF_UNET
    name = {"sd1": "sd15", "sd2": "sd21", "sdxl": "sdxl"}[family]
    folder = registry.config_folder(registry.get(name))
    return json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def unet(family):
    """A UNet with the true structure of the family, at reduced widths."""
    torch.manual_seed(0)
    widths = {"block_out_channels": WIDTHS[family], "cross_attention_dim": D_TEXT}
    config = config_of(family) | widths | {"norm_num_groups": 4} | SMALL[family]
    return UNet2DConditionModel.from_config(config).eval()


@pytest.fixture(scope="module")
def reads(unet, family):
    """The input of each linear map in one forward pass, by path in the order of the calls."""
    given = {}
    for path, module in unet.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(
                lambda _, args, path=path: given.update({path: args[0]})
            )
    added = {"text_embeds": torch.zeros(1, 32), "time_ids": torch.zeros(1, 6)}
    context = torch.randn(1, N_TOKENS, D_HIDDEN if family == "if" else D_TEXT)
    with torch.no_grad():
        unet(
            torch.zeros(1, unet.config.in_channels, 8, 8),
            0,
            context,
            added_cond_kwargs=added if family == "sdxl" else None,
        )
    return {"context": context} | given


def test_the_layers_are_those_that_read_the_text(family, reads):
    """In execution order, the spec's projections are the linear maps that read the context."""
    seen = [path for path, x in reads.items() if x.shape == (1, N_TOKENS, D_TEXT)]

    layers = registry.family(family).layers(WIDTHS[family])

    assert len(layers) == {"sd1": 16, "sd2": 16, "sdxl": 70, "if": 22}[family]
    assert [path for path in seen if path != "context"] == [
        f"{layer.module_path}.{projection.name}"
        for layer in layers
        for projection in layer.projections
    ]


def test_the_projections_have_the_shapes_of_the_spec(family, unet):
    """The spec has the shape of every key and value projection, and of its bias."""
    spec = spec_for(registry.family(family), WIDTHS[family], D_TEXT)
    ends = {projection.name for layer in spec.layers for projection in layer.projections}

    shapes = {name: tuple(value.shape) for name, value in unet.state_dict().items()}

    owners = {layer.module_path for layer in spec.layers}
    assert spec.tensor_shapes() == {
        name: shape
        for name, shape in shapes.items()
        if name.rsplit(".", 2)[0] in owners and name.rsplit(".", 2)[1] in ends
    }


def test_the_context_is_made_as_the_spec_says(family, unet, reads):
    """Keys read the encoder states after the shared maps and `norm_cross`."""
    context = spec_for(registry.family(family), WIDTHS[family], D_TEXT).context

    states = reads["context"]
    for shared in context.shared:
        states = unet.get_submodule(shared.name)(states)
    for layer in registry.family(family).layers(WIDTHS[family]):
        expected = states
        if norm := context.norm_cross:
            own = unet.get_submodule(f"{layer.module_path}.{norm.name}")
            expected = torch.nn.functional.group_norm(
                states.transpose(1, 2), norm.n_groups, own.weight, own.bias, norm.epsilon
            ).transpose(1, 2)
        for projection in layer.projections:
            read = reads[f"{layer.module_path}.{projection.name}"]
            torch.testing.assert_close(read, expected, rtol=1e-5, atol=1e-6)


def test_a_known_model_is_found_by_its_shape():
    """Shape, architecture and prediction type identify every known model."""
    ignored = {"name": "", "title": "", "hub_id": "", "published_ranges": {}}
    for name, widths in KNOWN_WIDTHS.items():
        spec = registry.get(name)
        metadata = {"architecture": spec.architecture, "prediction": spec.prediction}

        found = spec_for(spec.family, widths, spec.d_text, **metadata)

        assert spec.family.layers(widths) == spec.layers
        assert replace(found, **ignored) == replace(spec, **ignored)
        assert found.name in (name, "sd14", "tiny")


def test_metadata_distinguishes_models_of_one_shape():
    """Metadata distinguishes SD 2.1 from its base, and SDXL from its Turbo."""
    sd2 = (registry.family("sd2"), (320, 640, 1280, 1280), 1024)
    sdxl = (registry.family("sdxl"), (320, 640, 1280), 2048)
    base, turbo = "stable-diffusion-xl-v1-base", "stable-diffusion-xl-turbo-v1"

    assert spec_for(*sd2).name == "sd21"
    assert spec_for(*sd2, prediction="epsilon").name == "sd21-base"
    assert spec_for(*sd2, architecture="stable-diffusion-v2-512").name == "sd21-base"
    assert spec_for(*sdxl).name == "sdxl"
    assert spec_for(*sdxl, architecture=turbo).name == "sdxl-turbo"
    assert spec_for(*sdxl, spacing="trailing").name == "sdxl-turbo"
    assert spec_for(*sdxl, architecture=base, spacing="trailing").name == "sdxl"


def test_of_unknown_widths_only_the_family_is_known(family):
    """A model of unknown widths has its family's layers, and no repository or configuration."""
    spec = spec_for(registry.family(family), WIDTHS[family], D_TEXT)

    assert (spec.name, spec.family.name, spec.d_text) == (family, family, D_TEXT)
    assert (spec.hub_id, spec.licence) == (None, None)
    assert registry.config_folder(spec) is None
    assert registry.shipped_folder(spec) is None
    assert {(one.width, one.n_layers) for one in spec.context.encoders} == {(None, None)}


def test_a_family_has_a_fixed_number_of_widths(family):
    """A wrong number of widths raises ValueError."""
    assert len(registry.family(family).width_tensors) == len(WIDTHS[family])
    with pytest.raises(ValueError, match=f"family {family}"):
        spec_for(registry.family(family), (*WIDTHS[family], 8), D_TEXT)


def test_a_user_may_point_to_another_repository(golden):
    """An override of hub ids changes only the repository of a model."""
    hub_ids = {"sd21": "me/a-mirror"}

    assert registry.get("sd21", hub_ids) == replace(registry.get("sd21"), hub_id="me/a-mirror")
    assert registry.get("sdxl", hub_ids) == registry.get("sdxl")
    with golden.raises(UnknownName, "`sd12`"):
        registry.get("sdxl", {"sd12": "me/a-mirror"})


def test_every_spec_is_consistent():
    """
    Layers are numbered in order, and published ranges fit.

    Without shared maps, the encoder widths add up to the width of the context. The spec names the
    path of the prompt that bypasses K and V.
    """
    for spec in map(registry.get, registry.names()):
        assert [layer.index for layer in spec.layers] == list(range(spec.n_layers))
        assert all(0 <= a < b <= spec.n_layers for a, b in spec.published_ranges.values())
        widths = [encoder.width for encoder in spec.context.encoders]
        assert sum(widths) == (4096 if spec.context.shared else spec.d_text), spec.name
        is_pooling = spec.family.name in ("sdxl", "if")
        assert any("add_embedding" in path for path in spec.unreachable) == is_pooling
