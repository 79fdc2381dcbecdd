"""Rows that begin alike, held once."""

import pytest

from loco_cli.encoders.prefixes import prefixes_of

ROWS = [(7, 1, 2), (7, 1, 3, 4), (7,), (7, 1, 2)]


def test_each_beginning_is_held_once():
    """
    Four rows have five distinct beginnings, of which each is one token longer than another.
    """
    found = prefixes_of(ROWS)

    assert found.tokens.tolist() == [7, 1, 2, 3, 4]
    assert found.positions.tolist() == [0, 1, 2, 2, 3]
    assert found.paths.tolist() == [[0, 1, 2, 2], [0, 1, 3, 4], [0, 0, 0, 0], [0, 1, 2, 2]]
    assert found.homes.tolist() == [0, 1, 2, 6, 7]


@pytest.mark.parametrize("rows", [ROWS, ROWS[::-1], [(3,)]])
def test_paths_spell_the_rows(rows):
    """
    The tokens along a path are its row; a home is where its own node stands, and homes ascend.
    """
    found = prefixes_of(rows)

    for path, row in zip(found.paths, rows, strict=True):
        assert tuple(found.tokens[path].tolist())[: len(row)] == row
    assert found.paths.flatten()[found.homes].tolist() == list(range(len(found.tokens)))
    assert found.homes.tolist() == sorted(found.homes.tolist())
