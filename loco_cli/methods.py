"""
The methods of editing and of localizing, one row each: name, paper, and what tells them apart.

A recipe and the command line take their choices from here, in this order. A new method is a row
and the module that it names; the module is imported when the method runs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias


@dataclass(frozen=True)
class EditMethod:
    """
    A method that solves for new weights: `EDIT_METHODS["locoedit"]`.

    `site` is what it changes: keys and values of layers, or the first self-attention of every text
    encoder. `auto_ridge` is the ridge of `ridge: auto`, and `ladder` has the ridges that a measured
    strength tries, gentlest first, none where there is no strength to measure; both are spelled as
    in a recipe. `settings` are the keys of a recipe's `edit` that no other method reads. `module`
    has functions `check`, `tensors` and `solve`, whose form is in `editing.methods`.
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
    A method that finds where a concept is: `LOCALIZE_METHODS["locogen"]`.

    `finds` is what it names: layers, neurons of layers, or states of the running model. `settings`
    are the keys of a recipe's `localize` that it reads. `takes_layers` tells that layers can be
    named for it instead of looked for, `ranks` that it answers from a ranking of the layers and
    tries few windows. `module` has functions `check`, `cost` and `run`, whose form is in
    `localizing.methods`.
    """

    name: str
    paper: str
    finds: Literal["layers", "neurons", "states"]
    module: str
    settings: tuple[str, ...]
    takes_layers: bool = False
    ranks: bool = False


# on concepts of `tiny`, by `python -m tests.benchmarks.edits --choosing`: of 0.01 and of 0.1 and
# 0.3 times the keys' norm none forgot or kept more on eight of them, and neighbours begin to drift
# at 0.3; a ladder has steps of about half a decade, a decade to both sides of the constant
LOCOEDIT = EditMethod(
    "locoedit",
    paper="https://arxiv.org/abs/2405.01008",
    site="layers",
    module="loco_cli.editing.locoedit",
    auto_ridge="0.1x",
    ladder=("1.0x", "0.3x", "0.1x", "0.03x", "0.01x"),
    settings=("pooled",),
)
# at 0.01, 0.1 and 1 times the keys' norm all of six concepts are forgotten and neighbours of three
# drift; at 3 and 10 three of the six were forgotten as well, and no neighbour drifted
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
    settings=LOCOGEN.settings,  # of the search for layers where none are named
    takes_layers=True,
)

LOCALIZE_METHODS: Mapping[str, LocalizeMethod] = {
    method.name: method for method in (LOCOGEN, CONTRIBUTION, CAUSAL_TRACE, FIND_NEURONS)
}

if TYPE_CHECKING:  # a type checker knows no names that a program puts together
    EditMethodName: TypeAlias = str
    LocalizeMethodName: TypeAlias = str
else:
    EditMethodName = Literal[tuple(EDIT_METHODS)]
    LocalizeMethodName = Literal[tuple(LOCALIZE_METHODS)]


def join_choices(names: Iterable[str]) -> str:
    """Return names as a sentence lists its choices: "locoedit, diffquickfix or neurons"."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
