"""An edit that the command line made, for the commands that read one."""

import pytest
from typer.testing import CliRunner

from loco_cli.cli.app import app


@pytest.fixture(scope="session")
def edited(tmp_path_factory):
    """`tiny` without the style of Van Gogh; only read."""
    output = tmp_path_factory.mktemp("edited") / "edited"
    arguments = ("edit", "van gogh style", "--layers", "8,9", "--output", str(output))
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    return output
