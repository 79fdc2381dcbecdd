"""Files of the hub, from this machine's cache or from the network."""

from dataclasses import dataclass
from pathlib import Path

from loco_cli.errors import ModelUnavailable, UnknownName

# weights in subfolders only: many repositories have single files of the same model at the top
MODEL_FILES = ("*.json", "*.txt", "*.model", "*/*.safetensors")
SCORER_FILES = ("*.json", "*.txt", "model.safetensors")


@dataclass(frozen=True)
class _Repository:
    """A repository, with the role and the hint that its error messages use."""

    hub_id: str
    role: str
    hint: str

    def __str__(self) -> str:
        return f"{self.role} `{self.hub_id}`"


def fetch(
    hub_id: str, files: tuple[str, ...], *, needed: tuple[str, ...], role: str, hint: str
) -> Path:
    """
    Return the folder with the files of a hub repository, downloading what the cache lacks.

    If the network fails, an incomplete cache is enough as long as it has one of the needed files.

    Args:
        hub_id: The repository, `owner/name`.
        files: Patterns of the files to fetch.
        needed: Patterns, at least one of which must match a file.
        role: The role of the repository in error messages, such as `model` or `scorer`.
        hint: The advice of error messages for doing without the repository.

    Raises:
        UnknownName: `hub_id` is not a valid name of a repository.
        ModelUnavailable: The files are not on this machine, and the download fails.
    """
    from huggingface_hub.errors import HFValidationError

    repository = _Repository(hub_id, role, hint)
    try:
        here, is_whole = _in_cache(hub_id, files)
    except HFValidationError as error:
        raise UnknownName(f"{repository} is neither a path nor a hub id", hint) from error
    is_enough = bool(here and _holds(here, needed))
    if here and is_enough and is_whole:
        return here
    try:
        folder = _download(repository, files)
    except ModelUnavailable:
        if here and is_enough:  # another program may have fetched only one variant
            return here
        raise
    if not _holds(folder, needed):
        patterns = " or ".join(f"`{pattern}`" for pattern in needed)
        raise ModelUnavailable(
            f"{repository} has no {patterns}, neither in the cache nor on the hub", hint
        )
    return folder


def cached_folder(hub_id: str, files: tuple[str, ...]) -> Path | None:
    """Return the folder of a repository in this machine's cache, or None."""
    from huggingface_hub.errors import HFValidationError

    try:
        return _in_cache(hub_id, files)[0]
    except HFValidationError:
        return None


def _holds(folder: Path, needed: tuple[str, ...]) -> bool:
    return any(any(folder.glob(pattern)) for pattern in needed)


def _in_cache(hub_id: str, files: tuple[str, ...]) -> tuple[Path | None, bool]:
    """Return the folder of a repository in the cache, and True if it seems complete."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(hub_id, local_files_only=True, allow_patterns=list(files))
    except LocalEntryNotFoundError as error:
        part = getattr(error, "snapshot_path", None)  # the folder of an interrupted download
        return (Path(part) if part else None), False
    return Path(folder), True


def _download(repository: _Repository, files: tuple[str, ...]) -> Path:
    """Download the files of a repository, and return their folder; raises ModelUnavailable."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, XetDownloadError

    # the base class belongs to the HTTP client, which differs between versions of the library
    http_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        return Path(snapshot_download(repository.hub_id, allow_patterns=list(files)))
    except LocalEntryNotFoundError as error:
        cause = error.__cause__ if isinstance(error.__cause__, HfHubHTTPError) else error
        raise _download_error(cause, repository) from error
    except (OSError, http_error) as error:
        raise _download_error(error, repository) from error
    except (ValueError, RuntimeError, XetDownloadError) as error:
        raise ModelUnavailable(
            f"the hub sent an invalid response for {repository}", repository.hint
        ) from error


def _download_error(error: Exception, repository: _Repository) -> ModelUnavailable:
    """Translate an error of the hub's library."""
    from huggingface_hub import errors as hub

    if isinstance(error, hub.GatedRepoError):
        return ModelUnavailable(
            f"{repository} is gated",
            f"accept its licence at https://huggingface.co/{repository.hub_id}, then run "
            "`hf auth login`",
        )
    if isinstance(error, hub.RepositoryNotFoundError):
        return ModelUnavailable(
            f"the hub has no {repository}, or it is private",
            f"{repository.hint}; to use a private one, run `hf auth login`",
        )
    if isinstance(error, hub.DisabledRepoError):
        return ModelUnavailable(f"the hub has disabled {repository}", repository.hint)
    if isinstance(error, hub.HfHubHTTPError):
        return _status_error(error.response.status_code, repository)
    if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
        return ModelUnavailable(
            f"cannot write {repository} to the hub's cache: {str(error.strerror).lower()}",
            "set `HF_HOME` to the folder for the cache",
        )
    return ModelUnavailable(
        f"{repository} is not on this machine, and the hub cannot be reached",
        f"connect to the network, or {repository.hint}",
    )


def _status_error(status: int, repository: _Repository) -> ModelUnavailable:
    """Translate an HTTP status that the hub sent instead of files."""
    if status in (401, 403):
        return ModelUnavailable(
            f"the hub rejects this machine's token for {repository} ({status})",
            "run `hf auth login` to change the token, or `hf auth logout` to remove it",
        )
    if status == 404:
        return ModelUnavailable(f"{repository} has no branch `main` on the hub", repository.hint)
    return ModelUnavailable(
        f"the hub answered with status {status} for {repository}",
        f"try again later, or {repository.hint}",
    )
