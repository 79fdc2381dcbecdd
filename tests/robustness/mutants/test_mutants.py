"""The catalog of mutants fits the package, and covers every room."""

from collections import Counter
from pathlib import Path

from tests.robustness.mutants.catalog import MUTANTS, PACKAGE

ROOT = Path(__file__).parents[3]
NOT_ROOMS = {"docs"}  # pages, not code


def test_every_mutant_can_be_planted():
    """
    The snippet of each mutant occurs exactly once, and the mutated file compiles.
    """
    failures = []
    for mutant in MUTANTS:
        try:
            compile(mutant.source(ROOT), mutant.file, "exec")
        except (OSError, SyntaxError, ValueError) as error:
            failures.append(f"{mutant.name}: {error}")
        if not (mutant.module_tests(ROOT) or mutant.room_tests(ROOT)):
            failures.append(f"{mutant.name}: room `{mutant.room}` has no tests")

    assert failures == []


def test_every_room_has_two_mutants():
    """
    There are forty mutants with forty names, and at least two of them in each room.
    """
    folders = {path.parent.name for path in (ROOT / PACKAGE).glob("*/__init__.py")} - NOT_ROOMS
    n_of_room = Counter(mutant.room for mutant in MUTANTS)

    assert len({mutant.name for mutant in MUTANTS}) == 40
    assert {room for room in (*folders, "records") if n_of_room[room] < 2} == set()
