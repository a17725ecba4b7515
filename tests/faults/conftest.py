"""What the faults have in common, made once."""

from __future__ import annotations

import pytest
from faults.world import make_templates


@pytest.fixture(scope="session")
def templates(tmp_path_factory):
    """A trained run and the files beside it."""
    return make_templates(tmp_path_factory.mktemp("templates"))
