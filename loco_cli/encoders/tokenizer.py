"""
Tokenizers of prompts, built on the Rust library that transformers wraps.

The tokens of a prompt are start, words and end, each with its range of characters. The module does
not import transformers, because that takes longer than all other work of an edit before it writes.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from loco_cli.concept import PromptPair
from loco_cli.encoders.sentencepiece import PieceModel, read_piece_model
from loco_cli.errors import CheckpointError, ConceptError

# OpenAI's CLIP splits text into English endings, runs of letters, single digits and other runs
_CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
_CLIP_TOKENS = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}
_MAX_BYTES = 256 << 20  # the largest tokenizer file of the known models is 2.4 MB
_MIN_TOKENS = 3  # start, one word, end
_TOKEN_KEYS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_NO_TOKENIZER = "folder `{}` contains no readable tokenizer"
_T5_TOKENS = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


@dataclass(frozen=True)
class Tokens:
    """
    The tokens of a prompt, including start and end.

    Args:
        text: The prompt as the tokenizer read it.
        ids: The number of each token.
        offsets: The range of characters of each token.
        end: The position of the first end token.
    """

    text: str
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    end: int

    def positions_of(self, subject: str) -> tuple[int, ...]:
        """Return the token positions of the last mention of a subject, which may be none."""
        return positions_in(self.text, self.offsets[: self.end], subject)


@dataclass(frozen=True)
class PromptTokenizer:
    """
    The tokenizer of a text encoder: `tokenizer.tokenize("a cat").ids`.

    Args:
        backend: The tokenizer of the Rust library.
        pad: The number of the padding token.
        eos: The number of the end token.
        limit: The maximal number of tokens that the encoder reads.
        start: The position of the first word.
        is_lowered: True if prompts become lower case before tokenization, as in DeepFloyd.
    """

    backend: Tokenizer
    pad: int
    eos: int
    limit: int
    start: int
    is_lowered: bool = False

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens in the vocabulary."""
        return max(self.backend.get_vocab().values(), default=-1) + 1

    def tokenize_whole(self, prompt: str) -> Tokens:
        """Return all tokens of a prompt, including those beyond the limit."""
        text = prompt.lower().strip() if self.is_lowered else prompt
        with _as_checkpoint_error(f"the tokenizer cannot read `{shortened(prompt)}`"):
            encoding = self.backend.encode(text)
            ids = tuple(encoding.ids)
            return Tokens(text, ids, tuple(encoding.offsets), ids.index(self.eos))

    def tokenize(self, prompt: str) -> Tokens:
        """Return the tokens that the encoder reads; a long prompt is cut before its end token."""
        whole = self.tokenize_whole(prompt)
        if len(whole.ids) <= self.limit:
            return whole
        ids = (*whole.ids[: self.limit - 1], self.eos)
        offsets = (*whole.offsets[: self.limit - 1], (0, 0))
        return Tokens(whole.text, ids, offsets, ids.index(self.eos))


def load_clip_tokenizer(
    settings: Mapping[str, Any], vocabulary: Path, merges: Path, n_positions: int
) -> PromptTokenizer:
    """Build a CLIP tokenizer from its files; raises CheckpointError."""
    tokens = {role: _content(settings.get(role), word) for role, word in _CLIP_TOKENS.items()}
    start, eos, unknown = (tokens[role] for role in ("bos_token", "eos_token", "unk_token"))
    with _as_checkpoint_error(_NO_TOKENIZER.format(vocabulary.parent)):
        stats = (file.stat() for file in (vocabulary, merges))
        stamps = tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)
        backend = Tokenizer(_read_merges(vocabulary, merges, unknown, stamps))
        backend.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        _add_tokens(backend, settings, tokens)
        ends = [(word, backend.token_to_id(word)) for word in (start, eos)]
        backend.post_processor = processors.TemplateProcessing(
            single=[start, "$A", eos], special_tokens=ends
        )
    return _prompt_tokenizer(backend, settings, tokens, n_positions, start=1)


