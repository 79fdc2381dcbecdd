"""A short version of the fuzzer: every reader of foreign files under hostile inputs."""

import json
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.robustness.fuzz.guided import Findings, Watch, fuzz, try_one
from tests.robustness.fuzz.mutate import HOSTILE
from tests.robustness.fuzz.targets import targets

NAMES = {
    *("header", "file", "checkpoint", "lora", "index", "recipe", "override"),
    *("manifest", "verify", "undo file", "undo", "cached run", "localization"),
    *("tokens", "pieces", "tokenizer", "config"),
}
N_INPUTS = 40  # for each reader
N_INPUTS_OF_SLOW_READERS = {"config": 4, "verify": 12, "undo": 12, "checkpoint": 12, "recipe": 24}
DOCUMENTS = st.recursive(
    st.sampled_from([value for value in HOSTILE if not isinstance(value, list | dict)])
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
).map(lambda tree: json.dumps(tree).encode("utf-8", "surrogatepass"))


@pytest.fixture(scope="module")
def watch():
    return Watch(with_lines=False)


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    return targets(tmp_path_factory.mktemp("fuzz"))


def test_every_reader_takes_honest_input(readers):
    """
    The seeds are valid, so that their changes get past the first check.
    """
    assert set(readers) == NAMES
    for target in readers.values():
        target.put(target.seeds[0])
        target.read(target.seeds[0])


def test_a_changed_file_is_read_or_refused(readers, watch):
    """
    A reader answers a changed file within a second, with its own errors only, and writes nothing.
    """
    failures = {}
    for name, target in readers.items():
        n_inputs = N_INPUTS_OF_SLOW_READERS.get(name, N_INPUTS)
        found = fuzz(target, len(target.seeds) + n_inputs, Random(0), watch)
        failures |= {(name, failure): content for failure, content in found.failures.items()}

    assert failures == {}


# busy machines are slow, and the fixtures only hold files that each input replaces
@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=200) | DOCUMENTS)
def test_any_document_is_read_or_refused(readers, watch, content):
    """
    The same holds for arbitrary bytes and arbitrary JSON.
    """
    failures = {}
    for name, target in readers.items():
        found = Findings(name)
        try_one(target, content, found, watch)
        target.put(target.seeds[0])  # other targets read this file too
        failures |= {(name, failure): content for failure in found.failures}

    assert failures == {}
