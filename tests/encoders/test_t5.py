"""T5's text encoder: agreement with transformers."""

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from loco_cli.encoders.t5 import T5Shape, t5_states
from loco_cli.errors import CheckpointError

CONFIG = {
    "vocab_size": 50,
    "d_model": 24,
    "d_kv": 6,
    "d_ff": 40,
    "num_layers": 3,
    "num_heads": 5,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
}


@pytest.fixture(params=["gated-gelu", "relu"])
def encoder(request):
    """A random encoder with its tensors."""
    torch.manual_seed(0)
    config = CONFIG | {"feed_forward_proj": request.param}
    model = T5EncoderModel(T5Config(**config)).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model, config, model.state_dict()


def run(config, tensors, ids, is_word):
    return t5_states(tensors["shared.weight"][ids], is_word, T5Shape.of(config), tensors.get)


@torch.no_grad()
def test_states_equal_those_of_transformers(encoder):
    """Words and padding have the states of transformers, beyond the largest distance too."""
    model, config, tensors = encoder
    ids = torch.randint(50, (4, 20), generator=torch.Generator().manual_seed(1))
    is_word = torch.arange(20) < torch.tensor([20, 3, 11, 1])[:, None]

    expected = model(ids, attention_mask=is_word.long()).last_hidden_state

    actual = run(config, tensors, ids, is_word)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_the_listed_tensors_are_those_that_are_read(encoder):
    """The encoder reads exactly the listed tensors, with the listed shapes."""
    _, config, tensors = encoder
    shape, read = T5Shape.of(config), {}

    def remember(name):
        read[name] = tuple(tensors[name].shape)
        return tensors[name]

    t5_states(torch.zeros(1, 3, 24), torch.ones(1, 3, dtype=torch.bool), shape, remember)

    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert read == shape.tensor_shapes(24, shapes)


def test_an_invalid_configuration_is_refused(golden):
    """The shape refuses an unknown activation and an invalid number."""
    for config in ({"feed_forward_proj": "gated-silu"}, {"num_heads": None}):
        with golden.raises(CheckpointError, "T5"):
            T5Shape.of(config)
