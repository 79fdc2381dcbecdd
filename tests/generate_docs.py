"""
The generated parts of the manual.

    python -m tests.generate_docs            # update the pages
    python -m tests.generate_docs --check    # list outdated pages, and exit with 1 if there are any

Each part is between `<!-- generated: NAME -->` and `<!-- end -->`. The sources are the descriptions
of the recipe keys, the help of the commands, the catalog and the known models.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from typer.main import get_command

from loco_cli.cli.app import app
from loco_cli.commands.recipes import list_recipes
from loco_cli.families import registry
from loco_cli.recipe.load import recipe_schema
from tests.pages import MANUAL

_PART = re.compile(r"(?P<begin><!-- generated: (?P<name>\w+) -->\n).*?(?P<end><!-- end -->)", re.S)
# each section of a recipe, with the name of its definition in the schema
_SECTIONS = {
    "": "",
    "edits": "EditEntry",
    "localize": "LocalizeSettings",
    "edit": "EditSettings",
    "evaluate": "EvaluateSettings",
}


def updated(text: str) -> str:
    """Return a page with all generated parts updated."""
    return _PART.sub(
        lambda part: f"{part['begin']}{PARTS[part['name']]().rstrip()}\n{part['end']}", text
    )


def recipe_keys() -> str:
    """Return a table of the keys in each section of a recipe."""
    schema = recipe_schema()
    lines: list[str] = []
    for section, definition in _SECTIONS.items():
        record = schema["$defs"][definition] if definition else schema
        if section:
            lines += [f"### `{section}`", ""]
        lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
        required = record.get("required", ())
        for key, facts in record["properties"].items():
            if "$ref" in facts or facts.get("items", {}).get("$ref"):
                value, default = "a section" if "$ref" in facts else "a list", ""
            else:
                value, default = _value(facts), _default(facts)
            default = "required" if key in required else default
            meaning = facts.get("description") or f"See `{key}` below."
            lines.append(_row(f"`{key}`", value, default, meaning))
        lines.append("")
    return "\n".join(lines)


def command_pages() -> str:
    """Return a section for each command, with its usage, help, arguments and options."""
    return "\n".join(line for name, command in _commands() for line in _command(name, command))


def recipe_catalog() -> str:
    """Return a table of the shipped recipes."""
    shipped = [one for one in list_recipes() if one.origin == "shipped"]
    rows = [
        _row(f"`{one.name}`", ", ".join(one.kinds), f"`{one.model}`", one.title or "")
        for one in shipped
    ]
    return "\n".join(["| name | kinds | model | title |", "|---|---|---|---|", *rows])


def known_models() -> str:
    """Return a table of the models with an alias."""
    rows = [
        _row(f"`{spec.name}`", spec.title, f"`{spec.family.name}`", str(spec.n_layers), _hub(spec))
        for spec in map(registry.get, registry.names())
    ]
    head = ["| alias | model | family | layers | from |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows])


PARTS: Mapping[str, Callable[[], str]] = {
    "keys": recipe_keys,
    "commands": command_pages,
    "catalog": recipe_catalog,
    "models": known_models,
}


def _commands() -> Iterator[tuple[str, Any]]:
    for name, command in get_command(app).commands.items():
        if hasattr(command, "commands"):
            for inner, one in command.commands.items():
                yield f"loco {name} {inner}", one
        else:
            yield f"loco {name}", command


def _command(name: str, command: Any) -> list[str]:
    about, _, example = command.help.rpartition("Example: ")
    params = [one for one in command.params if not getattr(one, "hidden", False)]
    arguments = [one for one in params if one.param_type_name == "argument"]
    options = [one for one in params if one.param_type_name == "option" and one.name != "help"]
    words = " ".join(_argument(one) for one in arguments)
    lines = [f"## {name}", "", *_fenced(f"{name} [OPTIONS] {words}".rstrip()), ""]
    lines += [_tidy(part) for text in about.strip().split("\n\n") for part in (text, "")]
    lines += [f"Example: `{example.strip()}`", ""]
    lines += ["| argument or option | default | meaning |", "|---|---|---|"]
    lines += [_row(f"`{_argument(one)}`", "", one.help or "") for one in arguments]
    lines += [_row(f"`{_option(one)}`", _option_default(one), one.help or "") for one in options]
    return [*lines, ""]


def _argument(param: Any) -> str:
    name = param.metavar or param.name.upper()
    return name if param.required else f"[{name}]"


def _option(param: Any) -> str:
    names = ", ".join(sorted(param.opts, key=len, reverse=True))
    takes = "" if param.is_flag else param.metavar or "|".join(_choices(param))
    return f"{names} {takes}".rstrip()


def _choices(param: Any) -> tuple[str, ...]:
    if hasattr(param, "type"):  # newer versions of Typer have no `type`
        return tuple(map(str, param.type.choices))
    return get_args(param.type_descriptor.annotation)


def _option_default(param: Any) -> str:
    if isinstance(param.show_default, str):
        return param.show_default
    is_shown = param.show_default and param.default not in (None, False, ())
    return f"`{param.default}`" if is_shown else ""


def _value(facts: Mapping[str, Any]) -> str:
    if "anyOf" in facts:
        kinds = [_value(one) for one in facts["anyOf"] if one.get("type") != "null"]
        return " or ".join(kinds)
    if "const" in facts:
        return f"`{facts['const']}`"
    if "enum" in facts:
        return ", ".join(f"`{word}`" for word in facts["enum"] if word is not None)
    if facts["type"] == "array":
        return _list_of(facts)
    if "pattern" in facts:
        return "a multiple such as `'0.1x'`"
    names = {"string": "text", "boolean": "`true` or `false`"}
    number = {"integer": "a whole number", "number": "a number"}.get(facts["type"])
    return f"{number}{_bounds(facts)}" if number else names[facts["type"]]


def _list_of(facts: Mapping[str, Any]) -> str:
    if facts["items"]["type"] == "integer":
        return "two layers" if facts.get("maxItems") == 2 else "a list of layers"
    return "a list of texts"


def _bounds(facts: Mapping[str, Any]) -> str:
    low, high = facts.get("minimum"), facts.get("maximum")
    above = facts.get("exclusiveMinimum")
    begin = f"above {above:g}" if above is not None else "" if low is None else f"from {low:g}"
    end = "" if high is None else f"to {high:g}"
    return "".join(f" {part}" for part in (begin, end) if part)


def _default(facts: Mapping[str, Any]) -> str:
    default = facts.get("default")
    if default in (None, []):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _hub(spec: Any) -> str:
    return f"`{spec.hub_id}`" if spec.hub_id else "the package"


def _row(*cells: str) -> str:
    return f"| {' | '.join(_tidy(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _tidy(text: str) -> str:
    return " ".join(text.split())


def _fenced(code: str) -> list[str]:
    return ["```text", code, "```"]


def main() -> None:
    """Update the pages, or with `--check` only list the outdated ones."""
    pages = {page: page.read_text("utf-8") for page in MANUAL}
    stale = {page: updated(text) for page, text in pages.items() if updated(text) != text}
    is_check = "--check" in sys.argv
    for page, text in stale.items():
        sys.stdout.write(f"{page.name}\n")
        if not is_check:
            page.write_text(text, "utf-8")
    sys.exit(1 if stale and is_check else 0)


if __name__ == "__main__":
    main()
