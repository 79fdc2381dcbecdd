"""
Try the mutants, and print which test kills each of them.

    python -m tests.robustness.mutants [--only NAME,...] [--rooms ROOM,...] [--room-tests-only]
                                       [--root CHECKOUT] [--results JSON] [--table MARKDOWN]

The tests of the mutated module run first, then those of its room. Only a mutant that survives them
meets the rest of the suite. Outcomes are added to `--results`, and a mutant whose outcome is known
is not tried again. The exit code is 1 if a mutant survives the whole suite.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.robustness.mutants.catalog import MUTANTS, Mutant
from tests.robustness.mutants.trials import Laboratory, Trial

_ROOT = Path(__file__).parents[3]
_HEAD = """\
# Mutants of commit {}

{} of {} are killed.

| mutant | room | fault | killed by |
|---|---|---|---|"""


def main() -> None:
    """Run the trials that the command line selects."""
    parser = argparse.ArgumentParser(description="Plant bugs in a copy of the package.")
    parser.add_argument("--only", default="", help="names of mutants")
    parser.add_argument("--rooms", default="", help="rooms whose mutants are tried")
    parser.add_argument("--room-tests-only", action="store_true")
    parser.add_argument("--root", type=Path, default=_ROOT)
    parser.add_argument("--results", type=Path, default=_ROOT / "build" / "mutants.json")
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    mutants = _selected(_words(options.only), _words(options.rooms))
    trials = _read(options.results)
    with tempfile.TemporaryDirectory(prefix="loco-mutants-") as home:
        laboratory = Laboratory(Path(home).resolve(), options.root.resolve())
        for mutant in mutants:
            known = trials.get(mutant.name)
            if not known or not (known.is_final or options.room_tests_only):
                trial = laboratory.try_out(
                    mutant,
                    with_rest=not options.room_tests_only,
                    has_passed_room=known is not None,
                )
                trials[mutant.name] = trial
                _write(options.results, trials.values())
            print(_line(mutant, trials[mutant.name]), flush=True)
    n_killed = sum(trials[mutant.name].killed_by is not None for mutant in mutants)
    print(f"{n_killed} of {len(mutants)} mutants killed")
    if options.table:
        head = _HEAD.format(_commit(options.root), n_killed, len(mutants))
        rows = [_row(mutant, trials[mutant.name]) for mutant in mutants]
        options.table.write_text("\n".join([head, *rows, ""]), "utf-8")
    sys.exit(any(trials[m.name].is_whole and not trials[m.name].killed_by for m in mutants))


def _selected(names: list[str], rooms: list[str]) -> list[Mutant]:
    unknown = set(names) - {mutant.name for mutant in MUTANTS}
    unknown |= set(rooms) - {mutant.room for mutant in MUTANTS}
    if unknown:
        sys.exit(f"no mutant or room is called {', '.join(sorted(unknown))}")
    return [
        mutant
        for mutant in MUTANTS
        if (not names or mutant.name in names) and (not rooms or mutant.room in rooms)
    ]


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _read(path: Path) -> dict[str, Trial]:
    found = json.loads(path.read_text("utf-8")) if path.exists() else []
    return {entry["mutant"]: Trial(**entry) for entry in found}


def _write(path: Path, trials: Iterable[Trial]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([vars(trial) for trial in trials], indent=1), "utf-8")


def _outcome(trial: Trial) -> str:
    if trial.killed_by:
        return trial.killed_by.removeprefix("tests/")
    return "survived" if trial.is_whole else "survived the tests of its room"


def _line(mutant: Mutant, trial: Trial) -> str:
    return f"{mutant.name} ({mutant.room}, {trial.seconds:.0f} s): {_outcome(trial)}"


def _commit(root: Path) -> str:
    command = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _row(mutant: Mutant, trial: Trial) -> str:
    outcome = _outcome(trial)
    cell = f"`{outcome}`" if trial.killed_by else f"**{outcome}**"
    return f"| `{mutant.name}` | {mutant.room} | {mutant.fault} | {cell} |"


if __name__ == "__main__":
    main()
