"""The tokenizers of checkpoints."""

import shutil

import pytest
import torch

from loco_cli.concept import PromptPair
from loco_cli.errors import CheckpointError, ConceptError
from loco_cli.models.locate import locate
from loco_cli.models.tokenizers import check_subjects, tokenizers_of
from tests.checkpoints import sd1_weights
from tests.checkpoints import write_folder as write_plain_folder
from tests.families.layouts import write_folder
from tests.families.original import original_tensors, write_file
from tests.families.small import small_model

PADS = {"sd15": (49_407,), "sd21": (0,), "sdxl": (49_407, 0), "deepfloyd": (0,)}


@pytest.mark.parametrize("name", PADS)
def test_every_family_has_its_tokenizers(name, tmp_path):
    """Each encoder has a tokenizer with its own padding token and a limit of 77."""
    folder = write_folder(tmp_path / "folder", small_model(name), torch.float16)

    tokenizers = tokenizers_of(locate(str(folder)))

    assert tuple(tokenizer.pad for tokenizer in tokenizers) == PADS[name]
    assert {tokenizer.limit for tokenizer in tokenizers} == {77}


@pytest.mark.parametrize("name", ["sd15", "sd21", "sdxl"])
def test_a_single_file_uses_packaged_tokenizers(name, tmp_path):
    """A single file gives the tokens of its folder."""
    model = small_model(name)
    folder = tokenizers_of(locate(str(write_folder(tmp_path / "a", model, torch.float16))))
    file = write_file(tmp_path / "b.safetensors", original_tensors(model), torch.float16)

    tokenizers = tokenizers_of(locate(str(file)))

    prompt = "hello! a house by van gogh"
    assert [tokenizer.tokenize(prompt) for tokenizer in tokenizers] == [
        one.tokenize(prompt) for one in folder
    ]
    assert [tokenizer.pad for tokenizer in tokenizers] == [one.pad for one in folder]


def test_a_file_of_tiny_keeps_its_vocabulary(tiny, tiny_file):
    """A single file of `tiny` uses the vocabulary of `tiny`."""
    (folder,), (file,) = tokenizers_of(tiny), tokenizers_of(locate(str(tiny_file)))

    assert file.tokenize("a painting by van gogh") == folder.tokenize("a painting by van gogh")
    assert file.vocabulary_size == 724


def test_deepfloyd_without_tokenizer_is_refused(tmp_path, golden):
    """The package contains no tokenizer for T5."""
    folder = write_folder(tmp_path / "folder", small_model("deepfloyd"), torch.float16)
    shutil.rmtree(folder / "tokenizer")

    with golden.raises(CheckpointError):
        tokenizers_of(locate(str(folder)))


def test_a_vocabulary_beyond_the_embeddings_is_refused(tmp_path, golden):
    """A tokenizer may not have more tokens than its encoder has embeddings."""
    folder = write_plain_folder(tmp_path / "folder", sd1_weights())

    with golden.raises(CheckpointError, "20", "49408"):
        tokenizers_of(locate(str(folder)))


@pytest.mark.parametrize("name", ["sdxl", "deepfloyd"])
def test_every_tokenizer_checks_the_prompts(name, tmp_path, golden):
    """A truncated subject is refused, and so is a truncated target prompt."""
    located = locate(str(write_folder(tmp_path / "a", small_model(name), torch.float16)))
    long = "very " * 90
    check_subjects(located, [PromptPair("a cat " + long, "a dog", "a cat")])

    with golden.raises(ConceptError, "`a cat`", "77"):
        check_subjects(located, [PromptPair(long + "a cat", "a dog", "a cat")])
    with golden.raises(ConceptError, "77"):
        check_subjects(located, [PromptPair("a cat", long + "a dog", "a cat")])
