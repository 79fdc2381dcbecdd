"""Temporary weights of a module."""

import pytest
import torch
from torch import nn

from loco_cli.sampling.weights import replace_weights


@pytest.fixture
def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))


def test_weights_are_replaced_and_put_back(module):
    """Parameters have the given values inside the block and their own values after it."""
    before = {name: value.clone() for name, value in module.state_dict().items()}

    with replace_weights(module, {"0.weight": torch.ones(2, 3, dtype=torch.float16)}):
        inside = {name: value.clone() for name, value in module.state_dict().items()}

    assert torch.equal(inside["0.weight"], torch.ones(2, 3))
    assert torch.equal(inside["1.weight"], before["1.weight"])
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_weights_are_put_back_after_an_error(module):
    """An exception or a value of the wrong shape restores all weights."""
    before, fitting = module[0].weight.clone(), {"0.weight": torch.ones(2, 3)}

    with pytest.raises(KeyboardInterrupt), replace_weights(module, fitting):
        raise KeyboardInterrupt
    assert torch.equal(module[0].weight, before)
    with (
        pytest.raises(RuntimeError),
        replace_weights(module, {**fitting, "1.weight": torch.ones(5, 5)}),
    ):
        pass
    assert torch.equal(module[0].weight, before)
