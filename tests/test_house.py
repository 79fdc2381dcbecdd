"""House rules: linters, import contracts, size budgets, docstrings, public and dead names."""

import ast
import re
import subprocess
import sys
import tokenize
from collections import Counter
from pathlib import Path

import pytest

from loco_cli import errors
from loco_cli.cli.app import app

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "loco_cli").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
N_LINES_OF_A_FILE = 400
N_LINES_OF_A_FUNCTION = 40
JUNK = {"utils", "util", "helpers", "common", "misc"}


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def lines_of(path):
    return path.read_text(encoding="utf-8").splitlines()


def functions_of(path):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, kinds)]


@pytest.mark.parametrize(
    "command",
    [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"], ["importlinter.cli"]],
    ids=" ".join,
)
def test_linters_pass(command):
    """
    Ruff, mypy and the import contracts of `pyproject.toml` find nothing.
    """
    module, *arguments = command
    if module == "importlinter.cli":
        line = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    else:
        line = [sys.executable, "-m", module, *arguments]

    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def places(paths, find):
    """Return the findings of `find` in each file, prefixed with the file name."""
    return [f"{path.relative_to(ROOT)}: {one}" for path in paths for one in find(path)]


def test_no_rule_is_ignored_without_a_reason():
    """
    Each `noqa` and `type: ignore` names its rule and gives a reason.
    """
    marks = re.compile(r"# (?:noqa|type: ignore)(?!(?:: |\[)[\w-]+\]? \S)")

    assert places([*MODULES, *TESTS], lambda p: filter(marks.search, lines_of(p))) == []


def test_files_and_functions_are_short():
    """
    No file is longer than 400 lines, no function than 40 without its docstring and signature.
    """

    def long_functions(path):
        for function in functions_of(path):
            if function.end_lineno - _first_line_of_code(function) >= N_LINES_OF_A_FUNCTION:
                yield function.name

    assert [path for path in MODULES if len(lines_of(path)) > N_LINES_OF_A_FILE] == []
    assert [path for path in MODULES if path.stem in JUNK] == []
    assert places(MODULES, long_functions) == []


def test_public_names_have_docstrings():
    """
    Every module, and every public class and function at its top level, has a docstring.
    """

    def undocumented(path):
        tree = tree_of(path)
        if tree.body and not ast.get_docstring(tree):
            yield "the module"
        for node in tree.body:
            is_named = isinstance(node, ast.FunctionDef | ast.ClassDef)
            if is_named and not node.name.startswith("_") and not ast.get_docstring(node):
                yield node.name

    assert places(MODULES, undocumented) == []


def test_docstrings_open_with_a_subject_or_a_verb():
    """
    No docstring opens with a relative clause such as "What ..." or "Return what ...".
    """
    opening = re.compile(r"(?:Return )?(?:what|where|which|whether|how|who)\b", re.IGNORECASE)
    kinds = ast.Module | ast.FunctionDef | ast.ClassDef

    def relative_clauses(path):
        nodes = [node for node in ast.walk(tree_of(path)) if isinstance(node, kinds)]
        docstrings = filter(None, map(ast.get_docstring, nodes))
        return [text.splitlines()[0] for text in docstrings if opening.match(text)]

    assert places([*MODULES, *TESTS], relative_clauses) == []


def test_comments_are_clauses():
    """
    No comment continues its line of code as a genitive: "N = 3  # of a layer".
    """

    def genitives(path):
        with path.open("rb") as file:
            tokens = list(tokenize.tokenize(file.readline))
        comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
        return [comment for comment in comments if re.match(r"#\s*of\b", comment)]

    assert places([*MODULES, *TESTS], genitives) == []


def test_only_the_entry_point_reads_the_environment():
    """
    No module reads `os.environ`: options read it through `envvar`.

    The entry point itself sets how torch's threads wait, which torch reads once, on import.
    """

    def reads(path):
        names = {node.attr for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)}
        return names & {"environ", "getenv"}

    modules = [path for path in MODULES if path != ROOT / "loco_cli" / "cli" / "app.py"]
    assert places(modules, reads) == []


