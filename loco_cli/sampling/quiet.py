"""
Suppression of the output of diffusers and transformers.

Importing this module silences transformers, which would otherwise report a missing torchvision.
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
    """Make diffusers and transformers log errors only, and suppress deprecation warnings."""
    levels = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    diffusers_logging.set_verbosity(logging.ERROR)
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # the libraries' own calls cause these: SDXL in float16 raises two per picture
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        diffusers_logging.set_verbosity(levels[0])
        transformers_logging.set_verbosity(levels[1])


@contextlib.contextmanager
def silence_libraries() -> Iterator[None]:
    """Suppress advice, progress bars and everything on stderr."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    # nested libraries draw loading bars on stderr
    with errors_only(), contextlib.redirect_stderr(io.StringIO()):
        yield
