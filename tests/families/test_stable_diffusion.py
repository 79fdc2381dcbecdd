"""The layer table of Stable Diffusion 1.x, compared with a small UNet."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from loco_cli.families import registry
from tests.checkpoints import D_TEXT, UNET_CONFIG, WIDTHS


@pytest.fixture(scope="module")
def unet():
    return UNet2DConditionModel(**UNET_CONFIG).eval()


def test_sd1_order_is_execution_order(unet):
    """The layer list has the order that forward hooks observe."""
    seen = []
    for path, module in unet.named_modules():
        is_cross = hasattr(module, "to_k") and module.to_k.in_features == D_TEXT
        if is_cross:
            module.register_forward_hook(lambda *_, path=path: seen.append(path))

    with torch.no_grad():
        unet(torch.zeros(1, 4, 8, 8), 0, torch.zeros(1, 3, D_TEXT))

    assert seen == [layer.module_path for layer in registry.family("sd1").layers(WIDTHS)]


def test_sd1_widths_are_the_projections(unet):
    """Every projection has the width and bias of the spec."""
    for layer in registry.family("sd1").layers(WIDTHS):
        attention = unet.get_submodule(layer.module_path)
        for projection in layer.projections:
            module = attention.get_submodule(projection.name)
            assert module.weight.shape == (projection.d_out, D_TEXT)
            assert (module.bias is not None) == projection.has_bias


def test_tensor_names_are_the_unets_own(unet):
    """Tensor names occur in the state dict, with `to_k` before `to_v`."""
    names = [
        name for layer in registry.family("sd1").layers(WIDTHS) for name in layer.tensor_names()
    ]

    assert len(names) == 32
    assert set(names) <= unet.state_dict().keys()
    assert names[0].endswith("attn2.to_k.weight")
    assert names[1].endswith("attn2.to_v.weight")


def test_layers_are_counted_from_0():
    """Every model numbers its layers in order, and its published ranges fit."""
    for spec in map(registry.get, registry.names()):
        assert [layer.index for layer in spec.layers] == list(range(spec.n_layers))
        for start, stop in spec.published_ranges.values():
            assert 0 <= start < stop <= spec.n_layers
