"""
The share of the package that one command uses, and the sizes of the rooms.

    python -m tests.benchmarks.footprint CHECKOUT [CHECKOUT] [--json FILE]

Each checkout runs, in child processes with an empty home and cache, `loco edit remove_style` with
named layers on `tiny` and one `loco localize`; this takes about a minute. The figures of two
checkouts stand side by side. `--json` saves them with all names and pairs of functions. Of the
layout only `loco_cli/__main__.py` with its `main` and the module `loco_cli.cli.edit` are assumed.

What is counted, of code whose file is a `.py` file of `loco_cli`, in all threads:

- Function: a distinct code object that ran. Methods, properties, closures and generators count.
  Lambdas, comprehensions, class and module bodies and special methods (`__init__`, `__call__`)
  do not, and neither do the methods that dataclasses and pydantic generate.
- File: a file in which such a function ran.
- Type: a class of the package, other than an enumeration or a protocol, of which an instance was
  constructed, however that happened: `__new__` of every class is watched.
- Call edge: a pair of files, caller and callee. The caller is the nearest frame of the package, so
  that a call through a library (typer, contextlib, pydantic) counts. Here lambdas, comprehensions
  and special methods do count. A callback belongs to the file that defines it, so a call of one
  that was passed down is an edge upwards; so is a generator that was passed down and is resumed.
  Two-way pairs are listed with the functions that make them, to show which of these it was.
- Room: the folder of a file, however deep; a module beside the folders is a room of its own.
- Check: a function whose name begins with `check` or `locate`, after any underscores. Each of its
  calls counts; a generator that is resumed does not count again.
- While running: without what happens while a module of the package is being imported.

What is counted, of the files:

- Import closure: the modules that the command's module imports, directly or not, and itself.
  Imports inside functions count, those under TYPE_CHECKING do not.
- Lines: of `.py` files of 5 lines or more. Here a room is a folder or module at the top level.
- Public names: functions and classes without an underscore; not methods or inner functions.
"""

import argparse
import ast
import builtins
import enum
import inspect
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

PACKAGE = "loco_cli"
MODEL = ("--model", "tiny")
COMMANDS = {
    "edit": ("edit", "remove_style", *MODEL, "--layer-range", "8", "10"),
    "localize": ("localize", "van gogh style", *MODEL, "--width", "2", "--seeds", "1"),
}
COMMAND_MODULE = f"{PACKAGE}.cli.edit"
RECORD = "--record"  # how a child process is asked for a record
HOMES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
N_LINES_OF_A_FILE = 5  # shorter files only mark a package
N_SHOWN = 5  # pairs of functions in the usual direction of a two-way pair
# run_path leaves sys.path alone, so that no module beside this file hides another
START = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"


class Call(NamedTuple):
    """
    A count of calls between two functions: `Call("plan.py", "Plan.of", 12, "cli/edit.py", ...)`.

    Files are relative to the package. The caller is empty where no code of the package called.
    """

    file: str
    name: str
    line: int
    caller_file: str
    caller_name: str
    is_import: bool
    is_main_thread: bool
    n: int


class Recorder:
    """Counts calls and constructed types of the package while a command runs in this process."""

    def __init__(self, package: Path) -> None:
        self.prefix = f"{package}{os.sep}"
        self.calls: Counter[tuple[CodeType, CodeType | None, bool, bool]] = Counter()
        self.types: set[tuple[str, bool]] = set()
        self._starts: dict[CodeType, int] = {}
        self._imports: Counter[int] = Counter()  # module bodies that a thread is inside of

    def run(self, arguments: Sequence[str]) -> None:
        """Run `loco` with some arguments and record it; raises SystemExit where it fails."""
        self._watch_new_classes()
        sys.argv = ["loco", *arguments]
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        try:
            import_module(f"{PACKAGE}.__main__").main()
        except SystemExit as end:
            if end.code:
                raise
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def document(self) -> dict[str, Any]:
        """Return the record as JSON: a row for each Call, and the types."""
        calls = [
            Call(*self._place(code), code.co_firstlineno, *self._place(caller), *flags, n)
            for (code, caller, *flags), n in self.calls.items()
        ]
        return {"calls": calls, "types": sorted(self.types)}

    def _place(self, code: CodeType | None) -> tuple[str, str]:
        if code is None:
            return "", ""
        name = getattr(code, "co_qualname", code.co_name)  # Python 3.10 has no qualified name
        return Path(code.co_filename.removeprefix(self.prefix)).as_posix(), name

    def _is_own(self, code: CodeType) -> bool:
        return code.co_filename.startswith(self.prefix) and code.co_filename.endswith(".py")

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if not self._is_own(code):
            return
        thread = threading.get_ident()
        if code.co_name == "<module>":
            self._imports[thread] += {"call": 1, "return": -1}.get(event, 0)
        elif event == "call" and code.co_flags & inspect.CO_OPTIMIZED:  # not a class body
            is_main_thread = thread == threading.main_thread().ident
            key = (code, self._caller(frame), self._imports[thread] > 0, is_main_thread)
            # a resumed generator is further on than a frame that starts
            self.calls[key] += self._starts.setdefault(code, frame.f_lasti) == frame.f_lasti

    def _caller(self, frame: FrameType) -> CodeType | None:
        """Return the code of the nearest frame of the package that a frame was called from."""
        caller = frame.f_back
        while caller and not self._is_own(caller.f_code):
            caller = caller.f_back
        return caller and caller.f_code

    def _watch_new_classes(self) -> None:
        """Have every class of the package that is defined from now on report its instances."""
        build_class = builtins.__build_class__

        def build(*arguments: Any, **keywords: Any) -> Any:
            built = build_class(*arguments, **keywords)
            if isinstance(built, type) and built.__module__.split(".")[0] == PACKAGE:
                self._watch(built)
            return built

        builtins.__build_class__ = build

    def _watch(self, kind: type) -> None:
        original: Callable[..., Any] = kind.__new__
        is_abstract = issubclass(kind, enum.Enum) or getattr(kind, "_is_protocol", False)
        if is_abstract or hasattr(original, "is_watched"):
            return

        def new(cls: type, /, *arguments: Any, **keywords: Any) -> Any:
            is_import = self._imports[threading.get_ident()] > 0
            self.types.add((f"{cls.__module__}.{cls.__qualname__}", is_import))
            is_plain = original is object.__new__  # it refuses further arguments
            return original(cls) if is_plain else original(cls, *arguments, **keywords)

        new.is_watched = True  # type: ignore[attr-defined] # a mark, read above
        kind.__new__ = staticmethod(new)  # type: ignore[assignment] # as Python does itself


