"""
Compare two versions of `loco` byte for byte: the same commands on the same files.

    python -m tests.benchmarks.equality inputs DIR
    python -m tests.benchmarks.equality run CHECKOUT INPUTS OUT [--quick] [--only TEXT] [--keep]
    python -m tests.benchmarks.equality compare OUT_A OUT_B [--quick] [--only TEXT]

`inputs` builds small families in every layout, once, with the tree that is at hand. `run` goes
through the command lines of `equality_cases.py` with the package of CHECKOUT and writes a record of
each case to OUT; it goes on where it was stopped, and OUT/progress.log tells how far it is.
`compare` prints a table and every inequality, and exits with 1 where there is one. `--quick` takes
a part of the cases: 5 minutes of one core, all take an hour.

What must be equal: exit codes, the bytes of every file, and documents but for `seconds`, `command`
and the version. Reports and cards have only to be there; sheets, plans and what errors say are
compared and told apart, and change no exit code. Where the versions of the trees differ, so do the
stamps of files, and of these the tensors and the other metadata are compared.

A command runs in a process that is forked from this one, which has loaded libraries and nothing of
`loco`, with one thread and the clock at `SOURCE_DATE_EPOCH`. All cases of a run share a cache that
begins empty; plans have one each.
"""

import argparse
import hashlib
import importlib
import json
import multiprocessing
import os
import platform
import re
import resource
import runpy
import shutil
import struct
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.benchmarks.equality_cases import Case, all_cases, build
from tests.benchmarks.equality_verdict import compare

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
FIXED = {
    **dict.fromkeys(THREADS, "1"),
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "SOURCE_DATE_EPOCH": "1700000000",
    "TOKENIZERS_PARALLELISM": "false",
}
LIBRARIES = {
    "diffusers": ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "IFPipeline"),
    "transformers": ("CLIPModel", "CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel"),
    **dict.fromkeys(("jinja2", "numpy", "PIL.Image", "pydantic", "safetensors.torch"), ()),
    **dict.fromkeys(("rich.progress", "tokenizers", "torch", "typer", "yaml"), ()),
}
WEIGHTS = ".safetensors"


def run(checkout: Path, inputs: Path, out: Path, args: argparse.Namespace) -> None:
    """Run every case that has no record yet, and write one."""
    cases = all_cases(inputs)
    todo = [case for case in cases if case.is_quick or not args.quick]
    todo = [case for case in todo if args.only in case.name]
    out.mkdir(parents=True, exist_ok=True)
    _settle(checkout, out)
    _check_same(out / "run.json", _facts(checkout, inputs))
    expected = {case.name: case.is_quick for case in cases}
    (out / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    with (out / "progress.log").open("a") as progress:
        for n, case in enumerate(todo, 1):
            if (out / "cases" / f"{case.name}.json").exists():
                continue
            started, before = time.monotonic(), _spent()
            codes = _run_case(case, inputs, out, is_kept=args.keep)
            took = f"{time.monotonic() - started:.1f} s, {_spent() - before:.1f} of a core"
            line = f"{n}/{len(todo)} {case.name}: exits {codes}, {took}, {_spent():.0f} in all"
            print(line, flush=True)
            print(line, file=progress, flush=True)


def _spent() -> float:
    """Return the seconds of a core that commands took so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _settle(checkout: Path, out: Path) -> None:
    """Make this process what commands are forked from: its environment, path and libraries."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    places = {name: str(out / "home") for name in ("HOME", "HF_HOME", "XDG_STATE_HOME")}
    os.environ.clear()
    os.environ.update({**kept, **FIXED, **places, "PYTHONPATH": str(checkout)})
    os.environ["TMPDIR"] = str(out / "tmp")
    for folder in ("home", "tmp"):
        (out / folder).mkdir(exist_ok=True)
    sys.path.insert(0, str(checkout))
    sys.pycache_prefix = str(out / "pycache")
    package = find_spec("loco_cli")
    assert package
    assert package.origin
    assert Path(package.origin).is_relative_to(checkout), f"`loco_cli` is {package.origin}"
    for name, parts in LIBRARIES.items():
        module = importlib.import_module(name)
        for part in parts:
            getattr(module, part)
    assert not any(name.startswith("loco_cli") for name in sys.modules)
    n_threads = len(list(Path("/proc/self/task").iterdir()))
    assert n_threads == 1, "a library has threads, which no fork takes on"


def _facts(checkout: Path, inputs: Path) -> dict[str, str]:
    """Return the version and the digests on which the records of a run depend."""
    parts = (checkout / "loco_cli", checkout / "recipes")
    code = [path for part in parts for path in part.rglob("*") if path.suffix != ".pyc"]
    given = [path for path in inputs.rglob("*") if "homes" not in path.parts]
    text = (checkout / "loco_cli" / "__init__.py").read_text()
    found = re.search(r'__version__ = "(.+)"', text)
    return {
        "version": found[1] if found else "",
        "checkout": _digest_of(checkout, code),
        "inputs": _digest_of(inputs, given),
        "machine": f"{platform.machine()}, {_processor()}",
        **{name: version(name) for name in ("torch", "numpy", "diffusers", "transformers")},
        "python": platform.python_version(),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line for line in lines if line.startswith("model name")), "").partition(": ")[2]