def _load_t5_tokenizer(
    settings: Mapping[str, Any], pieces: Path, n_positions: int
) -> PromptTokenizer:
    """Build a T5 tokenizer from a sentencepiece model; raises CheckpointError."""
    tokens = {role: _content(settings.get(role), word) for role, word in _T5_TOKENS.items()}
    with _as_checkpoint_error(_NO_TOKENIZER.format(pieces.parent)):
        backend = _unigram(read_piece_model(pieces))
        _add_tokens(backend, settings, tokens)
        eos = tokens["eos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=["$A", eos], special_tokens=[(eos, backend.token_to_id(eos))]
        )
    return _prompt_tokenizer(backend, settings, tokens, n_positions, start=0, is_lowered=True)


def load_tokenizer(folder: Path, kind: str, n_positions: int) -> PromptTokenizer:
    """
    Load the tokenizer of a folder.

    Args:
        folder: The tokenizer's folder in a diffusers checkpoint.
        kind: The kind of the text encoder, `clip` or `t5`.
        n_positions: The maximal number of tokens that the encoder reads.

    Raises:
        CheckpointError: The folder contains no readable tokenizer.

    Example:
        >>> load_tokenizer(Path("model/tokenizer"), "clip", 77).tokenize("a cat").ids
        (49406, 320, 2368, 49407)
    """
    settings = read_settings(folder)
    whole = folder / "tokenizer.json"
    if kind == "clip" and (folder / "vocab.json").is_file():
        return load_clip_tokenizer(
            settings, folder / "vocab.json", folder / "merges.txt", n_positions
        )
    if kind == "t5" and (folder / "spiece.model").is_file() and not whole.is_file():
        return _load_t5_tokenizer(settings, folder / "spiece.model", n_positions)
    with _as_checkpoint_error(_NO_TOKENIZER.format(folder)):
        backend = Tokenizer.from_file(str(whole))
    backend.no_padding()
    backend.no_truncation()
    default = _CLIP_TOKENS if kind == "clip" else _T5_TOKENS
    tokens = {role: _content(settings.get(role), word) for role, word in default.items()}
    is_clip = kind == "clip"
    return _prompt_tokenizer(
        backend, settings, tokens, n_positions, start=int(is_clip), is_lowered=not is_clip
    )


def read_settings(folder: Path) -> dict[str, Any]:
    """Read the settings of a folder's tokenizer; without a settings file they are empty."""
    settings = _read_object(folder / "tokenizer_config.json")
    if "added_tokens_decoder" in settings:
        return settings
    # older folders have a separate file for special tokens, which takes precedence
    return settings | _read_object(folder / "special_tokens_map.json")


def check_prompt_pair(tokenizer: PromptTokenizer, pair: PromptPair) -> None:
    """
    Check that a text encoder reads the important words of a prompt pair.

    These are the subject of the source prompt and the whole target prompt.

    Raises:
        ConceptError: The source prompt contains no token of its subject, or the tokenizer cuts
            these words off.
    """
    source, limit = tokenizer.tokenize_whole(pair.source), tokenizer.limit
    if not source.positions_of(pair.subject):
        raise ConceptError(
            f"the tokenizer finds no token of `{shortened(pair.subject)}` in "
            f"`{shortened(pair.source)}`",
            "write the subject in words",
        )
    target = tokenizer.tokenize_whole(pair.target)
    for tokens, prompt, words in (
        (source, pair.source, pair.subject),
        (target, pair.target, pair.target),
    ):
        # the end token takes the last position
        n_kept_letters = max((stop for _, stop in tokens.offsets[: limit - 1]), default=0)
        is_long = len(tokens.ids) > limit
        if is_long and n_kept_letters < last_mention(tokens.text, words)[1]:
            raise ConceptError(
                f"`{shortened(words)}` is cut off in `{shortened(prompt)}`: the prompt has "
                f"{len(tokens.ids)} tokens, but the text encoder reads only {limit}",
                "use a shorter subject or a shorter prompt",
            )


