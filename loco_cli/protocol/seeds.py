"""Seeds of pictures: those that choose an edit, and those that judge it."""

_FIRST_EVALUATE_SEED = 1000
MAX_SEEDS = _FIRST_EVALUATE_SEED  # with more, the same seed would choose and judge an edit
STRENGTH_SEEDS = (100, 101)  # seeds of the pictures that choose the strength of an edit


def localize_seeds(n: int) -> tuple[int, ...]:
    """Return the `n` seeds of a localization: 0, 1, ..."""
    return tuple(range(n))


def evaluate_seeds(n: int) -> tuple[int, ...]:
    """Return the `n` seeds that judge an edit: 1000, 1001, ..."""
    return tuple(range(_FIRST_EVALUATE_SEED, _FIRST_EVALUATE_SEED + n))
