"""Where a prompt speaks of its subject: in which characters, and in which tokens."""

import re
from collections.abc import Sequence


def last_mention(prompt: str, subject: str) -> tuple[int, int]:
    """
    Return the characters of the last mention of a subject, whole words first, in any case.

    (0, 0) where it is not mentioned: "cat" is found in "a cat in a cathedral" at (2, 5).
    """
    words = re.escape(subject)
    for pattern in (rf"(?<!\w){words}(?!\w)", words):
        mentions = list(re.finditer(pattern, prompt, re.IGNORECASE))
        if mentions:
            return mentions[-1].span()
    return (0, 0)


def positions_in(prompt: str, offsets: Sequence[tuple[int, int]], subject: str) -> tuple[int, ...]:
    """Return which tokens, by the characters they stand for, are the subject's last mention."""
    start, stop = last_mention(prompt, subject)
    return tuple(
        position
        for position, (first, last) in enumerate(offsets)
        if max(start, first) < min(stop, last)
    )


def shortened(text: str, width: int = 60) -> str:
    """Return a text, or its beginning and three dots."""
    return text if len(text) <= width else f"{text[: width - 3]}..."
