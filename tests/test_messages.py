"""No error without a test: what each says is looked up in what the tests expect."""

import ast
import re
from pathlib import Path

from loco_cli import errors
from tests.golden import FILE_NAME, exists, read_messages

ROOT = Path(__file__).parents[1]
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
N_LETTERS = 12  # of a message that a test must name at least, where it does not name a whole part

# what no test of this machine can bring about, and why
UNTESTED = {
    "the device does not have enough memory for": "takes an accelerator that is full",
    "is too full": "takes a full disk",
    "cannot read": "takes a disk that fails",
    "it is not a JSON object": "a header that begins with a brace is one, or is no JSON",
    "and none is known for its family": "every family has one",
    "but no configuration gives its number of heads": "takes a CLIP of odd width",
    "another program is renaming files in": "takes a program that hangs for half a minute",
    "the new header would have": "takes a header of 100 MB",
    "the pickle in `": "takes a pickle of 100 MB; that one is damaged is tested",
}


def parts_of(node):
    """Return the literal parts of a text that is put together."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return [part for value in node.values for part in parts_of(value)]
    if isinstance(node, ast.IfExp):
        return [*parts_of(node.body), *parts_of(node.orelse)]
    return []


def messages():
    """Yield where an error is made, and the literal parts of what it says."""
    for path in sorted((ROOT / "loco_cli").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                parts = [part for part in parts_of(node.args[0]) if len(part.strip()) > 3]
                if node.func.id in KINDS and parts:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", parts


def expected():
    """Return every text of the tests and of their golden files, without escapes of expressions."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        if path != Path(__file__):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                found |= {re.sub(r"\\(.)", r"\1", part) for part in parts_of(node)}
    for path in (ROOT / "tests").rglob(FILE_NAME):
        found.update(text for texts in read_messages(path).values() for text in texts)
    return found


def is_expected(parts, texts):
    """Whether a text holds the longest part whole, or a part of it that could not be chance."""
    longest = max((part.strip(" `,:;") for part in parts), key=len)
    named = [text for text in texts if len(text) >= N_LETTERS and " " in text.strip()]
    return any(longest in text for text in texts) or any(
        text in part for text in named for part in parts
    )


def test_every_message_is_expected_by_a_test():
    """
    What an error says stands in a test, or here with the reason why it cannot.
    """
    texts = expected()

    silent = [
        (where, parts)
        for where, parts in messages()
        if not is_expected(parts, texts)
        and not any(key in part for key in UNTESTED for part in parts)
    ]

    assert silent == []


def test_nothing_is_excused_that_is_not_said():
    """
    A reason goes when its message goes.
    """
    said = [part for _, parts in messages() for part in parts]

    assert [key for key in UNTESTED if not any(key in part for part in said)] == []


def test_golden_messages_have_tests():
    """
    Every entry of a golden file belongs to a test that exists.
    """
    stale = [
        f"{path.relative_to(ROOT)}: {test}"
        for path in (ROOT / "tests").rglob(FILE_NAME)
        for test in read_messages(path)
        if not exists(path, test)
    ]

    assert stale == []
