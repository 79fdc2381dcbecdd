"""Pictures as reports and sheets take them: PNG bytes beside what is known of each."""

import base64
import io
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image

from loco_cli.localization import Localization

MAX_SIDE = 256  # pixels; twice what a page shows, for fine screens


@dataclass(frozen=True)
class SwapPicture:
    """
    A picture of a sweep: `SwapPicture("a house by monet", "a painting", 0, (8, 9), 0.12, png)`.

    No layers means the original; the longest of a sweep is the one with all layers swapped.
    """

    source: str
    target: str
    seed: int
    layers: tuple[int, ...]
    score: float
    png: bytes = field(repr=False)


@dataclass(frozen=True)
class LocalizationRun:
    """
    A localization with what only its workflow knows: the pictures, and every layer's module path.

    `module_paths` are in layer order; without them only the chosen layers have a path to show.
    """

    localization: Localization
    pictures: tuple[SwapPicture, ...] = ()
    module_paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class BeforeAfter:
    """
    One prompt and seed before and after an edit.

    `score_before` and `score_after` are CLIP scores; recognition is None where the prompt has no
    labels, `became` None where nothing is to become something. A fact has one right answer at a
    time: it is forgotten where the new one is given.
    """

    group: Literal["forget", "keep"]
    prompt: str
    seed: int
    before: bytes = field(repr=False)
    after: bytes = field(repr=False)
    score_before: float
    score_after: float
    recognised_before: bool | None = None
    recognised_after: bool | None = None
    became: bool | None = None
    is_fact: bool = False

    @property
    def verdict(self) -> str:
        """What happened to the picture, in two or three words; empty where it is not judged."""
        if self.recognised_before is None:
            return ""
        if not self.recognised_before:
            return "not counted"  # the base got it wrong
        if self.group == "keep":
            return "kept" if self.recognised_after else "lost"
        if self.recognised_after:
            return "still there"
        if self.became:
            return "became target"
        return "something else" if self.is_fact else "forgotten"

    @property
    def is_good(self) -> bool | None:
        """Whether the edit did here what it should; None where the picture does not count."""
        if not self.recognised_before:
            return None
        if self.group == "keep":
            return bool(self.recognised_after)
        return bool(self.became) if self.is_fact else not self.recognised_after


def data_uri(png: bytes) -> str:
    """Return a picture for the page itself, made smaller where it is larger than a page shows."""
    image = Image.open(io.BytesIO(png))
    if max(image.size) > MAX_SIDE:
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        png = buffer.getvalue()
    return "data:image/png;base64," + base64.b64encode(png).decode()
