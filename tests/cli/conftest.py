"""An edited model, and the check of a refused command line."""

import pytest


@pytest.fixture(scope="session")
def edited(tmp_path_factory, loco):
    """An edit of `tiny` without the style of Van Gogh, to be read only."""
    output = tmp_path_factory.mktemp("edited") / "edited"
    result = loco("edit", "van gogh style", "--layers", "8,9", "--output", output)
    assert result.exit_code == 0, result.stderr
    return output


@pytest.fixture
def refused(loco, golden, tmp_path):
    """
    Check that a command line is refused: an exit code, one error, and no change to any file.

    Each of `names` is in the error, which the golden file holds. With `is_same`, the error equals
    that of the last call. `placeholders` maps texts that depend on the machine to their names.
    """
    last = []

    def run(*words, exit_code, names=(), is_same=False, placeholders=()):
        before = files_of(tmp_path)

        result = loco(*words)

        error = result.stderr
        for text, placeholder in dict(placeholders).items():
            error = error.replace(text, placeholder)
        assert result.exit_code == exit_code, result.output
        assert error.startswith("error: ")
        assert "this is a bug" not in error
        assert [name for name in names if name not in error] == []
        assert result.stdout == ""
        assert files_of(tmp_path) == before
        if is_same:
            assert error == last[-1]
        else:
            golden(error)
        last.append(error)

    return run


def files_of(folder):
    """Return the size and the modification time of each file below a folder."""
    stats = {path: path.lstat() for path in folder.rglob("*")}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}
