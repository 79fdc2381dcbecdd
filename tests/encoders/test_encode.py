"""Text embeddings of prompts, and the positions of a subject."""

from dataclasses import replace

import pytest
import torch

from loco_cli.checkpoint.layout import ComponentReader
from loco_cli.encoders.encode import CheckpointEncoder, EncodedPrompt, read_config
from loco_cli.errors import CheckpointError, ConceptError


def test_states_equal_those_of_diffusers(encoder, pipeline):
    """The states equal those of `StableDiffusionPipeline.encode_prompt`."""
    (encoded,) = encoder.encode(["a cat in the style of monet"])

    expected, _ = pipeline.pipe.encode_prompt("a cat in the style of monet", "cpu", 1, False)

    torch.testing.assert_close(encoded.states[None], expected, rtol=0, atol=1e-5)


def test_a_prompt_does_not_depend_on_other_prompts(encoder):
    """A prompt has the same states alone and among others, up to rounding."""
    (alone,) = encoder.encode(["a cat"])
    _, together = encoder.encode(["a painting of a house in the style of hokusai", "a cat"])

    torch.testing.assert_close(together.states, alone.states, rtol=0, atol=1e-5)
    assert together.end == alone.end


def test_each_prompt_is_encoded_once(encoder):
    """Prompts keep their order, and duplicates are encoded once."""
    seen = []

    class Watched(ComponentReader):
        def read_rows(self, name, rows):
            seen.append(list(rows))
            return super().read_rows(name, rows)

    (part,) = encoder.parts
    reader = Watched(part.reader.checkpoint, part.reader.component)
    watched = CheckpointEncoder([replace(part, reader=reader)])

    first, other, again = watched.encode(["a cat", "a dog", "a cat"])

    assert (first.text, other.text) == ("a cat", "a dog")
    assert again is first
    assert len(seen) == 1
    assert watched.encode([]) == []


def test_words_end_before_the_first_end_token(encoder):
    """`end` is the first end token: position 1 of the empty prompt, after the start token."""
    empty, cat = encoder.encode(["", "a cat"])

    assert (empty.start, empty.end) == (1, 1)
    assert cat.end > 1
    assert cat.states.shape == (77, 96)
    assert len(cat.offsets) == 77


def test_a_typed_end_token_ends_the_prompt(encoder):
    """Words after an end token in the text of a prompt do not count."""
    (encoded,) = encoder.encode(["a cat<|endoftext|> and a dog"])
    (short,) = encoder.encode(["a cat<|endoftext|> and a dog"], padded=False)

    assert encoded.end == 3
    assert len(short.states) == 4
    with pytest.raises(ConceptError):
        encoded.positions_of("dog")


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
    """The positions of a subject are the tokens of its last mention."""
    (encoded,) = encoder.encode([prompt])

    positions = encoded.positions_of(subject)

    start, stop = encoded.offsets[positions[0]][0], encoded.offsets[positions[-1]][1]
    assert prompt[start:stop].strip() == words
    assert list(positions) == list(range(positions[0], positions[-1] + 1))
    assert 0 < positions[0] <= positions[-1] < encoded.end


def test_a_missing_subject_is_refused(encoder, golden):
    """A prompt without the subject has no position for it."""
    (encoded,) = encoder.encode(["a cat"])

    with golden.raises(ConceptError, "`van gogh`"):
        encoded.positions_of("van gogh")


def test_padding_is_never_the_subject():
    """Tokens without characters never belong to a mention."""
    prompt = EncodedPrompt("cat", torch.zeros(4, 2), ((0, 0), (0, 3), (0, 0), (0, 0)), end=2)

    assert prompt.positions_of("cat") == (1,)


def test_only_a_json_object_is_a_configuration(tmp_path, golden):
    """Reading refuses a missing file, invalid JSON, and JSON that is not an object."""
    path = tmp_path / "config.json"
    for text in (None, "{", "[1]"):
        if text is not None:
            path.write_text(text)
        with golden.raises(CheckpointError, "config.json`"):
            read_config(path)

    path.write_text('{"hidden_size": 96}')
    assert read_config(path) == {"hidden_size": 96}


def test_padding_changes_only_the_length(encoder):
    """Padding, encoded for all, some or no prompts, leaves their states up to rounding."""
    prompts = ["a cat", "a painting of a house in the style of hokusai", ""]
    padded = encoder.encode(prompts)

    for names in ((), prompts[1:2]):
        for prompt, whole in zip(encoder.encode(prompts, padded=names), padded, strict=True):
            size = 77 if prompt.text in names else whole.end + 1
            assert prompt.end == whole.end
            assert len(prompt.states) == len(prompt.offsets) == size
            torch.testing.assert_close(prompt.states, whole.states[:size], rtol=0, atol=1e-5)
