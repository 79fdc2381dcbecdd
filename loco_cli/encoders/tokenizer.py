"""
Prompts to tokens, by the Rust library that transformers wraps, without transformers itself.

A prompt's tokens are start, words and end, each with the characters that it stands for. Importing
transformers would cost more than everything else that an edit does before it writes.
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

# runs of letters, single digits, runs of anything else, English endings apart (OpenAI's CLIP)
_CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
_CLIP_TOKENS = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}
_LIMIT_BYTES = 256 << 20  # of a file; the largest of the known models has 2.4 MB
_TOKEN_KEYS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_NO_TOKENIZER = "folder `{}` holds no tokenizer that can be read"
_T5_TOKENS = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


@dataclass(frozen=True)
class Tokens:
    """
    A prompt's tokens, start and end with them: `ids`, and the characters of each as `offsets`.

    `text` is what was read, `end` the position of the first end token.
    """

    text: str
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    end: int

    def positions_of(self, subject: str) -> tuple[int, ...]:
        """Return the positions of a subject's tokens, its last mention; none if there is none."""
        return positions_in(self.text, self.offsets[: self.end], subject)


@dataclass(frozen=True)
class PromptTokenizer:
    """
    A tokenizer as an encoder was taught with: `tokenizer.tokenize("a cat").ids`.

    `limit` is how many tokens the encoder reads, `start` how many come before the first word.
    """

    backend: Tokenizer
    pad: int
    eos: int
    limit: int
    start: int
    is_lowered: bool = False  # the pipeline lowers prompts before it tokenizes them

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are."""
        return max(self.backend.get_vocab().values(), default=-1) + 1

    def tokenize_whole(self, prompt: str) -> Tokens:
        """Return every token of a prompt, also those that an encoder does not read."""
        text = prompt.lower().strip() if self.is_lowered else prompt
        with _reading(f"the tokenizer cannot read `{shortened(prompt)}`"):
            encoding = self.backend.encode(text)
            ids = tuple(encoding.ids)
            return Tokens(text, ids, tuple(encoding.offsets), ids.index(self.eos))

    def tokenize(self, prompt: str) -> Tokens:
        """Return the tokens that an encoder reads: of a long prompt the first ones, and the end."""
        whole = self.tokenize_whole(prompt)
        if len(whole.ids) <= self.limit:
            return whole
        ids = (*whole.ids[: self.limit - 1], self.eos)
        offsets = (*whole.offsets[: self.limit - 1], (0, 0))
        return Tokens(whole.text, ids, offsets, ids.index(self.eos))


def load_clip_tokenizer(
    settings: Mapping[str, Any], vocabulary: Path, merges: Path, n_positions: int
) -> PromptTokenizer:
    """Return a CLIP tokenizer of these files; raises CheckpointError."""
    tokens = {role: _content(settings.get(role), word) for role, word in _CLIP_TOKENS.items()}
    start, eos, unknown = (tokens[role] for role in ("bos_token", "eos_token", "unk_token"))
    with _reading(_NO_TOKENIZER.format(vocabulary.parent)):
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
    return _of(backend, settings, tokens, n_positions, start=1)


def _load_t5_tokenizer(
    settings: Mapping[str, Any], pieces: Path, n_positions: int
) -> PromptTokenizer:
    """Return a T5 tokenizer of a sentencepiece model; raises CheckpointError."""
    tokens = {role: _content(settings.get(role), word) for role, word in _T5_TOKENS.items()}
    with _reading(_NO_TOKENIZER.format(pieces.parent)):
        backend = _unigram(read_piece_model(pieces))
        _add_tokens(backend, settings, tokens)
        eos = tokens["eos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=["$A", eos], special_tokens=[(eos, backend.token_to_id(eos))]
        )
    return _of(backend, settings, tokens, n_positions, start=0, is_lowered=True)


def load_tokenizer(folder: Path, kind: str, n_positions: int) -> PromptTokenizer:
    """
    Return the tokenizer of a folder, `clip` or `t5`, whose encoder reads at most `n_positions`.

    Raises CheckpointError where it has none that can be read.
    """
    settings = read_settings(folder)
    whole = folder / "tokenizer.json"
    if kind == "clip" and (folder / "vocab.json").is_file():
        return load_clip_tokenizer(
            settings, folder / "vocab.json", folder / "merges.txt", n_positions
        )
    if kind == "t5" and (folder / "spiece.model").is_file() and not whole.is_file():
        return _load_t5_tokenizer(settings, folder / "spiece.model", n_positions)
    with _reading(_NO_TOKENIZER.format(folder)):
        backend = Tokenizer.from_file(str(whole))
    backend.no_padding()
    backend.no_truncation()
    default = _CLIP_TOKENS if kind == "clip" else _T5_TOKENS
    tokens = {role: _content(settings.get(role), word) for role, word in default.items()}
    is_clip = kind == "clip"
    return _of(backend, settings, tokens, n_positions, start=int(is_clip), is_lowered=not is_clip)


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a folder's tokenizer, none where it has no such file."""
    settings = _read_object(folder / "tokenizer_config.json")
    if "added_tokens_decoder" in settings:
        return settings
    # before that key came up, the special tokens had a file of their own, which overruled
    return settings | _read_object(folder / "special_tokens_map.json")


