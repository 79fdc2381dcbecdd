"""The small model in each layout, made once per test session and only read."""

import numpy as np
import pytest

from tests.checkpoints import sd1_weights, write_folder, write_single_file


@pytest.fixture(scope="session")
def weights():
    return sd1_weights()


@pytest.fixture
def tensors(weights):
    """The float16 tensors of a single file, for a test to change."""
    return {w.original: w.value.astype(np.float16) for w in weights}


@pytest.fixture(scope="session")
def folder(weights, tmp_path_factory):
    """A diffusers folder with full and fp16 variants, the UNet in three shards each."""
    root = tmp_path_factory.mktemp("layouts") / "sharded"
    variants = {"fp16": np.float16}
    return write_folder(root, weights, dtype=np.float32, variants=variants, n_shards=3)


@pytest.fixture(scope="session")
def single_file(weights, tmp_path_factory):
    """A single float16 file in the original layout."""
    path = tmp_path_factory.mktemp("layouts") / "model.safetensors"
    return write_single_file(path, weights, metadata={"format": "pt"})
