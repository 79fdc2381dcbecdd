"""The seeds of pictures: those that choose an edit, and those that judge it."""

_FIRST_EVALUATE_SEED = 1000
MAX_SEEDS = _FIRST_EVALUATE_SEED  # with more, a picture would judge an edit that it has chosen
STRENGTH_SEEDS = (100, 101)  # of the pictures that choose how strong an edit is


def localize_seeds(n: int) -> tuple[int, ...]:
    """Return the `n` seeds that layers, neurons and states are looked for with: 0, 1, ..."""
    return tuple(range(n))


def evaluate_seeds(n: int) -> tuple[int, ...]:
    """Return the `n` seeds that judge an edit: 1000, 1001, ..."""
    return tuple(range(_FIRST_EVALUATE_SEED, _FIRST_EVALUATE_SEED + n))
