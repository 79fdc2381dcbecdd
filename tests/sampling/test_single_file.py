"""Single files, loaded with a configuration without weights and vocabulary."""

import json

import pytest
import torch

from loco_cli.checkpoint.reader import read_tensor
from loco_cli.errors import CheckpointError
from loco_cli.interventions import Run
from loco_cli.models.locate import locate
from loco_cli.sampling.pipeline import load_pipeline
from loco_cli.sampling.sample import sample_batch
from tests.families.original import as_novelai, original_tensors, write_file
from tests.families.small import small_model
from tests.pipelines import running

RUNS = [Run("a House in the style of van gogh", seed=1)]


def config_of(name, folder):
    """Write the configuration of a small model in the form of a packaged one."""
    for path, config in small_model(name).configs.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(config), encoding="utf-8")
    return folder


def load(path, config):
    """Return the pipeline of a file with the configuration of an unknown model."""
    found = locate(str(path))

    def tensors(component):
        names = found.checkpoint.names(component)
        return {name: read_tensor(found.checkpoint.slots(component, name)[0]) for name in names}

    return load_pipeline(
        path,
        found.spec,
        config=config,
        holds=found.checkpoint.holds,
        tensors=tensors,
        device="cpu",
    )


@pytest.mark.parametrize(
    ("name", "spelled"), [("sd15", as_novelai), ("sd21", dict), ("sdxl", dict)]
)
def test_a_single_file_draws_what_its_folder_draws(name, spelled, tmp_path):
    """Under original and NovelAI names, equal weights draw equal pictures."""
    tensors = spelled(original_tensors(small_model(name)))
    file = write_file(tmp_path / "one.safetensors", tensors, torch.float32)

    single = load(file, config_of(name, tmp_path / "config"))

    settings = {"steps": 2, "guidance": 4.0}
    picture, expected = (sample_batch(one, RUNS, **settings) for one in (single, running(name)))
    assert torch.equal(picture, expected)


def test_an_encoder_that_is_cut_short_is_refused(tmp_path, golden):
    """A file that lacks a tensor of its text encoder is refused."""
    tensors = original_tensors(small_model("sd15"))
    del tensors["cond_stage_model.transformer.text_model.encoder.layers.3.mlp.fc1.weight"]
    file = write_file(tmp_path / "one.safetensors", tensors, torch.float32)

    with golden.raises(CheckpointError, "`text_encoder/"):
        load(file, config_of("sd15", tmp_path / "config"))
