"""How far a subject leaks into the other tokens of its prompt, told by a linear map of each."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from loco_cli.encoders.encode import TextEncoder
from loco_cli.protocol.wordings import fill
from loco_cli.tiny.world.captions import PLAIN, PLAIN_UNSEEN, with_article
from loco_cli.tiny.world.objects import OBJECTS

RIDGE = 1e-2  # of the states' mean squared norm
PLACES: dict[str, Callable[[int, int], int]] = {  # by where the subject and the words end
    "the article of the wording": lambda subject, end: 0,
    "the subject's last token": lambda subject, end: subject,
    "the end token": lambda subject, end: end,
    "the first padding": lambda subject, end: end + 1,
    "the last padding": lambda subject, end: -1,
}


def leak(encoder: TextEncoder, place: Callable[[int, int], int]) -> float:
    """
    Return how often one token's state tells which of the world's things is meant.

    A linear map is fitted to the wordings of training, and asked in those that were kept unseen.
    """
    wordings = [template for template in PLAIN if template != "{subject}"]
    known, unseen = _states(encoder, wordings, place), _states(encoder, PLAIN_UNSEEN, place)
    labels = torch.arange(len(OBJECTS)).repeat_interleave(len(wordings))
    gram = known.T @ known
    price = RIDGE * known.square().sum(1).mean() * torch.eye(len(gram))
    answers = functional.one_hot(labels).float()
    weights = torch.linalg.solve(gram + price, known.T @ answers)
    asked = torch.arange(len(OBJECTS)).repeat_interleave(len(PLAIN_UNSEEN))
    return ((unseen @ weights).argmax(1) == asked).float().mean().item()


def leak_table(encoder: TextEncoder) -> str:
    """Return a row for each place; by chance a thing is told once in as many as there are."""
    rows = [f"| {name} | {leak(encoder, place):.2f} |" for name, place in PLACES.items()]
    head = ["| token | tells the thing |", "| --- | --- |"]
    return "\n".join((*head, *rows, f"| by chance | {1 / len(OBJECTS):.2f} |"))


def _states(
    encoder: TextEncoder, wordings: tuple[str, ...] | list[str], place: Callable[[int, int], int]
) -> Tensor:  # [n_things * n_wordings, d]
    names = [with_article(thing) for thing in OBJECTS]
    prompts = [(fill(one, "subject", name), name) for name in names for one in wordings]
    encoded = encoder.encode([prompt for prompt, _ in prompts])
    return torch.stack(
        [
            one.states[place(one.positions_of(name)[-1], one.end)]
            for one, (_, name) in zip(encoded, prompts, strict=True)
        ]
    )
