"""Files of the hub: from this machine's cache, else from the network, else a sentence why not."""

from dataclasses import dataclass
from pathlib import Path

from loco_cli.errors import ModelUnavailable, UnknownName

# of folders alone: a repository has its single files, the same model again, beside them
MODEL_FILES = ("*.json", "*.txt", "*.model", "*/*.safetensors")
SCORER_FILES = ("*.json", "*.txt", "model.safetensors")


@dataclass(frozen=True)
class _Wanted:
    """A repository as errors call it, and the way out without it."""

    hub_id: str
    what: str
    hint: str

    def __str__(self) -> str:
        return f"{self.what} `{self.hub_id}`"


def fetch(
    hub_id: str, files: tuple[str, ...], *, needed: tuple[str, ...], what: str, hint: str
) -> Path:
    """
    Return the folder of a hub repository's files.

    The network is asked where the cache has not all of them; where it gives nothing, a part is
    enough that holds a file like one of `needed`. `what` is how errors call the repository
    ("model", "scorer"), `hint` the way out without it.

    Raises:
        UnknownName: `hub_id` cannot be the name of a repository.
        ModelUnavailable: it is not on this machine and cannot be fetched.
    """
    from huggingface_hub.errors import HFValidationError

    wanted = _Wanted(hub_id, what, hint)
    try:
        here, is_whole = _in_cache(hub_id, files)
    except HFValidationError as error:
        raise UnknownName(f"{wanted} is neither a path nor a hub id", hint) from error
    is_enough = bool(here and _holds(here, needed))
    if here and is_enough and is_whole:
        return here
    try:
        folder = _download(wanted, files)
    except ModelUnavailable:
        if here and is_enough:  # another program may have fetched one variant of several
            return here
        raise
    if not _holds(folder, needed):
        files_needed = " or ".join(f"`{one}`" for one in needed)
        raise ModelUnavailable(f"{wanted} has no {files_needed}, neither here nor on the hub", hint)
    return folder


def cached_folder(hub_id: str, files: tuple[str, ...]) -> Path | None:
    """Return the folder of what this machine's cache has of a repository, None for nothing."""
    from huggingface_hub.errors import HFValidationError

    try:
        return _in_cache(hub_id, files)[0]
    except HFValidationError:
        return None


def _holds(folder: Path, needed: tuple[str, ...]) -> bool:
    return any(any(folder.glob(pattern)) for pattern in needed)


def _in_cache(hub_id: str, files: tuple[str, ...]) -> tuple[Path | None, bool]:
    """Return the folder of what the cache has, and whether nothing is known to be missing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = snapshot_download(hub_id, local_files_only=True, allow_patterns=list(files))
    except LocalEntryNotFoundError as error:
        part = getattr(error, "snapshot_path", None)  # of what was begun and not finished
        return (Path(part) if part else None), False
    return Path(found), True


def _download(wanted: _Wanted, files: tuple[str, ...]) -> Path:
    """Return the folder of a repository's files, fetched; raises ModelUnavailable."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, XetDownloadError

    http_error: type[Exception] = HfHubHTTPError.__bases__[
        0
    ]  # of whichever client the hub's library stands on
    try:
        return Path(snapshot_download(wanted.hub_id, allow_patterns=list(files)))
    except LocalEntryNotFoundError as error:
        answer = error.__cause__ if isinstance(error.__cause__, HfHubHTTPError) else error
        raise _refusal(answer, wanted) from error
    except (OSError, http_error) as error:
        raise _refusal(error, wanted) from error
    except (ValueError, RuntimeError, XetDownloadError) as error:
        raise ModelUnavailable(
            f"what the hub answers for {wanted} makes no sense", wanted.hint
        ) from error


def _refusal(error: Exception, wanted: _Wanted) -> ModelUnavailable:
    """Return what to say where a repository could not be fetched."""
    from huggingface_hub import errors as hub

    if isinstance(error, hub.GatedRepoError):
        return ModelUnavailable(
            f"{wanted} is gated",
            f"accept its licence at https://huggingface.co/{wanted.hub_id}, then `hf auth login`",
        )
    if isinstance(error, hub.RepositoryNotFoundError):
        return ModelUnavailable(
            f"the hub has no {wanted}, or none that you may see",
            f"{wanted.hint}; for a private one there is `hf auth login`",
        )
    if isinstance(error, hub.DisabledRepoError):
        return ModelUnavailable(f"the hub has disabled {wanted}", wanted.hint)
    if isinstance(error, hub.HfHubHTTPError):
        return _answered(error.response.status_code, wanted)
    if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
        return ModelUnavailable(
            f"{wanted} cannot be kept in the hub's cache: {str(error.strerror).lower()}",
            "`HF_HOME` says where the cache is",
        )
    return ModelUnavailable(
        f"{wanted} is not on this machine, and the hub cannot be reached",
        f"connect to the network, or {wanted.hint}",
    )


def _answered(status: int, wanted: _Wanted) -> ModelUnavailable:
    """Return what to say where the hub was reached and gave an HTTP status instead of files."""
    if status in (401, 403):
        return ModelUnavailable(
            f"the hub does not let this machine's token read {wanted} ({status})",
            "`hf auth login` gives it another token, `hf auth logout` none",
        )
    if status == 404:
        return ModelUnavailable(f"the hub has no branch `main` of {wanted}", wanted.hint)
    return ModelUnavailable(
        f"the hub answers {status} where {wanted} should be",
        f"try again later, or {wanted.hint}",
    )