def import_figures() -> dict[str, Any]:
    """Return the figures of the import graph of the package on this process's path."""
    from grimp import build_graph

    graph = build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)
    above = {module: graph.find_upstream_modules(module) for module in graph.modules}
    cyclic = sorted(m for m in above if any(m in above[other] for other in above[m]))
    closure = len(above[COMMAND_MODULE]) + 1
    return {"import closure": closure, "modules": len(above), "modules in cycles": cyclic}


def house_figures(package: Path) -> dict[str, Any]:
    """Return lines, files and public names of a package folder, and the lines of each room."""
    lines: Counter[str] = Counter()
    n_files = n_names = 0
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") < N_LINES_OF_A_FILE:
            continue
        n_files += 1
        n_names += sum(1 for _ in public_names(ast.parse(text)))
        lines[path.relative_to(package).parts[0]] += text.count("\n")
    total, tiny = lines.total(), lines["tiny"]
    largest, size = max(lines.items(), key=lambda room: room[1])
    return {
        "lines": total,
        "files": n_files,
        "public names": n_names,
        "public names per 1,000 lines": round(1000 * n_names / total, 1),
        "largest room": largest,
        "largest room, % of lines": round(100 * size / total, 1),
        "largest room, % without tiny": round(100 * size / (total - tiny), 1),
        "rooms": dict(lines.most_common()),
    }


def public_names(parent: ast.AST) -> Iterator[str]:
    """Yield the public functions and classes of a module, classes inside classes too."""
    is_class = isinstance(parent, ast.ClassDef)
    for node in ast.iter_child_nodes(parent):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        is_name = isinstance(node, ast.ClassDef) or (is_function and not is_class)
        if is_name and not node.name.startswith("_"):
            yield node.name
        if not is_function:
            yield from public_names(node)


