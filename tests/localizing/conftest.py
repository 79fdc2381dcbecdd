"""Fixtures of the localization tests."""

import pytest


@pytest.fixture(scope="session")
def bench(tiny, pipeline):
    """The shipped model with its scorer, without a cache."""
    from loco_cli.localizing.runs import SearchContext
    from loco_cli.models.session import RunOptions, load_scorer

    return SearchContext(tiny, pipeline, load_scorer(tiny, RunOptions(device="cpu")), batch_size=16)
