"""Messages and tests: every error message is in a test or in a golden file."""

import ast
import re
from pathlib import Path

from loco_cli import errors
from tests.golden import FILE_NAME, exists, read_messages

ROOT = Path(__file__).parents[1]
ERROR_NAMES = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
MIN_QUOTED_LENGTH = 12  # characters; shorter quotes could match by chance

# parts of messages that no test can trigger here, each with the reason
UNTESTED = {
    "the device does not have enough memory for": "needs a full accelerator",
    "is too full": "needs a full disk",
    "cannot read": "needs a failing disk",
    "it is not a JSON object": "a header that starts with a brace is an object or invalid JSON",
    "and none is known for its family": "every family has one",
    "but no configuration gives its number of heads": "needs a CLIP of odd width",
    "another program is renaming files in": "needs a program that hangs for half a minute",
    "the new header would have": "needs a header of 100 MB",
    "the pickle in `": "needs a pickle of 100 MB; a test covers damaged pickles",
}


def literal_parts(node):
    """Return the literal parts of a text expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return [part for value in node.values for part in literal_parts(value)]
    if isinstance(node, ast.IfExp):
        return [*literal_parts(node.body), *literal_parts(node.orelse)]
    return []


def messages():
    """Yield the place and the literal parts of every error message."""
    for path in sorted((ROOT / "loco_cli").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                parts = [part for part in literal_parts(node.args[0]) if len(part.strip()) > 3]
                if node.func.id in ERROR_NAMES and parts:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", parts


def quoted_texts():
    """Return every text of the tests and golden files, with regular expressions unescaped."""
    texts = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        if path != Path(__file__):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                texts |= {re.sub(r"\\(.)", r"\1", part) for part in literal_parts(node)}
    for path in (ROOT / "tests").rglob(FILE_NAME):
        texts.update(text for entry in read_messages(path).values() for text in entry)
    return texts


def is_tested(parts, texts):
    """Return True if a text quotes the longest part, or if a part contains a long quote."""
    longest = max((part.strip(" `,:;") for part in parts), key=len)
    quotes = [text for text in texts if len(text) >= MIN_QUOTED_LENGTH and " " in text.strip()]
    return any(longest in text for text in texts) or any(
        text in part for text in quotes for part in parts
    )


def test_every_message_is_tested():
    """
    Every error message is in a test or a golden file, or has a reason in `UNTESTED`.
    """
    texts = quoted_texts()

    untested = [
        (place, parts)
        for place, parts in messages()
        if not is_tested(parts, texts)
        and not any(key in part for key in UNTESTED for part in parts)
    ]

    assert untested == []


def test_every_exception_has_a_message():
    """
    Each key of `UNTESTED` occurs in a message of the package.
    """
    parts = [part for _, literals in messages() for part in literals]

    assert [key for key in UNTESTED if not any(key in part for part in parts)] == []


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