def command_figures(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of one command from its record."""
    calls = [Call(*row) for row in record["calls"]]
    running = [call for call in calls if not call.is_import]
    main_thread = [call for call in calls if call.is_main_thread]
    edges = {(call.caller_file, call.file) for call in calls if call.caller_file}
    rooms = {(room_of(caller), room_of(callee)) for caller, callee in edges}
    types = {name for name, _ in record["types"]}
    return {
        "functions": len(functions(calls)),
        "functions, while running": len(functions(running)),
        "functions, main thread": len(functions(main_thread)),
        "files": len({file for file, _, _ in functions(calls)}),
        "files, while running": len({file for file, _, _ in functions(running)}),
        "types": len(types),
        "types, while running": len({name for name, is_import in record["types"] if not is_import}),
        "file edges": count_between(edges),
        "file edges, with calls inside a file": len(edges),
        "room edges": count_between(rooms),
        "room edges, with calls inside a room": len(rooms),
        "two-way pairs": two_way(calls),
        "calls of checks": count_checks(calls),
        "names": {"functions": sorted(functions(calls)), "types": sorted(types)},
    }


def functions(calls: Iterable[Call]) -> set[tuple[str, str, int]]:
    """Return the functions that ran, as file, name and line."""
    places = {(call.file, call.name, call.line) for call in calls}
    return {place for place in places if not last_part(place[1]).startswith(("<", "__"))}


def two_way(calls: Sequence[Call]) -> list[dict[str, Any]]:
    """Return the pairs of rooms that call each other, with the functions of each direction."""
    pairs: dict[tuple[str, str], set[str]] = {}
    for call in calls:
        if call.caller_file:
            arrow = f"{call.caller_file} {call.caller_name} -> {call.file} {call.name}"
            pairs.setdefault((room_of(call.caller_file), room_of(call.file)), set()).add(arrow)
    return [
        {"rooms": (a, b), "there": sorted(pairs[a, b]), "back": sorted(pairs[b, a])}
        for a, b in sorted(pairs)
        if a < b and (b, a) in pairs
    ]


def count_checks(calls: Iterable[Call]) -> dict[str, int]:
    """Return the number of runs of each check, in descending order."""
    counts: Counter[str] = Counter()
    for call in calls:
        if last_part(call.name).lstrip("_").startswith(("check", "locate")):
            counts[f"{call.name} ({call.file})"] += call.n
    return dict(sorted(counts.items(), key=lambda count: (-count[1], count[0])))


def count_between(edges: Iterable[tuple[str, str]]) -> int:
    """Return the number of edges between each pair of places."""
    return sum(caller != callee for caller, callee in edges)


def room_of(file: str) -> str:
    """Return the room of a file of the package: `checkpoint` of `checkpoint/slot.py`."""
    return file.rpartition("/")[0] or file


def last_part(name: str) -> str:
    """Return the name of a function without its class: `of` of `Plan.of`."""
    return name.rpartition(".")[2]


def measure(checkout: Path) -> dict[str, Any]:
    """Return all figures of a checkout; ends the program where there is none or a command fails."""
    checkout = checkout.resolve()
    if not (checkout / PACKAGE / "__main__.py").is_file():  # an installed package would be measured
        raise SystemExit(f"{checkout} is no checkout: it has no {PACKAGE}/__main__.py")
    commands = {
        name: command_figures(record(checkout, [*arguments, "--output", "result"]))
        for name, arguments in COMMANDS.items()
    }
    house = house_figures(checkout / PACKAGE) | record(checkout, [])
    return {"checkout": str(checkout), "commands": commands, "house": house}


def record(checkout: Path, arguments: Sequence[str]) -> Any:
    """Return the record of a command from a child process, or of the imports alone."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "record.json"
        places = {name: f"{folder}/{name}" for name in HOMES}
        settings = {"PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        child = [sys.executable, "-c", START, str(Path(__file__).resolve())]
        done = subprocess.run(
            [*child, RECORD, str(saved), str(checkout), *arguments],
            cwd=folder,
            env={**os.environ, **places, **settings, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"loco {' '.join(arguments)} failed in {checkout}\n{done.stderr}")
        return json.loads(saved.read_text(encoding="utf-8"))


def report(measured: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of the report, a column for each checkout."""
    yield from columns("checkout", [Path(figures["checkout"]).name for figures in measured])
    for command in COMMANDS:
        yield from ["", f"loco {command}"]
        yield from rows([figures["commands"][command] for figures in measured])
        yield from rows([figures["commands"][command]["calls of checks"] for figures in measured])
    yield from ["", "package"]
    yield from rows([figures["house"] for figures in measured])
    yield from ["", "lines of each room"]
    yield from rows([figures["house"]["rooms"] for figures in measured])
    for figures in measured:
        for command in COMMANDS:
            yield from ["", f"two-way pairs of loco {command} in {figures['checkout']}"]
            for pair in figures["commands"][command]["two-way pairs"]:
                yield from describe(pair)


def rows(tables: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each figure of the tables; a list is shown as its length."""
    for name in dict.fromkeys(name for table in tables for name in table):
        values = [table.get(name, "-") for table in tables]
        if not any(isinstance(value, dict) for value in values):
            shown = [len(value) if isinstance(value, list) else value for value in values]
            yield from columns(name, shown)


def columns(name: str, values: Sequence[Any]) -> Iterator[str]:
    """Yield one line: a name and its values."""
    yield f"  {name:<62}" + "".join(f"{value!s:>14}" for value in values)


def describe(pair: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a two-way pair: the rarer direction in full, some of the other."""
    yield f"  {' <-> '.join(pair['rooms'])}"
    rare, usual = sorted((pair["there"], pair["back"]), key=len)
    yield from (f"    {arrow}" for arrow in rare)
    yield f"    and {len(usual)} the other way"
    yield from (f"      {arrow}" for arrow in usual[:N_SHOWN])


def save_record(saved: str, checkout: str, *arguments: str) -> None:
    """Save what this process records of a command, or of the imports without arguments."""
    if arguments:
        recorder = Recorder(Path(checkout) / PACKAGE)
        recorder.run(arguments)
        found = recorder.document()
    else:
        found = import_figures()
    Path(saved).write_text(json.dumps(found), encoding="utf-8")


def main() -> None:
    """Measure the checkouts and print their figures, or record one command as a child does."""
    if sys.argv[1:2] == [RECORD]:
        save_record(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkouts", nargs="+", type=Path, metavar="CHECKOUT")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save all figures")
    args = parser.parse_args()
    measured = [measure(checkout) for checkout in args.checkouts]
    if args.json:
        args.json.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print("\n".join(report(measured)))


if __name__ == "__main__":
    main()
