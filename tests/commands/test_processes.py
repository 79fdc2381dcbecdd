"""A localization that two processes share, on this machine's CPU."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from loco_cli.cli.app import app

LOCALIZE = [
    *("localize", "van gogh style", "--prompt", "a picture by {subject}", "--width", "2"),
    *("--seeds", "1", "--steps", "1", "--no-cache", "--device", "cpu", "--batch-size", "1"),
]
LAUNCHER = ["-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu"]


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def launched(rank, *arguments, port):
    """Start one of two processes as a launcher would."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": str(rank)}
    return start("-m", "loco_cli", *arguments, RANK=str(rank), WORLD_SIZE="2", **where)


def test_two_processes_find_what_one_finds(tmp_path):
    """
    The same document bit for bit, printed and written once.
    """
    ports = ("--num_processes", "2", "--main_process_port", free_port())
    two = start(
        *(*LAUNCHER, *ports, "-m", "loco_cli", *LOCALIZE, "--json"),
        *("--output", str(tmp_path / "found")),
    )
    one = start("-m", "loco_cli", *LOCALIZE, "--json")
    (together, said), (alone, _) = two.communicate(), one.communicate()

    assert two.returncode == one.returncode == 0, said
    documents = json.loads(together), json.loads(alone)
    for document in documents:
        del document["seconds"]
    assert documents[0] == documents[1]
    assert said.count("loading tiny 1/1") == said.count("wrote ") == 1
    names = {path.name for path in (tmp_path / "found").iterdir()}
    assert names == {"localization.json", "sheet.png", "report.html"}


def test_where_one_fails_all_end_with_its_error():
    """
    What only the second process lacks is said by the first, once; both exit with the code of it.
    """
    port = free_port()
    first = launched(0, *LOCALIZE, port=port)
    second = launched(1, *LOCALIZE, "--scorer", "nowhere", port=port)
    (_, said), (out, err) = first.communicate(), second.communicate()

    assert first.returncode == second.returncode == 2
    assert said.count("error: scorer `nowhere` is not a folder") == 1
    assert "Traceback" not in said
    assert out == err == ""


def test_where_one_is_killed_the_other_does_not_wait():
    """
    A process that is gone is missed, and the one that speaks says so.
    """
    port = free_port()
    first = launched(0, *LOCALIZE, "--seeds", "99", port=port)
    second = launched(1, *LOCALIZE, "--seeds", "99", port=port)
    for line in first.stderr:
        if line.startswith("localizing van gogh, ranking"):
            break
    second.send_signal(signal.SIGKILL)
    _, said = first.communicate()
    second.communicate()

    assert first.returncode == 1
    assert "error: another process of this run ended before finishing its work" in said


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["models", "list"], "`loco models`"),
        (["edit", "remove_style"], "`loco edit`"),
        (["localize", "monet style", "--method", "causal-trace"], "causal tracing"),
        (["localize", "monet style", "--method", "neurons"], "the neuron search"),
    ],
)
def test_what_one_process_does_is_not_done_twice(arguments, what, monkeypatch, capfd):
    """
    Several processes share localizations alone; all else is refused, by the one that speaks.
    """
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("MASTER_ADDR", "nowhere")):
        monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as ended:
        app(arguments)

    assert ended.value.code == 2
    assert f"{what} runs in one process, but 2 were launched" in capfd.readouterr().err
