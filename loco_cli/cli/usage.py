"""
How a command line is explained: its help at a glance, and what it refuses as a sentence.

Typer says of a flag that it takes a `<bool>`, sets an argument in braces, and tells what is wrong
in a box of its own; here a wrong option reads like every other error.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from loco_cli.errors import RequestError

UsageError: type[Any] = typer.BadParameter.__mro__[1]  # which Typer exports by its child alone
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


@contextmanager
def translate_usage_errors() -> Iterator[None]:
    """Raise what Typer refuses within as a RequestError."""
    try:
        yield
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # it shows the help
            raise
        raise _as_sentence(error) from None


def _as_sentence(error: Any) -> RequestError:
    path = error.ctx.command_path if error.ctx else "loco"
    way_out = f"`{path} --help` lists what it takes" if error.ctx else None
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
