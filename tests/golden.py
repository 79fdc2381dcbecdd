"""
Golden messages: the sentences that users read, in one `messages.yaml` per folder of tests.

A test passes a text to the `golden` fixture, which compares it with the entry of that test. The
assertions beside it name the class of the error, the exit code and the name that the user typed.
`python -m pytest -n 0 --accept-messages [TESTS]` accepts what the tests say now, and drops the
entries of tests that are gone.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from loco_cli.errors import LocoError

ROOT = Path(__file__).parents[1]
FILE_NAME = "messages.yaml"


class GoldenMessages:
    """
    The messages of one test, compared with the golden file of its folder.

    Args:
        path: The golden file.
        test: The entry: file, function and parameters of the test.
        folders: Folders of this run, each with the placeholder that replaces it in a message.
        is_accepting: Collect the messages to write them, and compare nothing.
    """

    def __init__(self, path: Path, test: str, folders: dict[str, str], is_accepting: bool) -> None:
        self.path = path
        self.test = test
        self.folders = folders
        self.is_accepting = is_accepting
        self.texts: list[str] = []

    def __call__(self, text: object) -> None:
        """Compare the next message of this test with the golden file."""
        for folder, placeholder in self.folders.items():
            text = str(text).replace(folder, placeholder)
        if os.sep != "/":  # golden files hold POSIX paths
            text = str(text).replace(os.sep, "/")
        lines = [line.rstrip() for line in str(text).strip().splitlines()]
        self.texts.append("\n".join(lines))
        if not self.is_accepting:
            expected = read_messages(self.path).get(self.test, [])[: len(self.texts)]
            assert self.texts == expected, f"{self.path}: `--accept-messages` accepts the change"

    @contextmanager
    def raises(self, error_class: type[LocoError], *names: str) -> Iterator[None]:
        """Expect an error of this very class whose message names each of `names`."""
        with pytest.raises(error_class) as caught:
            yield
        assert type(caught.value) is error_class
        message = "\n".join(filter(None, [caught.value.message, caught.value.hint]))
        for name in names:
            assert name in message
        self(message)

    def close(self) -> None:
        """Check that the test produced every message of its entry."""
        if not self.is_accepting:
            assert self.texts == read_messages(self.path).get(self.test, [])


_CACHE: dict[Path, dict[str, list[str]]] = {}


def read_messages(path: Path) -> dict[str, list[str]]:
    """Return a golden file: the messages of each test."""
    if path not in _CACHE:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        _CACHE[path] = yaml.load(path.read_text("utf-8"), loader) if path.exists() else {}
    return _CACHE[path]


def write_messages(path: Path, new: dict[str, list[str]]) -> None:
    """Update the entries of the tests that ran, and drop those whose test is gone."""
    messages = {test: texts for test, texts in read_messages(path).items() if exists(path, test)}
    messages.update(new)
    dumper = type("Dumper", (yaml.SafeDumper,), {})
    dumper.add_representer(str, _represent_text)
    text = yaml.dump(dict(sorted(messages.items())), Dumper=dumper, allow_unicode=True, width=100)
    path.write_text(text, "utf-8")
    _CACHE[path] = messages


def exists(path: Path, test: str) -> bool:
    """Return True if the test function of an entry exists beside the golden file."""
    file, function = test.split("::")[:2]
    source = path.parent / file
    name = re.escape(function.split("[")[0])
    return source.exists() and bool(re.search(rf"^def {name}\(", source.read_text("utf-8"), re.M))


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)
