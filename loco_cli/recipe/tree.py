"""
Parsing of YAML into a tree of plain values, with the line of every key.

Numbers and booleans follow YAML 1.2: `no` is a word, `1e-2` a number, `8:10` a word. Repeated keys,
empty values and tags are errors. Size, depth and number of values are limited, to bound the cost of
a hostile file.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import yaml

from loco_cli.errors import RecipeError

MAX_BYTES = 1_000_000  # bytes of a recipe file
_MAX_VALUES = 20_000  # values of a recipe, aliased ones counted each time
_MAX_DEPTH = 12  # nesting levels of a recipe

KeyPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"


class RecipeLoader(yaml.SafeLoader):
    """The safe loader of PyYAML, with numbers and booleans of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 PyYAML's


for _name, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    (
        "float",
        r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$",
        list("-+.0123456789"),
    ),
):
    RecipeLoader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)


class _FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc] # by machine
    """The same loader on libyaml, if PyYAML was built with it: thirty times as fast."""

    yaml_implicit_resolvers = RecipeLoader.yaml_implicit_resolvers


@dataclass(frozen=True)
class Tree:
    """
    A mapping and the place of each key: `{("edit", "ridge"): "recipe.yaml:7"}`.
    """

    values: dict[str, Any]
    places: Mapping[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Return the place of `path`, or of its closest known parent."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places[path]


def read_tree(text: str, where: str) -> Tree:
    """
    Return the tree of a recipe.

    Args:
        text: The YAML text.
        where: The file name for error messages.

    Raises:
        RecipeError: The text is not valid YAML, or breaks a rule of this module; the message has
            file, line and key.
    """
    if len(text) > MAX_BYTES:
        raise RecipeError(f"recipe `{where}` is longer than {MAX_BYTES:,} characters")
    root = _compose(text, where)
    if root is None:
        raise RecipeError(f"recipe `{where}` is empty")
    if not isinstance(root, yaml.MappingNode):
        raise RecipeError(
            f"recipe `{where}` is not a mapping of keys", "a recipe begins with `loco: 1`"
        )
    places: dict[KeyPath, str] = {(): where}
    values = _Reader(where, places).plain(root, ())
    return Tree(values, places)


def dotted(path: KeyPath) -> str:
    """Return a path in dotted notation: `edits.0.subject`."""
    return ".".join(map(str, path))


class _Reader:
    """A converter of nodes to plain values that records places and counts aliased values too."""

    def __init__(self, where: str, places: dict[KeyPath, str]) -> None:
        self.where = where
        self.places = places
        self.n_values = 0

    def plain(self, node: yaml.Node, path: KeyPath) -> Any:
        self.n_values += 1
        if self.n_values > _MAX_VALUES or len(path) > _MAX_DEPTH:
            raise RecipeError(f"recipe `{self.where}` is nested too deeply or has too many values")
        if isinstance(node, yaml.MappingNode):
            return dict(self.items(node, path))
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.child(item, (*path, i)) for i, item in enumerate(node.value)]
        return self.scalar(node, path)

    def items(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, Any]]:
        if node.tag != f"{_TAG}map":
            raise self.error(node, f"tag `{node.tag}` is not allowed")
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.error(key, "a key is not text")
            inside = (*path, key.value)
            if key.value in lines:
                first = lines[key.value]
                raise self.error(key, f"key `{dotted(inside)}` is repeated, first on line {first}")
            lines[key.value] = key.start_mark.line + 1
            # without quotes, the template {subject} is a mapping with one empty key
            is_alone = bool(node.flow_style) and len(node.value) == 1
            if is_alone and key.value in ("subject", "to") and value.value == "":
                hint = f'a prompt with a slot needs quotes: `"{{{key.value}}}"`'
                raise self.error(key, f"`{dotted(path)}` is a mapping, not text", hint)
            yield key.value, self.child(value, inside, mark=key)

    def child(self, node: yaml.Node, path: KeyPath, mark: yaml.Node | None = None) -> Any:
        self.places[path] = f"{self.where}:{(mark or node).start_mark.line + 1}"
        value = self.plain(node, path)
        if value is None:
            raise self.error(mark or node, f"`{dotted(path)}` is empty")
        return value

    def scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        kind, value = node.tag.removeprefix(_TAG), node.value
        try:
            match kind:
                case "str":
                    return value
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[value.lower()]
                case "int":
                    return int(value)
                case "float":
                    return float(value)
        except (KeyError, ValueError):
            raise self.error(node, f"`{dotted(path)}` is not a valid {kind}") from None
        raise self.error(node, f"tag `{node.tag}` is not allowed")

    def error(self, node: yaml.Node, message: str, hint: str | None = None) -> RecipeError:
        return RecipeError(f"recipe `{self.where}:{node.start_mark.line + 1}`: {message}", hint)


def _compose(text: str, where: str) -> yaml.Node | None:
    """Return the root node of a text, or None if it is empty; raises RecipeError."""
    # libyaml accepts tabs that PyYAML rejects, and has other error messages
    if "\t" not in text:
        with suppress(yaml.YAMLError, UnicodeEncodeError):
            return _compose_with(_FastLoader, text, where)
    try:
        return _compose_with(RecipeLoader, text, where)
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, where) from None


def _compose_with(loader: Any, text: str, where: str) -> yaml.Node | None:
    # composing is recursive and parsing is not, so the depth is checked here first
    depth = 0
    for n_events, event in enumerate(yaml.parse(text, Loader=loader)):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH or n_events > 2 * _MAX_VALUES:
            raise RecipeError(f"recipe `{where}` is nested too deeply or has too many values")
    root: yaml.Node | None = loader(text).get_single_node()
    return root


def _syntax_error(error: yaml.YAMLError, text: str, where: str) -> RecipeError:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position)
        problem = f"character {error.character!r} is not allowed"
    else:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line if mark else 0
        problem = str(getattr(error, "problem", None) or "it is not valid YAML")
        if problem.startswith("but "):  # the sentence begins in the context
            problem = f"{getattr(error, 'context', '')}, {problem}"
    lines = text.splitlines()
    has_slot = bool(re.search(r"\{(?:subject|to)\}", lines[line] if line < len(lines) else ""))
    hint = 'a prompt with a slot needs quotes: `"{subject}"`' if has_slot else None
    return RecipeError(f"recipe `{where}:{line + 1}`: {' '.join(problem.split())}", hint)
