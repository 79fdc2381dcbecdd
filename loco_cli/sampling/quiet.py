"""
Libraries that talk, kept from talking.

Importing it quiets transformers, which else tells everyone that torchvision is not installed.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

transformers_logging.set_verbosity_error()


@contextlib.contextmanager
def errors_only() -> Iterator[None]:
    """While open, diffusers and transformers report errors only, and nobody warns of the future."""
    levels = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    diffusers_logging.set_verbosity(logging.ERROR)
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # of their own calls: SDXL in float16 brings two up with every picture
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        diffusers_logging.set_verbosity(levels[0])
        transformers_logging.set_verbosity(levels[1])


@contextlib.contextmanager
def silence_libraries() -> Iterator[None]:
    """While open, moreover, no bar is drawn, and nothing at all comes out on stderr."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    # loading bars of nested libraries
    with errors_only(), contextlib.redirect_stderr(io.StringIO()):
        yield
