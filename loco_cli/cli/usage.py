"""
Help and usage errors in the style of `loco`.

By default Typer shows a `<bool>` for each flag and braces around arguments, and prints usage errors
in a box. Here flags take no value, and a usage error is printed like any other error.
"""

import re
from difflib import get_close_matches
from typing import Any

from typer.core import TyperCommand, TyperGroup

from loco_cli.errors import RequestError

# pydantic's sentence about a value, and ours after the name of the option
_VALUE_ERRORS = (
    (r"^input should be a valid integer.*", "takes whole numbers"),
    (r"^input should be a valid number.*", "takes a number"),
    (r"^input should be greater than or equal to (\S+)$", r"must be at least \1"),
    (r"^input should be less than or equal to (\S+)$", r"must be at most \1"),
)
_UNKNOWN_COMMAND = re.compile(r"no such command `(.*?)`")
_SUGGESTION = re.compile(r"Did you mean (`.*?`)")
_EXTRA_ARGUMENT = re.compile(r"got unexpected extra arguments?(?:\(s\))? \((.*)\)$")


class Command(TyperCommand):
    """A command whose help shows no value type for flags and no braces around arguments."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, with no value type for flags."""
        return _without_flag_types(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line, without braces around arguments."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


class CommandGroup(TyperGroup):
    """A group of commands with the same style of help as a `Command`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, with no value type for flags."""
        return _without_flag_types(super().get_params(ctx))


def is_help(error: Exception) -> bool:
    """Return True if Typer has just printed the help of a command without arguments."""
    return type(error).__name__ == "NoArgsIsHelpError"


def usage_error(error: Any) -> RequestError | None:
    """Return a usage error of Typer as a `RequestError`, or None for any other exception."""
    if not hasattr(error, "format_message"):  # Typer does not export the base class of its errors
        return None
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "loco"
    help_hint = f"`{path} --help` lists the arguments and options" if context else None
    kind, param = type(error).__name__, getattr(error, "param", None)
    if kind == "NoSuchOption":
        near = get_close_matches(error.option_name, error.possibilities or (), n=1, cutoff=0.7)
        hint = f"did you mean `{near[0]}`?" if near else help_hint
        return RequestError(f"unknown option `{error.option_name}`", hint)
    if kind == "MissingParameter" and param is not None:
        return RequestError(f"`{_name_of(param)}` is missing", help_hint)
    message = _restyled(error.message)
    if param is not None:
        return RequestError(f"`{_name_of(param)}` {_value_error(message)}", help_hint)
    unknown, suggestion = _UNKNOWN_COMMAND.match(message), _SUGGESTION.search(message)
    if unknown:
        list_hint = f"`{path} --help` lists the commands"
        hint = f"did you mean {suggestion[1]}?" if suggestion else list_hint
        return RequestError(f"unknown command `{unknown[1]}`", hint)
    extra = _EXTRA_ARGUMENT.match(message)
    if extra:
        hint = 'put quotes around text of several words: "van gogh style"'
        return RequestError(f"`{path}` got an unexpected argument: `{extra[1]}`", hint)
    return RequestError(message, help_hint)


def _name_of(param: Any) -> str:
    is_option = param.param_type_name == "option"
    return str(max(param.opts, key=len) if is_option else param.metavar or param.name)


def _value_error(message: str) -> str:
    for pattern, words in _VALUE_ERRORS:
        if re.match(pattern, message):
            return re.sub(pattern, words, message)
    return f"is not valid: {message}"


def _restyled(text: str) -> str:
    """Return a sentence of Typer in lower case, with backticks and without a full stop."""
    bare = text.removeprefix("Value error, ").rstrip(".").replace("'", "`")
    return bare[:1].lower() + bare[1:]


def _without_flag_types(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params
