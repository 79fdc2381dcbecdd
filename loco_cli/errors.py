"""
Error classes of `loco`, as a tree.

* LocoError                    any error that a user can cause or fix: message, hint, exit code
  + RequestError         (2)   the request is wrong
    - UnknownName              a model, recipe, method or key that does not exist
    - RecipeError              an invalid recipe, with file, line and key
    - ConceptError             a subject that is empty, cut off, or equal to its target
    - OutputExists             an output that exists, or is inside the base
  + MachineError         (1)   the files, the machine or the result are wrong
    - CheckpointError          a file or folder that is not a checkpoint, or is damaged
    - ModelUnavailable         a model that is not on this machine and cannot be downloaded
    - OutOfMemory              a batch that does not fit into the memory of the device
    - EditError                an edit that changes nothing, matches no layer, or is not finite
    - VerificationError        an output that does not match its manifest
    - CheckFailed              a metric below the limit of `--fail-under`

The number is the exit code. Messages are lower case and put user input in backticks. They give
both numbers when two disagree. The hint is a way out; it is omitted if it is uncertain.
"""


class LocoError(Exception):
    """An error with a message for the user, an optional hint, and an exit code."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RequestError(LocoError):
    """A wrong request: arguments, recipe, names or output."""

    exit_code = 2


class UnknownName(RequestError):
    """A name that is not registered."""


class RecipeError(RequestError):
    """An invalid recipe."""


class ConceptError(RequestError):
    """A concept whose wording cannot be localized or edited."""


class OutputExists(RequestError):
    """An output that already exists, or is inside its own base."""


class MachineError(LocoError):
    """A problem with the files, the machine or the result."""


class CheckpointError(MachineError):
    """A file or folder that is not a checkpoint, or is damaged."""


class ModelUnavailable(MachineError):
    """A model that is not on this machine and cannot be downloaded."""


class OutOfMemory(MachineError):
    """A batch of pictures that does not fit into the memory of the device."""


class EditError(MachineError):
    """An edit that would change nothing, match no layer, or contain NaN or Inf."""


class VerificationError(MachineError):
    """An output that does not match its manifest."""


class CheckFailed(MachineError):
    """A metric below the limit that the user set."""


def printable(text: object, limit: int = 160) -> str:
    """Return `text` with control characters escaped, cut after `limit` characters."""
    escaped = repr(str(text))[1:-1]
    return escaped if len(escaped) <= limit else f"{escaped[:limit]}…"


def format_size(n_bytes: int) -> str:
    """Return a size with its unit: `8.6 MB`, `6.94 GB`."""
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"
