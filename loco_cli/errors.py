"""
What can go wrong, drawn as a tree.

* LocoError                    anything a user may cause or mend; message, hint, exit code
  + RequestError         (2)   the request is wrong
    - UnknownName              a model, recipe, method or key that does not exist
    - RecipeError              a recipe that cannot be read, with file, line and key
    - ConceptError             a subject that is empty, cut off, or equal to its target
    - OutputExists             an output that exists, or lies inside the base
  + MachineError         (1)   files, machine or result are wrong
    - CheckpointError          a file or folder that is no checkpoint, or is damaged
    - ModelUnavailable         a model that is not on this machine and cannot be fetched
    - OutOfMemory              a batch for which the device has not the memory
    - EditError                an edit that changes nothing, matches nothing, or is not finite
    - VerificationError        an output that does not hold against its manifest
    - CheckFailed              a figure under the limit that `--fail-under` set

The number is the exit code. Messages are lower case, name what the user typed in backticks,
give both numbers where two disagree, and carry the way out as a hint only if it is certain.
"""


class LocoError(Exception):
    """A failure with a sentence for the user, an optional way out, and an exit code."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RequestError(LocoError):
    """The request is wrong: arguments, recipe, names, output."""

    exit_code = 2


class UnknownName(RequestError):
    """A name that no registry holds."""


class RecipeError(RequestError):
    """A recipe that cannot be read."""


class ConceptError(RequestError):
    """A concept that cannot be localized or edited as it is worded."""


class OutputExists(RequestError):
    """An output that is already there, or lies inside its own base."""


class MachineError(LocoError):
    """The files, the machine or the result are wrong."""


class CheckpointError(MachineError):
    """A file or folder that is no checkpoint, or is damaged."""


class ModelUnavailable(MachineError):
    """A model that is not on this machine and cannot be fetched."""


class OutOfMemory(MachineError):
    """A batch of pictures for which the device has not the memory."""


class EditError(MachineError):
    """An edit that would change nothing, match nothing, or hold NaN or Inf."""


class VerificationError(MachineError):
    """An output that does not hold against its manifest."""


class CheckFailed(MachineError):
    """A figure below the limit the user set."""


def printable(text: object, limit: int = 160) -> str:
    """Return `text` as it may be printed: control characters escaped, long text cut."""
    escaped = repr(str(text))[1:-1]
    return escaped if len(escaped) <= limit else f"{escaped[:limit]}…"


def format_size(n_bytes: int) -> str:
    """Return a size in the unit that suits it: `8.6 MB`, `6.94 GB`."""
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"
