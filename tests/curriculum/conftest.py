"""A cache of its own for every test."""

import pytest


@pytest.fixture(autouse=True)
def cache(hf_cache):
    """Keep what tests cache away from the user's cache; the folder of mebert in it."""
    return hf_cache / "mebert"