def _digest_of(root: Path, paths: Iterable[Path]) -> str:
    digests = {
        path.relative_to(root).as_posix(): _digest(path.read_bytes())
        for path in paths
        if path.is_file()
    }
    return _digest(json.dumps(digests, sort_keys=True).encode())


def _check_same(path: Path, facts: Mapping[str, str]) -> None:
    """Write what a run depends on; end the program where an earlier part depended on other."""
    if path.exists():
        before = json.loads(path.read_text())
        changed = [name for name in facts if before.get(name) != facts[name]]
        if changed:
            raise SystemExit(
                f"{path.parent} was made with other {', '.join(changed)}: take another"
            )
    path.write_text(json.dumps(facts, indent=1) + "\n")


def _run_case(case: Case, inputs: Path, out: Path, *, is_kept: bool) -> list[int]:
    """Run a case in a folder of its own, write its record, and return its exit codes."""
    folder, told, cache = out / "work" / case.name, out / "tmp" / "told", out / "cache"
    shutil.rmtree(folder, ignore_errors=True)
    for place in (folder, told):
        place.mkdir(parents=True, exist_ok=True)
    if case.is_plan:
        cache = out / "tmp" / "cache"
        shutil.rmtree(cache, ignore_errors=True)
    environment = {
        "XDG_CACHE_HOME": str(cache),
        "XDG_CONFIG_HOME": str(inputs / "homes" / case.home),
    }
    steps = []
    for step in case.steps:
        words = [word.replace("{inputs}", str(inputs)) for word in step]
        child = multiprocessing.get_context("fork").Process(
            target=_become_loco, args=(words, folder, told, environment)
        )
        child.start()
        child.join()
        shown, said = ((told / name).read_text() for name in ("stdout", "stderr"))
        steps.append({"words": step, "code": child.exitcode, "shown": shown, "said": said})
    record = {"is_plan": case.is_plan, "steps": steps, "files": _files(folder)}
    path = out / "cases" / f"{case.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    if not is_kept:
        shutil.rmtree(folder)
    return [step["code"] for step in steps]


def _become_loco(
    words: list[str], folder: Path, told: Path, environment: Mapping[str, str]
) -> None:
    """Be `python -m loco_cli` in a folder, the streams going to files."""
    os.environ.update(environment)
    os.chdir(folder)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(told / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.argv = ["loco", *words]
    try:
        runpy.run_module("loco_cli", run_name="__main__", alter_sys=True)
    except Exception:  # a crash of the command is a result to compare, with exit code 70
        traceback.print_exc()
        sys.exit(70)


def _files(folder: Path) -> dict[str, Any]:
    """Return the contents of every file in a folder: documents as text, other files as digests."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = {"link": str(path.readlink())}
        elif path.is_file():
            found[name] = _content(path)
    return found


def _content(path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    content: dict[str, Any] = {"bytes": len(raw), "sha256": _digest(raw)}
    if path.suffix == ".json" and str(json.loads(raw).get("schema")).startswith("loco."):
        return {"document": json.loads(raw)}
    if path.suffix in (WEIGHTS, ".undo"):
        return {**content, **_parts(raw)}
    return content


def _parts(raw: bytes) -> dict[str, Any]:
    """Return the metadata of a safetensors file, and dtype, shape and digest of every tensor."""
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:start])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        digest = _digest(raw[start + begin : start + end])
        tensors[name] = f"{entry['dtype']} {entry['shape']} {digest[:16]}"
    return {"metadata": metadata, "tensors": tensors}


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def main() -> None:
    """Build inputs, run a tree, or compare two runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("inputs").add_argument("dir", type=Path)
    for verb, places in {"run": ("checkout", "inputs", "out"), "compare": ("a", "b")}.items():
        own = verbs.add_parser(verb)
        for place in places:
            own.add_argument(place, type=lambda text: Path(text).resolve())
        own.add_argument("--quick", action="store_true", help="a part of the cases")
        own.add_argument("--only", default="", help="cases whose name holds this")
    verbs.choices["run"].add_argument("--keep", action="store_true", help="keep what is written")
    args = parser.parse_args()
    if args.verb == "inputs":
        build(args.dir.resolve())
    elif args.verb == "run":
        run(args.checkout, args.inputs, args.out, args)
    elif not compare(args.a, args.b, args.only, is_quick=args.quick):
        sys.exit(1)


if __name__ == "__main__":
    main()
