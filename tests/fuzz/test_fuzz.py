"""Every reader of others' files, under what no honest program writes: a short version."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.guided import Findings, Watch, try_one
from tests.fuzz.mutate import HOSTILE, mutate
from tests.fuzz.targets import Target, targets

NAMES = (
    *("header", "file", "checkpoint", "lora", "index", "recipe", "override"),
    *("manifest", "verify", "undo file", "undo", "kept run", "localization"),
    *("tokens", "pieces", "tokenizer", "config"),
)
# how often, of those that take more than a few milliseconds each
EXAMPLES = {"config": 3, "verify": 10, "undo": 10, "checkpoint": 10, "recipe": 10}
NO_HURRY = settings(deadline=None, suppress_health_check=list(HealthCheck))  # machines are busy
values = st.recursive(
    st.sampled_from([one for one in HOSTILE if not isinstance(one, list | dict)])
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def watch():
    return Watch(with_lines=False)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return targets(tmp_path_factory.mktemp("fuzz"))


def holds(target: Target, content: bytes, watch: Watch) -> None:
    found = Findings(target.name)
    try_one(target, content, found, watch)
    target.put(target.seeds[0])  # others read what lies beside it
    assert found.wrong == {}


def test_every_reader_takes_honest_input(known, watch):
    """
    What the changes begin from is no error, so that they are found behind the first check.
    """
    assert set(known) == set(NAMES)
    for target in known.values():
        target.put(target.seeds[0])
        target.read(target.seeds[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_file_is_read_or_refused(name, known, watch):
    """
    Bytes, keys and values are exchanged: one sentence, within a second, and nothing is written.
    """
    target = known[name]

    @settings(
        deadline=None,
        max_examples=EXAMPLES.get(name, 40),
        suppress_health_check=list(HealthCheck),
    )
    @given(luck=st.randoms(use_true_random=False), seed=st.sampled_from(target.seeds))
    def change(luck, seed):
        holds(target, mutate(luck, seed, target.seeds), watch)

    change()


@pytest.mark.parametrize("name", NAMES)
def test_any_document_is_read_or_refused(name, known, watch):
    """
    Any bytes, and any values in the form of JSON.
    """
    target = known[name]
    documents = values.map(lambda tree: json.dumps(tree).encode("utf-8", "surrogatepass"))

    @settings(
        deadline=None,
        max_examples=EXAMPLES.get(name, 20),
        suppress_health_check=list(HealthCheck),
    )
    @given(content=st.binary(max_size=200) | documents)
    def read(content):
        holds(target, content, watch)

    read()