def test_tests_state_their_law():
    """
    Every test has a docstring, and none uses a mock.
    """

    def undocumented(path):
        tests = [one for one in functions_of(path) if one.name.startswith("test_")]
        return [one.name for one in tests if not ast.get_docstring(one)]

    def mocks(path):
        nodes = ast.walk(tree_of(path))
        modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        return modules & {"unittest.mock"}

    assert places(TESTS, undocumented) == []
    assert places(TESTS, mocks) == []


def test_the_error_tree_is_drawn():
    """
    The docstring of `errors.py` draws every error class.
    """
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type)]

    assert all(kind.__name__ in errors.__doc__ for kind in classes)


def test_every_command_ends_with_an_example():
    """
    The help of each command ends with an example.
    """
    from typer.main import get_command

    commands = dict(get_command(app).commands)
    for name, group in tuple(commands.items()):
        for inner, command in getattr(group, "commands", {}).items():
            commands[f"{name} {inner}"] = command
        if hasattr(group, "commands"):
            del commands[name]

    for name, command in commands.items():
        assert command.help.rstrip().splitlines()[-1].startswith(f"Example: loco {name}"), name


def _first_line_of_code(function):
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[0].lineno if body else function.end_lineno


def test_no_room_is_large():
    """
    No folder of the package holds more than 15 % of its lines.
    """
    rooms = Counter()
    for path in MODULES:
        rooms[path.relative_to(ROOT / "loco_cli").parts[0]] += len(lines_of(path))

    room, n_lines = rooms.most_common(1)[0]
    assert n_lines <= 0.15 * rooms.total(), f"{room}: {n_lines} of {rooms.total()} lines"


def test_few_names_are_public():
    """
    The package has at most 25 public classes and functions per 1,000 lines.
    """
    kinds = ast.FunctionDef | ast.ClassDef
    public = [
        node.name
        for path in MODULES
        for node in tree_of(path).body
        if isinstance(node, kinds) and not node.name.startswith("_")
    ]

    assert len(public) <= 25 * sum(len(lines_of(path)) for path in MODULES) / 1000


def test_no_name_is_dead():
    """
    The package uses every class, function, method and constant that it defines.
    """
    names = Counter()
    for path in MODULES:
        with path.open("rb") as file:
            tokens = list(tokenize.tokenize(file.readline))
        names.update(token.string for token in tokens if token.type == tokenize.NAME)
        # quoted annotations, f-strings and templates use names too
        texts = (token.string for token in tokens if token.type == tokenize.STRING)
        names.update(word for text in texts for word in re.findall(r"\w+", text))
        # an example in a docstring is not a use
        kinds = ast.Module | ast.FunctionDef | ast.ClassDef
        nodes = [node for node in ast.walk(tree_of(path)) if isinstance(node, kinds)]
        for docstring in filter(None, map(ast.get_docstring, nodes)):
            names.subtract(re.findall(r"\w+", docstring))
    for template in (ROOT / "loco_cli").rglob("*.html"):
        names.update(re.findall(r"\w+", template.read_text(encoding="utf-8")))

    dead = {
        f"{path.relative_to(ROOT)}:{node.lineno} {name}"
        for path in MODULES
        for node, name in defined_in(tree_of(path))
        if names[name] <= 1
    }
    assert dead == set()


def defined_in(tree):
    """Yield the definitions of a module, except those that a library calls by registration."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            decorators = " ".join(map(ast.unparse, node.decorator_list))
            is_registered = bool(re.search("command|callback|validator|serializer", decorators))
            if not is_registered and not node.name.startswith("__"):
                yield node, node.name
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and not target.id.startswith("__"):
                    yield target, target.id
