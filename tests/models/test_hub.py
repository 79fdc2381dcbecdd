"""The errors of a hub that refuses or fails, simulated by a small local server."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).parents[2]
COMMIT = "c0ffee" + "0" * 34
CONFIG, WEIGHTS = {"model_index.json": b"{}"}, b"w" * 20_000

# the response to a request for a repository: status, headers, body
ANSWERS = {
    "gated": (401, {"X-Error-Code": "GatedRepo"}, b"{}"),
    "gated-to-you": (403, {"X-Error-Code": "GatedRepo"}, b"{}"),
    "vanished": (404, {"X-Error-Code": "RepoNotFound"}, b"{}"),
    "private": (401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Invalid"}, b"{}"),
    "without-main": (404, {"X-Error-Code": "RevisionNotFound"}, b"{}"),
    "disabled": (403, {"X-Error-Message": "Access to this resource is disabled."}, b"{}"),
    "forbidden": (403, {}, b"{}"),
    "signed-out": (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b"{}"),
    "down": (503, {}, b"later"),
    "not-the-hub": (200, {}, b"<html>log in to this network</html>"),
}
# the files of each repository; the server refuses those named `closed`
REPOSITORIES = {
    "empty": CONFIG,
    "gated-files": {**CONFIG, "unet/closed.safetensors": WEIGHTS},
    "half": {**CONFIG, "unet/a.safetensors": WEIGHTS, "vae/closed.safetensors": WEIGHTS},
    "too-much": {**CONFIG, "unet/a.safetensors": WEIGHTS},
}
NAMES = (*ANSWERS, "gated-files", "cut", "empty", "too-much")
SCRIPT = """
import json, resource
from typer.testing import CliRunner
from loco_cli.cli.app import app

ends = {}
for name in REQUESTED:
    words = ["edit", "van gogh style", "--layers", "8", "-o", "out", "--quiet", "--model"]
    if name == "too-much":
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    end = CliRunner().invoke(app, [*words, f"them/{name}"])
    ends.setdefault(name, []).append((end.exit_code, end.stdout, end.stderr))
print(json.dumps(ends))
"""


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface that a download uses."""

    def do_GET(self):
        kind, *rest = self.path.lstrip("/").partition("?")[0].split("/")
        if kind == "api":  # /api/models/them/NAME[/revision/main | /tree/COMMIT]
            name, part = rest[2], rest[3:4]
            self.respond(name, self.tree(name) if part == ["tree"] else self.info(name))
        else:  # /them/NAME/resolve/COMMIT/FILE
            name, file = rest[0], "/".join(rest[3:])
            if "closed" in file:
                self.send(*ANSWERS["gated"])
            else:
                content = REPOSITORIES[name][file]
                self.send(200, {"ETag": f'"{file}"', "X-Repo-Commit": COMMIT}, content)

    do_HEAD = do_GET

    def respond(self, name, document):
        if name == "cut":
            self.close_connection = True
        elif name in ANSWERS:
            self.send(*ANSWERS[name])
        else:
            self.send(200, {}, json.dumps(document).encode())

    def info(self, name):
        return {"id": f"them/{name}", "sha": COMMIT}

    def tree(self, name):
        return [
            {"type": "file", "path": path, "size": len(content), "oid": path}
            for path, content in REPOSITORIES[name].items()
        ]

    def send(self, status, headers, body):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """Run an edit of each repository in one process, and two edits of `half`."""
    folder = tmp_path_factory.mktemp("hub")
    script = SCRIPT.replace("REQUESTED", repr([*NAMES[:-1], "half", "half", NAMES[-1]]))
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        variables = {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(folder / "cache"),
            "PYTHONPATH": str(ROOT),
        }
        (folder / "work").mkdir()
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=folder / "work",
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert list((folder / "work").iterdir()) == []
    return json.loads(done.stdout)


def test_failed_downloads_are_reported(ends, golden):
    """A missing, closed or broken repository exits with 1, with the cause and the way out."""
    for name in NAMES:
        ((code, out, err),) = ends[name]
        assert (code, out) == (1, ""), name
        assert f"`them/{name}`" in err
        golden("\n".join(err.splitlines()[-3:]))


def test_an_incomplete_download_is_used_if_the_rest_fails(ends):
    """The first edit reports the failed download; the second uses and checks the cached files."""
    (_, _, first), (code, _, second) = ends["half"]

    assert "`them/half` is gated" in first
    assert code == 1
    assert "unet/a.safetensors`" in second
