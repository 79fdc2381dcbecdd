"""The leak of a subject into the other tokens of its prompt, measured with a linear probe."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from loco_cli.encoders.encode import TextEncoder
from loco_cli.protocol.wordings import fill
from loco_cli.tiny.world.captions import PLAIN, PLAIN_UNSEEN, with_article
from loco_cli.tiny.world.objects import OBJECTS

RIDGE = 1e-2  # relative to the mean squared norm of the states
# position of a token, from the last token of the subject and the end token
POSITIONS: dict[str, Callable[[int, int], int]] = {
    "the article of the wording": lambda subject, end: 0,
    "the subject's last token": lambda subject, end: subject,
    "the end token": lambda subject, end: end,
    "the first padding": lambda subject, end: end + 1,
    "the last padding": lambda subject, end: -1,
}


def leak(encoder: TextEncoder, position_of: Callable[[int, int], int]) -> float:
    """
    Return the share of prompts whose object one token state identifies.

    The linear probe is fitted to the training wordings and tested on the held-out ones.
    """
    wordings = [template for template in PLAIN if template != "{subject}"]
    known, unseen = (
        _states(encoder, wordings, position_of),
        _states(encoder, PLAIN_UNSEEN, position_of),
    )
    labels = torch.arange(len(OBJECTS)).repeat_interleave(len(wordings))
    gram = known.T @ known
    penalty = RIDGE * known.square().sum(1).mean() * torch.eye(len(gram))
    answers = functional.one_hot(labels).float()
    weights = torch.linalg.solve(gram + penalty, known.T @ answers)
    expected = torch.arange(len(OBJECTS)).repeat_interleave(len(PLAIN_UNSEEN))
    return ((unseen @ weights).argmax(1) == expected).float().mean().item()


def leak_table(encoder: TextEncoder) -> str:
    """Return a table with a row per position, and one for a random guess."""
    rows = [
        f"| {name} | {leak(encoder, position_of):.2f} |" for name, position_of in POSITIONS.items()
    ]
    head = ["| token | accuracy |", "| --- | --- |"]
    return "\n".join((*head, *rows, f"| by chance | {1 / len(OBJECTS):.2f} |"))


def _states(
    encoder: TextEncoder,
    wordings: tuple[str, ...] | list[str],
    position_of: Callable[[int, int], int],
) -> Tensor:  # [n_things * n_wordings, d]
    names = [with_article(thing) for thing in OBJECTS]
    prompts = [(fill(one, "subject", name), name) for name in names for one in wordings]
    encoded = encoder.encode([prompt for prompt, _ in prompts])
    return torch.stack(
        [
            one.states[position_of(one.positions_of(name)[-1], one.end)]
            for one, (_, name) in zip(encoded, prompts, strict=True)
        ]
    )
