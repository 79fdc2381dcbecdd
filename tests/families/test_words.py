"""The name of a family appears only in its own module."""

import ast
from pathlib import Path

import loco_cli
from loco_cli.families import registry

ROOT = Path(loco_cli.__file__).parent
# modules about one family: the second folder trains the shipped model
OF_ONE_FAMILY = ("families", "tiny/training")
# modules with words of recipes and traces, such as `component: unet`
FORMATS = {
    "cli/localize.py": {"unet"},
    "interventions.py": {"unet"},
    "recipe/record.py": {"unet"},
    "trace.py": {"unet"},
}


def words_of(path):
    """Return the strings of a module, including parts of f-strings but not docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    }


def test_no_other_file_knows_a_family():
    """Outside `families/`, no string is a family, a network's component or a path in it."""
    known = registry.catalog()
    names = set(known.families)
    networks = {one.component for one in known.networks}
    paths = tuple(f"{component}{end}" for component in networks for end in "/.")

    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        if not where.startswith(OF_ONE_FAMILY):
            words = {
                word
                for word in words_of(path)
                if word in names | networks or word.startswith(paths)
            }
            found |= {where: words} if words else {}

    assert found == FORMATS
