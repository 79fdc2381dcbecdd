"""Tokenizers: agreement with transformers, and refusals."""

import json
import shutil
import struct
from functools import cache

import pytest
from transformers import CLIPTokenizer, T5Tokenizer

from loco_cli.concept import PromptPair
from loco_cli.encoders.tokenizer import (
    check_prompt_pair,
    last_mention,
    load_clip_tokenizer,
    load_tokenizer,
    read_settings,
)
from loco_cli.errors import CheckpointError, ConceptError
from loco_cli.families import registry

PROMPTS = (
    "",
    "a cat",
    "A  Photo\tof r2d2!",
    "hello! world !!! !",
    "don't they're it's 'quoted'",
    "van gogh's house, 1889 — “über” naïve café İstanbul",
    "日本の絵 🎨",
    "<|endoftext|> and <|startoftext|>",
    "house " * 100,
    "l'amour d'e\u0301te\u0301\n\n",
)
PIECES = ["<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz", "▁a", "▁cat", "▁van"]


@cache
def packaged(name, part="tokenizer"):
    folder = registry.config_folder(registry.get(name)) / part
    files = registry.CLIP_VOCABULARY, registry.CLIP_MERGES
    return load_clip_tokenizer(read_settings(folder), *files, 77)


@pytest.fixture(scope="module")
def tiny_tokenizer(tiny):
    return load_tokenizer(tiny.path / "tokenizer", "clip", 77)


def spiece(pieces):
    """Return the bytes of a sentencepiece model with these pieces."""

    def field(number, content):
        return bytes([number << 3 | 2]) + size(len(content)) + content

    def size(n):
        return bytes([n]) if n < 128 else bytes([n & 127 | 128, n >> 7])

    kinds = {"<pad>": 3, "</s>": 3, "<unk>": 2}
    entries = b""
    for number, piece in enumerate(pieces):
        score = b"\x15" + struct.pack("<f", -number / 10)
        entries += field(
            1, field(1, piece.encode()) + score + b"\x18" + bytes([kinds.get(piece, 1)])
        )
    trainer, normalizer = field(2, b"\x18\x02"), field(3, field(1, b"identity"))
    return entries + trainer + normalizer


@pytest.mark.parametrize(("name", "part"), [("sd15", ""), ("sd21", ""), ("sdxl", "_2")])
def test_tokens_equal_those_of_transformers(name, part):
    """Numbers and characters of every token equal those of `CLIPTokenizer`."""
    folder = registry.config_folder(registry.get(name)) / f"tokenizer{part}"
    settings = read_settings(folder)
    settings.pop("tokenizer_class")
    files = {"vocab": str(registry.CLIP_VOCABULARY), "merges": str(registry.CLIP_MERGES)}
    theirs = CLIPTokenizer(**files, **settings)
    ours = packaged(name, f"tokenizer{part}")

    for prompt in PROMPTS:
        expected = theirs(prompt, truncation=True, return_offsets_mapping=True)
        tokens = ours.tokenize(prompt)
        assert tokens.ids == tuple(expected.input_ids), prompt
        assert tokens.offsets == tuple(expected.offset_mapping), prompt
        assert tokens.end == expected.input_ids.index(theirs.eos_token_id), prompt
    assert (ours.pad, ours.limit, ours.vocabulary_size) == (theirs.pad_token_id, 77, len(theirs))


def test_the_vocabulary_of_a_folder_is_used(tiny, tiny_tokenizer):
    """A folder's own vocabulary gives the tokens of `CLIPTokenizer`."""
    theirs = CLIPTokenizer.from_pretrained(tiny.path / "tokenizer")

    for prompt in PROMPTS:
        assert tiny_tokenizer.tokenize(prompt).ids == tuple(
            theirs(prompt, truncation=True).input_ids
        )


def test_changed_files_are_read_again(tiny, tmp_path):
    """Tokenizers of the same files share a cache until the files change."""
    folder = tmp_path / "tokenizer"
    shutil.copytree(tiny.path / "tokenizer", folder)
    first = load_tokenizer(folder, "clip", 77)
    assert load_tokenizer(folder, "clip", 77).tokenize("a cat").ids == first.tokenize("a cat").ids

    (folder / "merges.txt").write_text("#version: 0.2\n")

    assert load_tokenizer(folder, "clip", 77).tokenize("a cat").ids != first.tokenize("a cat").ids


def test_a_tokenizer_in_one_file_is_read(tiny, tiny_tokenizer, tmp_path):
    """`tokenizer.json` of transformers gives the same tokens as vocabulary and merges."""
    CLIPTokenizer.from_pretrained(tiny.path / "tokenizer").save_pretrained(tmp_path)

    saved = load_tokenizer(tmp_path, "clip", 77)

    assert not (tmp_path / "vocab.json").exists()
    for prompt in PROMPTS:
        assert saved.tokenize(prompt) == tiny_tokenizer.tokenize(prompt)
    assert (saved.pad, saved.limit) == (tiny_tokenizer.pad, 77)