def check_prompt_pair(tokenizer: PromptTokenizer, pair: PromptPair) -> None:
    """
    Raise ConceptError where no token of a source prompt is the subject's, or tokens are cut off.

    The encoder's length may cut off what follows the subject of a source prompt; a target prompt is
    read to its end.
    """
    source, limit = tokenizer.tokenize_whole(pair.source), tokenizer.limit
    if not source.positions_of(pair.subject):
        raise ConceptError(
            f"the tokenizer reads nothing of `{shortened(pair.subject)}` in "
            f"`{shortened(pair.source)}`",
            "write the subject in words",
        )
    target = tokenizer.tokenize_whole(pair.target)
    for tokens, prompt, words in (
        (source, pair.source, pair.subject),
        (target, pair.target, pair.target),
    ):
        # the last place that is left belongs to the end token
        n_kept_letters = max((stop for _, stop in tokens.offsets[: limit - 1]), default=0)
        is_long = len(tokens.ids) > limit
        if is_long and n_kept_letters < last_mention(tokens.text, words)[1]:
            raise ConceptError(
                f"`{shortened(words)}` is cut off in `{shortened(prompt)}`: "
                f"{len(tokens.ids)} tokens, the text encoder reads {limit}",
                "use a shorter subject or a shorter prompt",
            )


def last_mention(prompt: str, subject: str) -> tuple[int, int]:
    """
    Return the characters of the last mention of a subject, whole words first, in any case.

    (0, 0) where it is not mentioned: "cat" is found in "a cat in a cathedral" at (2, 5).
    """
    words = re.escape(subject)
    for pattern in (rf"(?<!\w){words}(?!\w)", words):
        mentions = list(re.finditer(pattern, prompt, re.IGNORECASE))
        if mentions:
            return mentions[-1].span()
    return (0, 0)


def positions_in(prompt: str, offsets: Sequence[tuple[int, int]], subject: str) -> tuple[int, ...]:
    """Return which tokens, by the characters they stand for, are the subject's last mention."""
    start, stop = last_mention(prompt, subject)
    return tuple(
        position
        for position, (first, last) in enumerate(offsets)
        if max(start, first) < min(stop, last)
    )


def shortened(text: str, width: int = 60) -> str:
    """Return a text, or its beginning and three dots."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


@lru_cache(maxsize=4)
def _read_merges(vocabulary: Path, merges: Path, unknown: str, stamps: object) -> models.BPE:
    # a tenth of a second, which one command would spend several times; tokenizers may share it.
    # the stamps change when a file is written to
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
    """Add special tokens and those that were learned later, and hold their numbers."""
    numbered = settings.get("added_tokens_decoder") or {}
    for number, token in sorted(numbered.items(), key=lambda item: int(item[0])):
        # the library prints keys that it does not know, whatever they are
        known = AddedToken(token["content"], **{k: token[k] for k in _TOKEN_KEYS if k in token})
        (backend.add_special_tokens if token.get("special") else backend.add_tokens)([known])
        if backend.token_to_id(known.content) != int(number):
            raise ValueError(f"token `{known.content}` is not number {number}")
    special = [AddedToken(word, normalized=False, special=True) for word in tokens.values()]
    backend.add_special_tokens(special)


def _of(
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
    with _reading("the tokenizer cannot read an empty prompt"):
        ids = backend.encode("").ids
    if pad is None or eos is None or eos not in ids or limit < 3:
        raise CheckpointError(
            f"the tokenizer closes no prompt: it has no `{tokens['eos_token']}`, "
            f"no `{tokens['pad_token']}`, or reads {limit} tokens"
        )
    return PromptTokenizer(backend, pad, eos, limit, start, is_lowered)


def _content(token: Any, default: str) -> str:
    """Return the text of a token, which files spell as a word or as an object."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else default


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            raise ValueError("it is too long")
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"`{path}` cannot be read: {error}") from error
    return content if isinstance(content, dict) else {}


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"it holds {word}, which is no JSON")


@contextmanager
def _reading(failure: str) -> Iterator[None]:
    """Raise CheckpointError for whatever the library finds wrong with files, or with a prompt."""
    try:
        yield
    except (CheckpointError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the Rust library raises `Exception`, and panics above it
        raise CheckpointError(failure) from error
