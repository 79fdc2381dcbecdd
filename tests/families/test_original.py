"""Single files in the original layout load in diffusers like their folders."""

import pytest
import torch

from loco_cli.checkpoint.layout import open_checkpoint
from tests.families.layouts import write_folder
from tests.families.original import original_tensors, write_file
from tests.families.pictures import draw, load_file, load_folder
from tests.families.small import small_model

SINGLE = ("sd15", "sd21", "sd21-base", "sdxl")
PROMPT = "a house in the style of van gogh"


@pytest.fixture(scope="module", params=SINGLE)
def model(request):
    return small_model(request.param)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("folder"), model, torch.float16)


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "one.safetensors"
    return write_file(path, original_tensors(model), torch.float16)


def test_diffusers_draws_with_the_file_what_it_draws_with_the_folder(model, folder, file):
    """diffusers loads equal weights from the file and the folder, and draws equal pictures."""
    one = load_folder(folder, model)
    tokenizers = {name: part for name, part in one.components.items() if "tokenizer" in name}

    other = load_file(file, model, folder, **tokenizers)

    for part in model.tensors:
        ours, theirs = (getattr(pipe, part).state_dict() for pipe in (one, other))
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert torch.equal(draw(one, PROMPT), draw(other, PROMPT))


def test_the_encoder_of_sd_turbo_is_found(tmp_path):
    """A file with SD 2's encoder under SDXL's prefix is recognised as SD 2."""
    model = small_model("sd21-base")
    moved = {
        name.replace("cond_stage_model.model.", "conditioner.embedders.0.model."): value
        for name, value in original_tensors(model).items()
    }

    checkpoint = open_checkpoint(write_file(tmp_path / "turbo.safetensors", moved, torch.float16))

    assert checkpoint.family.name == "sd2"
    assert set(model.tensors["text_encoder"]) <= set(checkpoint.names("text_encoder"))
