"""The catalogue lists the policies that there are."""

import pytest

from mebert.policies import ExitPolicy


@pytest.fixture(autouse=True)
def policies_of_other_tests_are_hidden(monkeypatch):
    """Messages must not depend on which tests a process has run before."""
    left = ExitPolicy.__subclasses__()
    while left:
        policy = left.pop()
        left += policy.__subclasses__()
        if not policy.__module__.startswith("mebert.") and "name" in vars(policy):
            monkeypatch.delattr(policy, "name")
