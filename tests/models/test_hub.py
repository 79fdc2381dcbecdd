"""A hub that refuses, breaks or vanishes: a small server in its place, and what `loco` says."""

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
OWN = "give the path of a folder or `.safetensors` file"

# what the hub answers when asked for a repository: status, headers, body
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
# the repositories that it has, and of which it withholds files
REPOSITORIES = {
    "empty": CONFIG,
    "gated-files": {**CONFIG, "unet/closed.safetensors": WEIGHTS},
    "half": {**CONFIG, "unet/a.safetensors": WEIGHTS, "vae/closed.safetensors": WEIGHTS},
    "too-much": {**CONFIG, "unet/a.safetensors": WEIGHTS},
}
# of the repository, the sentence and the way out
SAID = {
    "gated": (
        "model `them/gated` is gated",
        "accept its licence at https://huggingface.co/them/gated, then `hf auth login`",
    ),
    "gated-to-you": (
        "model `them/gated-to-you` is gated",
        "accept its licence at https://huggingface.co/them/gated-to-you, then `hf auth login`",
    ),
    "gated-files": (
        "model `them/gated-files` is gated",
        "accept its licence at https://huggingface.co/them/gated-files, then `hf auth login`",
    ),
    "vanished": (
        "the hub has no model `them/vanished`, or none that you may see",
        f"{OWN}; for a private one there is `hf auth login`",
    ),
    "private": (
        "the hub has no model `them/private`, or none that you may see",
        f"{OWN}; for a private one there is `hf auth login`",
    ),
    "without-main": ("the hub has no branch `main` of model `them/without-main`", OWN),
    "disabled": ("the hub has disabled model `them/disabled`", OWN),
    "forbidden": (
        "the hub does not let this machine's token read model `them/forbidden` (403)",
        "`hf auth login` gives it another token, `hf auth logout` none",
    ),
    "signed-out": (
        "the hub does not let this machine's token read model `them/signed-out` (401)",
        "`hf auth login` gives it another token, `hf auth logout` none",
    ),
    "down": (
        "the hub answers 503 where model `them/down` should be",
        f"try again later, or {OWN}",
    ),
    "not-the-hub": ("what the hub answers for model `them/not-the-hub` makes no sense", OWN),
    "cut": (
        "model `them/cut` is not on this machine, and the hub cannot be reached",
        f"connect to the network, or {OWN}",
    ),
    "empty": ("model `them/empty` has no `unet/*.safetensors`, neither here nor on the hub", OWN),
    "too-much": (
        "model `them/too-much` cannot be kept in the hub's cache: file too large",
        "`HF_HOME` says where the cache is",
    ),
}
SCRIPT = """
import json, resource
from typer.testing import CliRunner
from loco_cli.cli.app import app

ends = {}
for name in NAMES:
    asked = ["edit", "van gogh style", "--layers", "8", "-o", "out", "--quiet", "--model"]
    if name == "too-much":
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    end = CliRunner().invoke(app, [*asked, f"them/{name}"])
    ends.setdefault(name, []).append((end.exit_code, end.stdout, end.stderr))
print(json.dumps(ends))
"""


class Hub(BaseHTTPRequestHandler):
    """What of the hub's interface a download asks for."""

    def do_GET(self):
        kind, *rest = self.path.lstrip("/").partition("?")[0].split("/")
        if kind == "api":  # /api/models/them/NAME[/revision/main | /tree/COMMIT]
            name, what = rest[2], rest[3:4]
            self.say(name, self.tree(name) if what == ["tree"] else self.info(name))
        else:  # /them/NAME/resolve/COMMIT/FILE
            name, file = rest[0], "/".join(rest[3:])
            if "closed" in file:
                self.answer(*ANSWERS["gated"])
            else:
                content = REPOSITORIES[name][file]
                self.answer(200, {"ETag": f'"{file}"', "X-Repo-Commit": COMMIT}, content)

    do_HEAD = do_GET

    def say(self, name, document):
        if name == "cut":
            self.close_connection = True
        elif name in ANSWERS:
            self.answer(*ANSWERS[name])
        else:
            self.answer(200, {}, json.dumps(document).encode())

    def info(self, name):
        return {"id": f"them/{name}", "sha": COMMIT}

    def tree(self, name):
        return [
            {"type": "file", "path": path, "size": len(content), "oid": path}
            for path, content in REPOSITORIES[name].items()
        ]

    def answer(self, status, headers, body):
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
    """How an edit of each repository ends, in one process; of "half" also how a second one does."""
    folder = tmp_path_factory.mktemp("hub")
    names = [name for name in SAID if name != "too-much"]
    script = SCRIPT.replace("NAMES", repr([*names, "half", "half", "too-much"]))
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        told = {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(folder / "cache"),
            "PYTHONPATH": str(ROOT),
        }
        (folder / "work").mkdir()
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=folder / "work",
            env={**os.environ, **told},
            capture_output=True,
            text=True,
            check=False,
        )
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert list((folder / "work").iterdir()) == []
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", SAID)
def test_what_the_hub_does_not_give_is_one_sentence(ends, name):
    """
    A repository that is gone, closed or broken is told with its way out, and nothing is written.
    """
    ((code, out, err),) = ends[name]
    message, hint = SAID[name]

    assert err.splitlines()[-3:] == [f"error: {message}", "", f"hint: {hint}"]
    assert (code, out) == (1, "")


def test_a_part_is_enough_where_the_rest_is_not_to_be_had(ends):
    """
    What is in the cache is used when the hub gives no more, and held against the rules as it is.
    """
    (_, _, at_first), (code, _, then) = ends["half"]

    assert "error: model `them/half` is gated" in at_first
    assert code == 1
    assert "unet/a.safetensors` is no safetensors file" in then
