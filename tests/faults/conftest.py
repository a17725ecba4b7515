"""What the faults have in common, made once."""

from __future__ import annotations

import pytest
from faults.world import make_templates

from mebert.policies import ExitPolicy


@pytest.fixture(scope="session")
def templates(tmp_path_factory):
    """A trained run and the files beside it."""
    return make_templates(tmp_path_factory.mktemp("templates"))


@pytest.fixture(autouse=True)
def policies_of_other_tests_are_hidden(monkeypatch):
    """Lists of the policies that there are must not depend on which tests a process has run before."""
    left = ExitPolicy.__subclasses__()
    while left:
        policy = left.pop()
        left += policy.__subclasses__()
        if not policy.__module__.startswith("mebert.") and "name" in vars(policy):
            monkeypatch.delattr(policy, "name")
