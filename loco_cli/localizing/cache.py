"""
The cache of finished runs, which lets an interrupted search resume.

It is in the platform's cache folder, with one file per run. Files are written under a temporary
name and renamed, so concurrent or killed processes never leave a partial file. The file
name is the digest of everything that a run depends on: the files of the model and the scorer, the
prompts, layers, seed, steps, guidance, precision and device, and the version of loco.

A digest of the whole model would take longer than many searches. A large file is therefore
represented by its name, size, modification time, and samples from 16 positions. Changed weights go
unnoticed only if size and time are the same and no sample has changed.
"""

import base64
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from loco_cli import __version__
from loco_cli.checkpoint.staging import replace_file
from loco_cli.models.locate import LocatedModel

_LIMIT_BYTES = 512 * 2**20  # size of the cache; the least recently used runs are removed first
_FILE_LIMIT_BYTES = 64 * 2**20  # larger files are not ours, since a picture is much smaller
_PNG = b"\x89PNG\r\n\x1a\n"
_N_SAMPLES, _SAMPLE_BYTES = 16, 64 * 2**10


def _runs_folder() -> Path:
    """Return the folder of the cache."""
    return platformdirs.user_cache_path("loco", appauthor=False) / "runs"


@dataclass(frozen=True)
class CachedRun:
    """A finished run: its score, and its picture if the report shows it."""

    score: float
    png: bytes | None = None


@dataclass(frozen=True)
class RunCache:
    """The cache for one model and scorer: `RunCache.of(model, scorer_folder, "cpu float32")`."""

    folder: Path
    common_digest: str  # digest of everything that all of these runs depend on

    @classmethod
    def of(cls, located: LocatedModel, scorer: Path, device: str) -> "RunCache":
        """
        Return the cache for a model, a scorer and a device.

        Args:
            located: The model; its files are sampled.
            scorer: The folder of the scorer's files.
            device: The type of the device and the precision.
        """
        parts = [
            (entry.path, entry.source)
            for entry in located.checkpoint.entries
            if not located.checkpoint.is_folder or _belongs_to_model(entry.path)
        ]
        scorer_files = [(path.name, path) for path in sorted(scorer.iterdir()) if path.is_file()]
        digests = [_fingerprint(parts), _fingerprint(scorer_files)]
        return cls(_runs_folder(), _digest([__version__, device, *digests]))

    def find(self, *key: Any) -> Any:
        """Return the value of a key, or None if it is missing or damaged."""
        path = self._path(key)
        try:
            is_small = path.stat().st_size <= _FILE_LIMIT_BYTES
            found = json.loads(path.read_text("utf-8")) if is_small else None
        except (OSError, ValueError, RecursionError):
            return None
        with suppress(OSError):
            os.utime(path)  # marks the run as recently used
        return found

    def store(self, value: Any, *key: Any) -> None:
        """Store a value under a key; a folder without write access is not an error."""
        path = self._path(key)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, json.dumps(value).encode(), is_private=True)

    def find_run(self, *key: Any, needs_picture: bool) -> CachedRun | None:
        """Return a stored run, or None if it or a needed picture is missing."""
        found = self.find("run", *key)
        if not isinstance(found, dict) or not _is_number(found.get("score")):
            return None
        png = _picture(found.get("png"))
        return None if needs_picture and png is None else CachedRun(found["score"], png)

    def find_numbers(self, *key: Any, n: int) -> list[float] | None:
        """Return a stored list of `n` numbers, or None if it is missing."""
        found = self.find(*key)
        is_valid = isinstance(found, list) and len(found) == n and all(map(_is_number, found))
        return found if is_valid else None

    def store_run(self, run: CachedRun, *key: Any) -> None:
        """Store a run under a key."""
        picture = {} if run.png is None else {"png": base64.b64encode(run.png).decode()}
        self.store({"score": run.score, **picture}, "run", *key)

    def _path(self, key: tuple[Any, ...]) -> Path:
        name = _digest([self.common_digest, *key])
        return self.folder / name[:2] / f"{name}.json"


@dataclass(frozen=True)
class _CacheSize:
    """The size of the cache: `_CacheSize(folder, n_runs=288, n_bytes=1_200_000)`."""

    folder: Path
    n_runs: int
    n_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return `loco.cache/1`."""
        sizes = {"runs": self.n_runs, "bytes": self.n_bytes, "limit_bytes": _LIMIT_BYTES}
        return {"schema": "loco.cache/1", "folder": self.folder.name, **sizes}

    def summary(self) -> str:
        """Return the size as a sentence."""
        size = f"{self.n_bytes / 1e6:.1f} MB of at most {_LIMIT_BYTES / 1e6:.0f} MB"
        return f"{self.n_runs} runs, {size} in {self.folder}"


def measure() -> _CacheSize:
    """Return the size of the cache."""
    sizes = [n_bytes for _, n_bytes, _ in _files()]
    return _CacheSize(_runs_folder(), len(sizes), sum(sizes))


def clear() -> _CacheSize:
    """Empty the cache, and return its former size."""
    size = measure()
    if size.folder.exists():
        shutil.rmtree(size.folder)
    return size


def trim(limit: int = _LIMIT_BYTES) -> None:
    """Remove the least recently used runs until at most `limit` bytes remain."""
    files = sorted(_files())
    n_bytes = sum(size for _, size, _ in files)
    for _, size, path in files:
        if n_bytes <= limit:
            return
        with suppress(OSError):
            path.unlink()
        n_bytes -= size


def _fingerprint(files: Iterable[tuple[str, Path]]) -> str:
    """Return a digest of named files; large files count by size, time and samples."""
    return _digest([[name, *_content_digest(path)] for name, path in sorted(files)])


def _content_digest(path: Path) -> tuple[int, int, str]:
    found, samples = path.stat(), hashlib.sha256()
    with path.open("rb") as file:
        if found.st_size <= _N_SAMPLES * _SAMPLE_BYTES:
            return found.st_size, 0, hashlib.sha256(file.read()).hexdigest()
        for i in range(_N_SAMPLES):
            file.seek(i * (found.st_size - _SAMPLE_BYTES) // (_N_SAMPLES - 1))
            samples.update(file.read(_SAMPLE_BYTES))
    return found.st_size, found.st_mtime_ns, samples.hexdigest()


def _files() -> list[tuple[float, int, Path]]:
    """Return time, size and path of every run; files that vanish meanwhile are skipped."""
    found = []
    for path in _runs_folder().glob("*/*.json"):
        with suppress(OSError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _picture(text: object) -> bytes | None:
    try:
        png = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return None
    return png if png.startswith(_PNG) else None


def _belongs_to_model(path: str) -> bool:
    return "/" in path or path == "model_index.json"


def _digest(key: Any) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()
