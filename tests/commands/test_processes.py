"""Localizations shared by two processes on one CPU."""

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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def launched(rank, *arguments, port):
    """Start one of two processes as a launcher would."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": str(rank)}
    return start("-m", "loco_cli", *arguments, RANK=str(rank), WORLD_SIZE="2", **where)


def test_two_processes(tmp_path):
    """
    Two processes give the same document as one, bit for bit, printed and written once.
    """
    ports = ("--num_processes", "2", "--main_process_port", free_port())
    two = start(
        *(*LAUNCHER, *ports, "-m", "loco_cli", *LOCALIZE, "--json"),
        *("--output", str(tmp_path / "found")),
    )
    one = start("-m", "loco_cli", *LOCALIZE, "--json")
    (together, stderr), (alone, _) = two.communicate(), one.communicate()

    assert two.returncode == one.returncode == 0, stderr
    documents = json.loads(together), json.loads(alone)
    for document in documents:
        del document["seconds"]
    assert documents[0] == documents[1]
    assert stderr.count("loading tiny 1/1") == stderr.count("wrote ") == 1
    names = {path.name for path in (tmp_path / "found").iterdir()}
    assert names == {"localization.json", "sheet.png", "report.html"}


def test_error_in_one_process():
    """
    The first process prints an error of the second, once, and both exit with its code.
    """
    port = free_port()
    first = launched(0, *LOCALIZE, port=port)
    second = launched(1, *LOCALIZE, "--scorer", "nowhere", port=port)
    (_, stderr), (out, err) = first.communicate(), second.communicate()

    assert first.returncode == second.returncode == 2
    assert stderr.count("error: ") == stderr.count("nowhere") == 1
    assert "Traceback" not in stderr
    assert out == err == ""


def test_killed_process():
    """
    If a process is killed, the other ends with an error.
    """
    port = free_port()
    first = launched(0, *LOCALIZE, "--seeds", "99", port=port)
    second = launched(1, *LOCALIZE, "--seeds", "99", port=port)
    for line in first.stderr:
        if line.startswith("localizing van gogh, ranking"):
            break
    second.send_signal(signal.SIGKILL)
    _, stderr = first.communicate()
    second.communicate()

    assert first.returncode == 1
    assert stderr.count("error: ") == 1
    assert "another process" in stderr


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["models", "list"], "`loco models`"),
        (["edit", "remove_style"], "`loco edit`"),
        (["localize", "monet style", "--method", "causal-trace"], "causal tracing"),
        (["localize", "monet style", "--method", "neurons"], "the neuron search"),
    ],
)
def test_command_for_one_process(arguments, what, monkeypatch, capfd):
    """
    Commands and methods that cannot be shared are refused for several processes.
    """
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("MASTER_ADDR", "nowhere")):
        monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as ended:
        app(arguments)

    assert ended.value.code == 2
    error = capfd.readouterr().err
    assert what in error
    assert "2" in error
