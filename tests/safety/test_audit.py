"""No pinned release is a known malicious one; and the audit never says that all is well where it could not ask."""

import importlib.util
import json
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

pytestmark = pytest.mark.slow  # with the audit itself in CI and make test-all

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci/audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    return [Requirement(line) for line in [*project["dependencies"], *extras]]


def test_no_pinned_release_is_malicious(audit):
    pinned = audit.pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert len(pinned) > 50
    assert "lightning" in pinned
    assert audit.malicious(pinned) == []
    assert audit.malicious({**pinned, "lightning": "2.6.3"}) == ["lightning 2.6.3"]


def test_no_bound_lets_one_in(audit):
    for requirement in requirements():
        for version in audit.MALICIOUS.get(requirement.name, ()):
            assert not requirement.specifier.contains(version), requirement
    assert "lightning" in {requirement.name for requirement in requirements()}


def test_the_pins_are_within_the_bounds(audit):
    pinned = audit.pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    for requirement in requirements():
        if requirement.name in pinned:
            assert requirement.specifier.contains(Version(pinned[requirement.name]), prereleases=True), requirement


def package(name, *flaws, skipped=None):
    if skipped:
        return {"name": name, "skip_reason": skipped}
    return {"name": name, "version": "1.0", "vulns": [{"id": flaw, "fix_versions": ["1.1"]} for flaw in flaws]}


@pytest.mark.parametrize(
    ("output", "error", "status", "said"),
    [
        ([package("a"), package("b")], "", 0, "2 of 2 pinned packages audited\nno known vulnerabilities"),
        ([package("a", "PYSEC-1"), package("b")], "", 1, "a 1.0: PYSEC-1, fixed in 1.1"),
        ([package("a"), package("b", skipped="not found")], "", 0, "1 of 2 .*not audited: b"),
        ([package("a", "CVE-1"), package("b", skipped="not found")], "", 1, "a 1.0: CVE-1"),
        # What pip-audit calls "No known vulnerabilities found" where another index stands in for PyPI.
        ([package("a", skipped="Dependency not found on PyPI")], "", 0, "NOT AUDITED: none of 1 .*not found on PyPI"),
        (None, "Traceback\nConnectionError: no route", 0, "NOT AUDITED: .*ConnectionError: no route"),
        (None, "", 0, "NOT AUDITED: .*no answer"),
    ],
)
def test_what_the_audit_says(audit, output, error, status, said):
    import re

    found, text = audit.verdict("" if output is None else json.dumps({"dependencies": output, "fixes": []}), error)
    assert found == status
    assert re.search(said, text, re.DOTALL)
    assert ("NOT AUDITED" in text) or ("audited" in text)
