"""
Registry of the methods for editing and for localizing.

Recipes and the command line offer these methods in this order. To add a method, add a row here and
write its module. The module is imported when the method runs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias


@dataclass(frozen=True)
class EditMethod:
    """
    A method that solves for new weights: `EDIT_METHODS["locoedit"]`.

    Attributes:
        name: The name in recipes and on the command line.
        paper: The address of the paper.
        site: The edited weights: the key and value projections of layers, or the first
            self-attention of every text encoder.
        module: The module with the functions `check`, `tensors` and `solve`; their signatures are
            in `editing.methods`.
        auto_ridge: The ridge of `ridge: auto`, in recipe notation.
        ladder: The ridges that a measured strength tries, weakest edit first; empty if the method
            has no strength to measure.
        settings: The keys of `edit` in a recipe that only this method reads.
    """

    name: str
    paper: str
    site: Literal["layers", "text-encoder"]
    module: str
    auto_ridge: str
    ladder: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class LocalizeMethod:
    """
    A method that localizes a concept: `LOCALIZE_METHODS["locogen"]`.

    Attributes:
        name: The name in recipes and on the command line.
        paper: The address of the paper.
        finds: The result: layers, neurons of layers, or states of the running model.
        module: The module with the functions `check`, `cost` and `run`; their signatures are in
            `localizing.methods`.
        settings: The keys of `localize` in a recipe that the method reads.
        takes_layers: True if the user can name layers instead of searching for them.
        ranks: True if the method ranks layers and tries few windows.
    """

    name: str
    paper: str
    finds: Literal["layers", "neurons", "states"]
    module: str
    settings: tuple[str, ...]
    takes_layers: bool = False
    ranks: bool = False


# `python -m tests.benchmarks.edits --choosing` on eight concepts of `tiny`: ridges of 0.01, 0.1
# and 0.3 times the keys' norm forgot and kept equally well. Neighbours begin to drift at 0.3. The
# ladder extends a decade to both sides of the constant, in steps of about half a decade.
LOCOEDIT = EditMethod(
    "locoedit",
    paper="https://arxiv.org/abs/2405.01008",
    site="layers",
    module="loco_cli.editing.locoedit",
    auto_ridge="0.1x",
    ladder=("1.0x", "0.3x", "0.1x", "0.03x", "0.01x"),
    settings=("pooled",),
)
# The same benchmark on six concepts: at 0.01, 0.1 and 1 times the keys' norm, all six were
# forgotten, and neighbours of three drifted. At 3 and 10, three were forgotten, and no neighbour
# drifted.
DIFFQUICKFIX = EditMethod(
    "diffquickfix",
    paper="https://arxiv.org/abs/2310.13730",
    site="text-encoder",
    module="loco_cli.editing.diffquickfix",
    auto_ridge="3.0x",
    ladder=("30.0x", "10.0x", "3.0x", "1.0x", "0.3x"),
    settings=("encoders",),
)
NEURONS = EditMethod(
    "neurons",
    paper="https://arxiv.org/abs/2405.01008",
    site="layers",
    module="loco_cli.editing.neurons",
    auto_ridge="0.1x",
    settings=("position", "hold", "neurons"),
)

EDIT_METHODS: Mapping[str, EditMethod] = {
    method.name: method for method in (LOCOEDIT, DIFFQUICKFIX, NEURONS)
}

_SAMPLING = ("seeds", "steps", "guidance")

LOCOGEN = LocalizeMethod(
    "locogen",
    paper="https://arxiv.org/abs/2405.01008",
    finds="layers",
    module="loco_cli.localizing.locogen",
    settings=("search", "width", "window", "effect", "pooled", *_SAMPLING),
    takes_layers=True,
)
CONTRIBUTION = LocalizeMethod(
    "contribution",
    paper="https://arxiv.org/abs/2505.18832",
    finds="layers",
    module="loco_cli.localizing.contribution",
    settings=("width", "window", "effect", "pooled", *_SAMPLING),
    ranks=True,
)
CAUSAL_TRACE = LocalizeMethod(
    "causal-trace",
    paper="https://arxiv.org/abs/2310.13730",
    finds="states",
    module="loco_cli.localizing.causal_trace",
    settings=("component", "noise", *_SAMPLING),
)
FIND_NEURONS = LocalizeMethod(
    "neurons",
    paper="https://arxiv.org/abs/2405.01008",
    finds="neurons",
    module="loco_cli.localizing.neurons",
    settings=LOCOGEN.settings,  # the search finds layers if the user names none
    takes_layers=True,
)

LOCALIZE_METHODS: Mapping[str, LocalizeMethod] = {
    method.name: method for method in (LOCOGEN, CONTRIBUTION, CAUSAL_TRACE, FIND_NEURONS)
}

if TYPE_CHECKING:  # type checkers reject a Literal that is built at run time
    EditMethodName: TypeAlias = str
    LocalizeMethodName: TypeAlias = str
else:
    EditMethodName = Literal[tuple(EDIT_METHODS)]
    LocalizeMethodName = Literal[tuple(LOCALIZE_METHODS)]


def join_choices(names: Iterable[str]) -> str:
    """Join names with commas and a final "or": "locoedit, diffquickfix or neurons"."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
