"""CLIP's text encoder: agreement with transformers, and the sharing of prefixes."""

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from loco_cli.encoders.clip import ClipShape, Prefixes, clip_states
from loco_cli.errors import CheckpointError

CONFIG = {
    "vocab_size": 50,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "max_position_embeddings": 11,
    "layer_norm_eps": 1e-3,
}
ROWS = [(7, 1, 2), (7, 1, 3, 4), (7,), (7, 1, 2)]  # rows with shared prefixes
KINDS = {"CLIP-L": ("quick_gelu", CLIPTextModel), "OpenCLIP": ("gelu", CLIPTextModelWithProjection)}


@pytest.fixture(params=KINDS)
def encoder(request):
    """A random encoder with its tensors under the names of files."""
    activation, kind = KINDS[request.param]
    torch.manual_seed(0)
    config = CONFIG | {"hidden_act": activation}
    model = kind(CLIPTextConfig(**config)).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    core = getattr(model, "text_model", model)
    tensors = {f"text_model.{name}": value for name, value in core.state_dict().items()}
    return model, config, tensors


def run(config, tensors, ids, states):
    prefixes = Prefixes.of(ids.tolist())
    tokens = tensors["text_model.embeddings.token_embedding.weight"][prefixes.tokens]
    return clip_states(tokens, prefixes, ClipShape.of(config, states), tensors.__getitem__)


@torch.no_grad()
def test_states_equal_those_of_transformers(encoder):
    """
    Last and penultimate states equal those of transformers, with shared prefixes and in several
    steps.
    """
    model, config, tensors = encoder
    ids = torch.randint(50, (40, 11), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[20:, :6] = 7, ids[20, :6].clone()

    expected = model(ids, output_hidden_states=True)

    actual = {states: run(config, tensors, ids, states) for states in ("last", "penultimate")}
    torch.testing.assert_close(actual["last"], expected.last_hidden_state, rtol=0, atol=1e-5)
    torch.testing.assert_close(actual["penultimate"], expected.hidden_states[-2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("states", ["last", "penultimate"])
def test_the_listed_tensors_are_those_that_are_read(encoder, states):
    """The encoder reads exactly the listed tensors, with the listed shapes."""
    _, config, tensors = encoder
    shape, read = ClipShape.of(config, states), {}

    def remember(name):
        read[name] = tuple(tensors[name].shape)
        return tensors[name]

    clip_states(torch.zeros(3, 24), Prefixes.of([(4, 5, 6)]), shape, remember)

    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert read == shape.tensor_shapes(24, shapes)


def test_an_invalid_configuration_is_refused(golden):
    """
    The shape refuses an unknown activation, an invalid number and an extreme number of layers.
    """
    for config in (
        {"hidden_act": "relu6"},
        {"hidden_act": ["gelu"]},
        {"num_attention_heads": 0},
        {"num_hidden_layers": "12"},
        {"num_hidden_layers": 10**9},
    ):
        with golden.raises(CheckpointError, "CLIP"):
            ClipShape.of(config, "last")


def test_each_prefix_occurs_once():
    """Four rows with shared beginnings have five distinct prefixes."""
    prefixes = Prefixes.of(ROWS)

    assert prefixes.tokens.tolist() == [7, 1, 2, 3, 4]
    assert prefixes.positions.tolist() == [0, 1, 2, 2, 3]
    assert prefixes.paths.tolist() == [[0, 1, 2, 2], [0, 1, 3, 4], [0, 0, 0, 0], [0, 1, 2, 2]]
    assert prefixes.homes.tolist() == [0, 1, 2, 6, 7]


@pytest.mark.parametrize("rows", [ROWS, ROWS[::-1], [(3,)]])
def test_paths_spell_the_rows(rows):
    """The tokens along a path are its row, and homes ascend and point to their own node."""
    prefixes = Prefixes.of(rows)

    for path, row in zip(prefixes.paths, rows, strict=True):
        assert tuple(prefixes.tokens[path].tolist())[: len(row)] == row
    assert prefixes.paths.flatten()[prefixes.homes].tolist() == list(range(len(prefixes.tokens)))
    assert prefixes.homes.tolist() == sorted(prefixes.homes.tolist())
