"""Prompts to embeddings, and where in them a subject stands."""

import json

import pytest
import torch

from loco_cli.checkpoint.reader import read_tensor
from loco_cli.errors import CheckpointError, ConceptError
from loco_cli.runtime.encode import (
    EncodedPrompt,
    check_fits,
    last_mention,
    load_text_encoder,
    load_tokenizer,
    read_config,
)


@pytest.fixture(scope="module")
def tensors(tiny):
    names = tiny.checkpoint.names("text_encoder")
    return {name: read_tensor(tiny.checkpoint.slots("text_encoder", name)[0]) for name in names}


@pytest.fixture(scope="module")
def config(tiny):
    return read_config(tiny.config / "text_encoder" / "config.json")


@pytest.fixture(scope="module")
def tokenizer(encoder):
    return encoder.tokenizer


def test_states_are_those_of_diffusers(encoder, pipeline):
    """
    The encoder built from tensors gives what `StableDiffusionPipeline.encode_prompt` gives.
    """
    (encoded,) = encoder.encode(["a cat in the style of monet"])

    expected, _ = pipeline.pipe.encode_prompt("a cat in the style of monet", "cpu", 1, False)

    torch.testing.assert_close(encoded.states[None], expected, rtol=0, atol=0)


def test_a_prompt_does_not_depend_on_its_company(encoder):
    """
    A prompt among others has the states that it has alone, up to rounding.
    """
    (alone,) = encoder.encode(["a cat"])
    _, together = encoder.encode(["a painting of a house in the style of hokusai", "a cat"])

    torch.testing.assert_close(together.states, alone.states, rtol=0, atol=1e-5)
    assert together.end == alone.end


def test_words_end_before_the_first_end_token(encoder):
    """
    `end` is where the words are over: position 1 of the empty prompt, after the start token.
    """
    empty, cat = encoder.encode(["", "a cat"])

    assert empty.end == 1
    assert cat.end > 1
    assert cat.states.shape == (77, 96)


@pytest.mark.parametrize(
    ("prompt", "subject", "words"),
    [
        ("a painting in the style of van gogh", "van gogh", "van gogh"),
        ("A Painting By VAN GOGH", "van gogh", "VAN GOGH"),
        ("a cat in a cathedral", "cat", "cat"),
        ("a cat, a dog, a cat", "a cat", "a cat"),
        ("a dog\t and  a robot", "a robot", "a robot"),
    ],
)
def test_positions_cover_the_last_mention(encoder, prompt, subject, words):
    """
    The positions of a subject are the tokens whose characters lie in its last mention.
    """
    (encoded,) = encoder.encode([prompt])

    positions = encoded.positions_of(subject)

    start, stop = encoded.offsets[positions[0]][0], encoded.offsets[positions[-1]][1]
    assert prompt[start:stop].strip() == words
    assert list(positions) == list(range(positions[0], positions[-1] + 1))
    assert 0 < positions[0] <= positions[-1] < encoded.end


def test_a_subject_that_is_not_there_is_refused(encoder):
    """
    A prompt without the subject has no position for it.
    """
    (encoded,) = encoder.encode(["a cat"])

    with pytest.raises(ConceptError, match="prompt `a cat` holds no token of `van gogh`"):
        encoded.positions_of("van gogh")


def test_padding_is_never_the_subject():
    """
    Tokens without characters are no part of a mention at the very start.
    """
    prompt = EncodedPrompt("cat", torch.zeros(4, 2), ((0, 0), (0, 3), (0, 0), (0, 0)), end=2)

    assert prompt.positions_of("cat") == (1,)


def test_whole_words_go_first():
    """
    A mention is a whole word where there is one, else the last place where the letters stand.
    """
    assert last_mention("a cat in a cathedral", "cat") == (2, 5)
    assert last_mention("cathedrals", "cat") == (0, 3)
    assert last_mention("a dog", "cat") == (0, 0)


def test_a_subject_that_fits_passes(tokenizer):
    """
    A prompt may be too long as long as its subject is read.
    """
    check_fits(tokenizer, "a cat", "cat")
    check_fits(tokenizer, "snoopy and " + "a very nice house " * 40, "snoopy")


def test_a_subject_that_is_cut_off_is_refused(tokenizer):
    """
    A subject whose tokens come too late is an error with both numbers.
    """
    prompt = "a very nice house " * 40 + "by van gogh"

    with pytest.raises(ConceptError) as caught:
        check_fits(tokenizer, prompt, "van gogh")

    n_tokens = len(tokenizer(prompt).input_ids)
    assert caught.value.exit_code == 2
    assert caught.value.message == (
        "`van gogh` is cut off in `a very nice house a very nice house a very nice house a v...`: "
        f"{n_tokens} tokens, the text encoder reads 77"
    )


def test_names_may_lack_their_prefix(config, tensors, tokenizer):
    """
    Tensors named with or without `text_model.` give the same encoder.
    """
    bare = {name.removeprefix("text_model."): value for name, value in tensors.items()}

    one = load_text_encoder(config, tensors, tokenizer).encode(["a cat"])[0]
    other = load_text_encoder(config, bare, tokenizer).encode(["a cat"])[0]

    assert torch.equal(one.states, other.states)


def test_a_missing_tensor_is_named(config, tensors, tokenizer):
    """
    An encoder that lacks a tensor is refused, not filled with noise.
    """
    part = dict(list(tensors.items())[1:])

    with pytest.raises(CheckpointError, match="the text encoder lacks 1 tensors, among them"):
        load_text_encoder(config, part, tokenizer)


def test_a_wrong_shape_is_named(config, tensors, tokenizer):
    """
    An encoder of other widths than its configuration's is refused with both shapes.
    """
    with pytest.raises(CheckpointError, match=r"is \[724, 96\], its configuration says \[9, 96\]"):
        load_text_encoder({**config, "vocab_size": 9}, tensors, tokenizer)


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    """
    A folder that holds no tokenizer is an error of the checkpoint, with its path.
    """
    with pytest.raises(CheckpointError, match="holds no tokenizer that can be read"):
        load_tokenizer(tmp_path / "tokenizer")


@pytest.mark.parametrize("text", ["{", "[1]", None])
def test_a_configuration_that_is_none_is_refused(tmp_path, text):
    """
    A configuration is a JSON object, and there.
    """
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(CheckpointError, match=r"configuration `.*config.json`"):
        read_config(path)


def test_a_configuration_is_read(tmp_path):
    """
    What the file says is returned.
    """
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 96}))

    assert read_config(tmp_path / "config.json") == {"hidden_size": 96}
