"""
How a command line is explained: its help at a glance, and what it refuses as a sentence.

Typer says of a flag that it takes a `<bool>`, sets an argument in braces, and tells what is wrong
in a box of its own; here a wrong option reads like every other error.
"""

import re
from difflib import get_close_matches
from typing import Any

from typer.core import TyperCommand, TyperGroup

from loco_cli.errors import RequestError

_SAID = (  # of values, as pydantic words it
    (r"^input should be a valid integer.*", "takes whole numbers"),
    (r"^input should be a valid number.*", "takes a number"),
    (r"^input should be greater than or equal to (\S+)$", r"takes at least \1"),
    (r"^input should be less than or equal to (\S+)$", r"takes at most \1"),
)
_UNKNOWN = re.compile(r"no such command `(.*?)`")
_MEANT = re.compile(r"Did you mean (`.*?`)")
_EXTRA = re.compile(r"got unexpected extra arguments?(?:\(s\))? \((.*)\)$")


class Command(TyperCommand):
    """A command whose help says no more of an option than what it takes."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options; a flag takes nothing."""
        return _without_flag_types(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line; an argument stands bare."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


class CommandGroup(TyperGroup):
    """Commands under one name, with the help of a `Command`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options; a flag takes nothing."""
        return _without_flag_types(super().get_params(ctx))


def is_help(error: Exception) -> bool:
    """Whether Typer has shown the help of a command that was given no arguments."""
    return type(error).__name__ == "NoArgsIsHelpError"


def usage_error(error: Any) -> RequestError | None:
    """Return what Typer refuses as our own error, None where an error is none of Typer's."""
    if not hasattr(error, "format_message"):  # Typer exports the children of its error alone
        return None
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "loco"
    way_out = f"`{path} --help` lists what it takes" if context else None
    kind, param = type(error).__name__, getattr(error, "param", None)
    if kind == "NoSuchOption":
        near = get_close_matches(error.option_name, error.possibilities or (), n=1, cutoff=0.7)
        hint = f"did you mean `{near[0]}`?" if near else way_out
        return RequestError(f"there is no option `{error.option_name}`", hint)
    if kind == "MissingParameter" and param is not None:
        return RequestError(f"`{_name_of(param)}` is missing", way_out)
    said = _as_we_write(error.message)
    if param is not None:
        return RequestError(f"`{_name_of(param)}` {_of_value(said)}", way_out)
    unknown, meant = _UNKNOWN.match(said), _MEANT.search(said)
    if unknown:
        hint = f"did you mean {meant[1]}?" if meant else way_out
        return RequestError(f"there is no command `{unknown[1]}`", hint)
    extra = _EXTRA.match(said)
    if extra:
        hint = 'text of several words stands in quotes, as in "van gogh style"'
        return RequestError(f"`{path}` takes no more arguments: `{extra[1]}`", hint)
    return RequestError(said, way_out)


def _name_of(param: Any) -> str:
    is_option = param.param_type_name == "option"
    return str(max(param.opts, key=len) if is_option else param.metavar or param.name)


def _of_value(said: str) -> str:
    for pattern, words in _SAID:
        if re.match(pattern, said):
            return re.sub(pattern, words, said)
    return f"is wrong: {said}"


def _as_we_write(text: str) -> str:
    """Return a sentence of Typer's in lower case, with backticks and without a full stop."""
    bare = text.removeprefix("Value error, ").rstrip(".").replace("'", "`")
    return bare[:1].lower() + bare[1:]


def _without_flag_types(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params