def last_mention(prompt: str, subject: str) -> tuple[int, int]:
    """
    Return the range of characters of the last mention of a subject, or (0, 0).

    Case does not matter. Whole words take precedence over parts of words.

    Example:
        >>> last_mention("a cat in a cathedral", "cat")
        (2, 5)
    """
    words = re.escape(subject)
    for pattern in (rf"(?<!\w){words}(?!\w)", words):
        mentions = list(re.finditer(pattern, prompt, re.IGNORECASE))
        if mentions:
            return mentions[-1].span()
    return (0, 0)


def positions_in(prompt: str, offsets: Sequence[tuple[int, int]], subject: str) -> tuple[int, ...]:
    """Return the positions of the tokens that overlap the last mention of a subject."""
    start, stop = last_mention(prompt, subject)
    return tuple(
        position
        for position, (first, last) in enumerate(offsets)
        if max(start, first) < min(stop, last)
    )


def shortened(text: str, width: int = 60) -> str:
    """Return a text, or its beginning and three dots if it is longer than `width` letters."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


@lru_cache(maxsize=4)
def _read_merges(vocabulary: Path, merges: Path, unknown: str, stamps: object) -> models.BPE:
    # reading takes 0.1 s, and one command needs it several times; tokenizers can share the result.
    # `stamps` changes when a file changes
    return models.BPE.from_file(
        str(vocabulary), str(merges), unk_token=unknown, end_of_word_suffix="</w>"
    )


def _unigram(model: PieceModel) -> Tokenizer:
    backend = Tokenizer(models.Unigram(list(model.pieces), model.unknown, byte_fallback=False))
    if model.characters:
        backend.normalizer = normalizers.Precompiled(model.characters)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
        ]
    )
    return backend


def _add_tokens(backend: Tokenizer, settings: Mapping[str, Any], tokens: Mapping[str, str]) -> None:
    """Add special tokens and tokens learned later, and check their numbers."""
    numbered = settings.get("added_tokens_decoder") or {}
    for number, token in sorted(numbered.items(), key=lambda item: int(item[0])):
        # the library prints a warning for unknown keys
        known = AddedToken(token["content"], **{k: token[k] for k in _TOKEN_KEYS if k in token})
        (backend.add_special_tokens if token.get("special") else backend.add_tokens)([known])
        if backend.token_to_id(known.content) != int(number):
            raise ValueError(f"token `{known.content}` does not have number {number}")
    special = [AddedToken(word, normalized=False, special=True) for word in tokens.values()]
    backend.add_special_tokens(special)


def _prompt_tokenizer(
    backend: Tokenizer,
    settings: Mapping[str, Any],
    tokens: Mapping[str, str],
    n_positions: int,
    *,
    start: int,
    is_lowered: bool = False,
) -> PromptTokenizer:
    limit = settings.get("model_max_length")
    limit = int(min(limit, n_positions)) if isinstance(limit, int | float) else n_positions
    pad, eos = (backend.token_to_id(tokens[role]) for role in ("pad_token", "eos_token"))
    with _as_checkpoint_error("the tokenizer cannot read an empty prompt"):
        ids = backend.encode("").ids
    if pad is None or eos is None or eos not in ids or limit < _MIN_TOKENS:
        needed = dict.fromkeys((tokens["eos_token"], tokens["pad_token"]))
        raise CheckpointError(
            f"the tokenizer needs {' and '.join(f'`{token}`' for token in needed)} and room for "
            f"{_MIN_TOKENS} tokens; its limit is {limit}"
        )
    return PromptTokenizer(backend, pad, eos, limit, start, is_lowered)


def _content(token: Any, default: str) -> str:
    """Return the text of a token, which files store as a string or as an object."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else default


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("the file is too large")
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read `{path}`: {error}") from error
    return content if isinstance(content, dict) else {}


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"it contains {word}, which is not valid JSON")


@contextmanager
def _as_checkpoint_error(message: str) -> Iterator[None]:
    """Turn every error of the Rust library into a CheckpointError."""
    try:
        yield
    except (CheckpointError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # panics of the Rust library derive from this class only
        raise CheckpointError(message) from error
