"""Files of the hub: from this machine's cache, else from the network, else a sentence why not."""

from pathlib import Path

from loco_cli.errors import ModelUnavailable, UnknownName

# of folders alone: a repository has its single files, the same model again, beside them
MODEL_FILES = ("*.json", "*.txt", "*.model", "*/*.safetensors")
SCORER_FILES = ("*.json", "*.txt", "model.safetensors")
_ABSENT = "is not on this machine, and the hub cannot be reached"


def fetch(hub_id: str, files: tuple[str, ...], *, needed: str, what: str, hint: str) -> Path:
    """
    Return the folder of a hub repository's files.

    The cache is enough where it holds a file like `needed`. `what` is how errors call the
    repository ("model", "scorer"), `hint` the way out without a network.

    Raises:
        UnknownName: `hub_id` cannot be the name of a repository.
        ModelUnavailable: it is not on this machine and cannot be fetched.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    try:
        for is_local in (True, False):
            folder = _snapshot(hub_id, files, is_local)
            if folder and any(folder.glob(needed)):
                return folder
    except GatedRepoError as error:
        raise ModelUnavailable(
            f"{what} `{hub_id}` is gated",
            f"accept its licence at https://huggingface.co/{hub_id}, then `hf auth login`",
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelUnavailable(f"the hub has no {what} `{hub_id}`", hint) from error
    except HFValidationError as error:
        raise UnknownName(f"{what} `{hub_id}` is neither a path nor a hub id", hint) from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelUnavailable(f"{what} `{hub_id}` {_ABSENT}", hint) from error
    problem = f"has no `{needed}`, neither here nor on the hub" if folder else _ABSENT
    raise ModelUnavailable(f"{what} `{hub_id}` {problem}", hint)


def cached(hub_id: str, files: tuple[str, ...]) -> Path | None:
    """Return the folder of a repository's files in this machine's cache, None if it has none."""
    from huggingface_hub.errors import HFValidationError

    try:
        return _snapshot(hub_id, files, is_local=True)
    except HFValidationError:
        return None


def _snapshot(hub_id: str, files: tuple[str, ...], is_local: bool) -> Path | None:
    """Return the folder of what the cache holds or the network gives, None for an empty cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = snapshot_download(hub_id, local_files_only=is_local, allow_patterns=list(files))
    except LocalEntryNotFoundError:
        return None
    return Path(found)
