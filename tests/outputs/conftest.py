"""The small model as a folder and as a file, made anew for each test."""

import pytest

from tests.checkpoints import sd1_weights, write_folder, write_single_file


@pytest.fixture(scope="session")
def weights():
    return sd1_weights()


@pytest.fixture
def base(weights, tmp_path):
    return write_folder(tmp_path / "base", weights)


@pytest.fixture
def base_file(weights, tmp_path):
    return write_single_file(tmp_path / "base.safetensors", weights, metadata={"format": "pt"})
