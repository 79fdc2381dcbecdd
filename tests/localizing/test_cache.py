"""The cache of runs: hits, misses, damage, limits and concurrent writers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loco_cli.localizing import cache
from loco_cli.localizing.cache import CachedRun, RunCache
from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions, find_scorer
from loco_cli.recipe.load import recipe_from_text
from tests.listeners import RecordingListener
from tests.searches import find_layers

CPU = RunOptions(device="cpu")
PNG = b"\x89PNG\r\n\x1a\nand so on"


class Stopped(Exception):
    """An interrupt of the search."""


def recipe_of(**localize):
    recipe = recipe_from_text("monet style", sources=("a picture by {subject}",), to="painting")
    settings = {"search": "exhaustive", "width": 15, "seeds": 2, "steps": 1, **localize}
    return recipe.model_copy(update={"localize": recipe.localize.model_copy(update=settings)})


def run(tiny, listener=None, machine=CPU, **localize):
    events = (listener or RecordingListener()).events
    (swept,) = find_layers(tiny, recipe_of(**localize), machine, events)
    return swept


def without_time(swept):
    return swept.localization.model_copy(update={"seconds": 0.0})


@pytest.fixture
def store(tiny):
    return RunCache.of(tiny, find_scorer("tiny"), "cpu float32")


@pytest.mark.parametrize("search", ["exhaustive", "fast"])
def test_a_repeated_search_draws_nothing(tiny, search):
    """A repeated localization has the same document and pictures, from the cache alone."""
    listener = RecordingListener()
    first = run(tiny, search=search)

    again = run(tiny, listener, search=search)

    assert without_time(again) == without_time(first)
    assert again.pictures == first.pictures
    assert {one.stage for one in listener.progressed} == {"loading tiny"}


def test_an_interrupted_search_resumes(tiny):
    """Finished runs are reused, and the result is that of an uninterrupted search."""

    def stop(progress):
        if "localizing" in progress.stage and progress.done >= 4:
            raise Stopped

    listener = RecordingListener()
    small = RunOptions(device="cpu", batch_size=2)
    with pytest.raises(Stopped):
        run(tiny, RecordingListener(on_progress=stop), small)
    n_stored = cache.measure().n_runs

    resumed = run(tiny, listener, small)
    alone = run(tiny, machine=RunOptions(device="cpu", batch_size=2, is_cached=False))

    assert n_stored == 2
    assert max(one.total for one in listener.progressed) == 8 - n_stored
    assert resumed.localization.unet_evaluations == alone.localization.unet_evaluations
    for one, other in zip(resumed.localization.scores, alone.localization.scores, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)


def test_no_cache_neither_reads_nor_writes(tiny):
    """With `--no-cache` every run is drawn and none is stored."""
    listener = RecordingListener()

    run(tiny, listener, RunOptions(device="cpu", is_cached=False))

    assert cache.measure().n_runs == 0
    assert max(one.total for one in listener.progressed) == 8


def test_a_key_holds_everything_that_a_run_depends_on(store):
    """Another caption, seed or step is a miss, and so is a run without a needed picture."""
    store.store_run(CachedRun(0.25, PNG), 0, "", ["a cat"], "a cat", 20, 3.0)
    store.store_run(CachedRun(0.5), 1, "", ["a cat"], "a cat", 20, 3.0)

    def find(*of, needs_picture=False):
        return store.find_run(*of, needs_picture=needs_picture)

    assert find(0, "", ["a cat"], "a cat", 20, 3.0, needs_picture=True) == CachedRun(0.25, PNG)
    assert find(1, "", ["a cat"], "a cat", 20, 3.0) == CachedRun(0.5)
    assert find(1, "", ["a cat"], "a cat", 20, 3.0, needs_picture=True) is None
    assert find(1, "", ["a cat"], "a dog", 20, 3.0) is None
    assert find(1, "", ["a cat"], "a cat", 21, 3.0) is None


def test_other_weights_are_another_model(tiny, tmp_path, store):
    """Another tensor, scorer or precision changes the digest; a copy of small files does not."""
    copy = tmp_path / "copy"
    shutil.copytree(tiny.path, copy)
    scorer = find_scorer("tiny")
    same = cache._fingerprint([("config.json", copy / "model_index.json")])
    assert same == cache._fingerprint([("config.json", tiny.path / "model_index.json")])

    unet = next(copy.glob("unet/*.safetensors"))
    before = RunCache.of(locate(str(copy)), scorer, "cpu float32")
    with unet.open("r+b") as file:
        file.seek(-2, 2)
        file.write(b"\x00\x01")
    after = RunCache.of(locate(str(copy)), scorer, "cpu float32")

    assert before.common_digest != after.common_digest
    before.store_run(CachedRun(0.5), "a")
    assert after.find_run("a", needs_picture=False) is None
    assert store.common_digest != RunCache.of(tiny, scorer, "cpu float16").common_digest
    assert (
        store.common_digest
        != RunCache.of(tiny, scorer.parent / "judge", "cpu float32").common_digest
    )


def test_a_damaged_entry_is_a_miss(store):
    """A truncated, empty or malformed file is a miss."""
    store.store_run(CachedRun(0.5), "a")
    (path,) = cache._runs_folder().glob("*/*.json")

    damages = ("", '{"score": 0.', "[]", '{"score": "high"}', '{"score": NaN}', "[" * 100_000)
    for damage in damages:
        path.write_text(damage)
        assert store.find_run("a", needs_picture=False) is None
    for picture in ('"no base64"', '"bm8gcGljdHVyZQ=="', "1", "[]"):
        path.write_text(f'{{"score": 0.5, "png": {picture}}}')
        assert store.find_run("a", needs_picture=True) is None


def test_a_ranking_of_another_length_is_a_miss(store):
    """A stored ranking needs one finite number per layer."""
    store.store([0.5, 1.0], "ranking")
    assert store.find_numbers("ranking", n=2) == [0.5, 1.0]
    assert store.find_numbers("ranking", n=3) is None

    for damaged in ([0.5, "high"], [0.5, None], [0.5, float("inf")], {"0": 0.5, "1": 1.0}):
        store.store(damaged, "ranking")
        assert store.find_numbers("ranking", n=2) is None


def test_the_least_recently_used_runs_go_first(store):
    """Above the limit the oldest runs are removed, and recently used ones stay."""
    for i in range(4):
        store.store_run(CachedRun(float(i)), i)
        os.utime(store._path(("run", i)), (i, i))
    store.find_run(0, needs_picture=False)

    size = cache.measure()
    cache.trim(size.n_bytes // 2)

    is_missing = [store.find_run(i, needs_picture=False) is None for i in range(4)]
    assert is_missing == [False, True, True, False]


def test_clearing_returns_the_former_size(store):
    """Clearing empties the cache and returns its former size."""
    store.store_run(CachedRun(0.5), "a")

    assert cache.clear().n_runs == 1
    assert cache.measure().n_runs == 0
    assert cache.clear().n_bytes == 0


WRITER = """
import sys
from pathlib import Path
from loco_cli.localizing.cache import CachedRun, RunCache

store = RunCache(Path(sys.argv[1]), sys.argv[2])
for i in range(200):
    store.store_run(CachedRun(i / 7, b"x" * 5000), i % 10)
"""


def test_concurrent_writers_leave_whole_files(store):
    """Two processes that write the same runs leave each file whole at every moment."""
    command = [sys.executable, "-c", WRITER, str(store.folder), store.common_digest]
    both = [subprocess.Popen(command, cwd=Path(__file__).parents[2]) for _ in range(2)]
    while any(process.poll() is None for process in both):
        for i in range(10):
            found = store.find("run", i)
            assert found is None or len(found["png"]) > 5000

    assert [process.returncode for process in both] == [0, 0]
    assert cache.measure().n_runs == 10
    assert not list(store.folder.glob("*/*.partial"))