def test_learned_tokens_keep_their_numbers(tiny, tmp_path):
    """A token of textual inversion keeps its number."""
    theirs = CLIPTokenizer.from_pretrained(tiny.path / "tokenizer")
    theirs.add_tokens("<my-cat>")
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((tiny.path / "tokenizer" / name).read_bytes())
    added = {str(n): {"content": str(t)} for n, t in theirs.added_tokens_decoder.items()}
    settings = read_settings(tiny.path / "tokenizer") | {"added_tokens_decoder": added}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))

    ours = load_tokenizer(tmp_path, "clip", 77)

    prompt = "a photo of <my-cat> by monet"
    assert ours.tokenize(prompt).ids == tuple(theirs(prompt).input_ids)
    assert 724 in ours.tokenize(prompt).ids


def test_the_special_tokens_map_takes_precedence(tiny, tmp_path):
    """`special_tokens_map.json` overrides the padding token of the settings."""
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": "<|endoftext|>"}')
    (tmp_path / "special_tokens_map.json").write_text('{"pad_token": {"content": "!"}}')

    settings = read_settings(tmp_path)

    files = registry.CLIP_VOCABULARY, registry.CLIP_MERGES
    assert load_clip_tokenizer(settings, *files, 77).pad == 0


@pytest.mark.parametrize(("given", "limit"), [(None, 77), (50, 50), (1e30, 77), ("77", 77)])
def test_the_limit_is_at_most_the_number_of_positions(given, limit):
    """`model_max_length` applies, up to the number of positions of the encoder."""
    files = registry.CLIP_VOCABULARY, registry.CLIP_MERGES

    assert load_clip_tokenizer({"model_max_length": given}, *files, 77).limit == limit


def test_a_sentencepiece_model_is_read_without_its_library(tmp_path):
    """T5's pieces give the tokens of transformers for lowered and stripped prompts."""
    (tmp_path / "spiece.model").write_bytes(spiece(PIECES))
    scores = [(piece, -number / 10) for number, piece in enumerate(PIECES)]
    theirs = T5Tokenizer(vocab=scores, extra_ids=0)

    ours = load_tokenizer(tmp_path, "t5", 77)

    for prompt in ("", "a cat", " Van Gogh  ", "a cat, by van!"):
        tokens = ours.tokenize(prompt)
        expected = theirs(prompt.lower().strip(), return_offsets_mapping=True)
        assert tokens.ids == tuple(expected.input_ids)
        assert tokens.offsets == tuple(expected.offset_mapping)
        assert tokens.text == prompt.lower().strip()
        assert tokens.end == len(tokens.ids) - 1
    assert (ours.pad, ours.eos, ours.start, ours.limit) == (0, 1, 0, 77)


def test_a_damaged_sentencepiece_model_is_refused(tmp_path, golden):
    """Truncated and malformed models are errors of the checkpoint."""
    for content in (b"\x0a", b"\x0a\x05\x0a\x01a", b"\xff" * 9, b"\x0b", b""):
        (tmp_path / "spiece.model").write_bytes(content)
        with golden.raises(CheckpointError, "spiece.model`"):
            load_tokenizer(tmp_path, "t5", 77)


def test_a_folder_without_tokenizer_is_refused(tmp_path, golden):
    """A missing tokenizer is an error of the checkpoint."""
    for kind in ("clip", "t5"):
        with golden.raises(CheckpointError, "tokenizer`"):
            load_tokenizer(tmp_path / "tokenizer", kind, 77)


def test_a_tokenizer_without_end_token_is_refused(tmp_path, golden):
    """A prompt needs an end token, a padding token and room for a word."""
    (tmp_path / "vocab.json").write_text('{"a</w>": 0, "<|endoftext|>": 1}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 2}')

    with golden.raises(CheckpointError, "`<|endoftext|>`"):
        load_tokenizer(tmp_path, "clip", 77)


def test_whole_words_take_precedence():
    """A mention is the last whole word, or else the last occurrence of its letters."""
    assert last_mention("a cat in a cathedral", "cat") == (2, 5)
    assert last_mention("cathedrals", "cat") == (0, 3)
    assert last_mention("a dog", "cat") == (0, 0)


def test_a_long_prompt_may_end_after_its_subject(tiny_tokenizer):
    """A prompt may exceed the limit after its subject."""
    long = "snoopy and " + "a very nice house " * 40

    check_prompt_pair(tiny_tokenizer, PromptPair("a cat", "", "cat"))
    check_prompt_pair(tiny_tokenizer, PromptPair(long, "", "snoopy"))


def test_a_subject_beyond_the_limit_is_refused(tiny_tokenizer, golden):
    """The error about a truncated subject names it and both numbers of tokens."""
    prompt = "a very nice house " * 40 + "by van gogh"
    n_tokens = len(tiny_tokenizer.tokenize_whole(prompt).ids)

    with golden.raises(ConceptError, "`van gogh`", f"{n_tokens} tokens", "77"):
        check_prompt_pair(tiny_tokenizer, PromptPair(prompt, "", "van gogh"))
