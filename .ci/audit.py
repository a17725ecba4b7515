"""Look up every pinned version in PyPI's advisory database: `make audit`.

Exit status 1 for known vulnerabilities and known malicious releases. Without access to the database (no network,
another package index) it prints NOT AUDITED and exits with 0.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).parents[1] / "constraints.txt"
# Releases that carried malware; see the bounds in pyproject.toml.
MALICIOUS = {"lightning": {"2.6.2", "2.6.3"}, "pytorch-lightning": {"2.6.2", "2.6.3"}}
SECONDS = 300


def pins(text: str) -> dict[str, str]:
    """Package to version, of lines `name==version`."""
    lines = [line.partition("#")[0].partition("==") for line in text.splitlines()]
    return {name.strip().lower(): version.strip() for name, _, version in lines if version}


def malicious(pinned: dict[str, str]) -> list[str]:
    """Pins of releases that are known to be malicious."""
    return [f"{name} {version}" for name, version in pinned.items() if version in MALICIOUS.get(name, ())]


def verdict(output: str, error: str) -> tuple[int, str]:
    """The exit status and the lines to print, from what pip-audit wrote.

    Args:
        output: Its JSON.
        error: Its standard error.
    """
    try:
        found = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = (error.strip().splitlines() or ["no answer"])[-1]
        return 0, f"NOT AUDITED: no answer from the advisory service ({reason[:200]})"
    skipped = [package for package in found if "skip_reason" in package]
    bad = [package for package in found if package.get("vulns")]
    if found and len(skipped) == len(found):
        return 0, f"NOT AUDITED: none of {len(found)} packages could be looked up ({skipped[0]['skip_reason'][:200]})"
    lines = []
    for package in bad:
        for flaw in package["vulns"]:
            fixed = ", ".join(flaw["fix_versions"]) or "no release"
            lines.append(f"{package['name']} {package['version']}: {flaw['id']}, fixed in {fixed}")
    audited = f"{len(found) - len(skipped)} of {len(found)} pinned packages audited"
    names = ", ".join(package["name"] for package in skipped)
    lines.append(audited + (f"; not audited: {names}" if skipped else ""))
    lines.append(f"{len(bad)} with known vulnerabilities" if bad else "no known vulnerabilities")
    return int(bool(bad)), "\n".join(lines)


def main() -> int:
    """Print what is known; return the exit status."""
    if worst := malicious(pins(PINS.read_text(encoding="utf-8"))):
        print(f"malicious releases are pinned: {', '.join(worst)}")
        return 1
    if importlib.util.find_spec("pip_audit") is None:
        print("NOT AUDITED: pip-audit is not installed (pip install 'mebert[audit]')")
        return 0
    command = [sys.executable, "-m", "pip_audit", "-r", str(PINS), "--no-deps", "--disable-pip", "-f", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        print(f"NOT AUDITED: the advisory service did not answer within {SECONDS} s")
        return 0
    status, text = verdict(done.stdout, done.stderr)
    print(text)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
