"""Megabytes of the packages in the image of deploy/Dockerfile, beside those of a server with PyTorch.

    python benchmarks/image_size.py       # a second; writes the table into docs/deploy.md

Sizes are those of benchmarks/deploy_size.py: of what deploy/requirements.txt names, with all that it requires, and of
mebert's own code. The base image (python:3.11-slim) and the model come on top: no image is built.
"""

from __future__ import annotations

import platform
from importlib.metadata import distribution

from deploy_size import PAGE, ROOT, required
from page import replace_between, table

REQUIREMENTS = ROOT / "deploy" / "requirements.txt"
MARKS = "<!-- image size: benchmarks/image_size.py writes this -->", "<!-- end of image size -->"


def image_packages() -> dict[str, float]:
    """The distributions of the image and their megabytes; mebert's own code is not among them."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return required(tuple(line for line in lines if not line.startswith("#")))


def main() -> None:
    """Write the table."""
    torch = required(("mebert", "litserve", "prometheus-client"))
    image = image_packages() | {"mebert": torch["mebert"]}
    rows, largest = [], []
    for title, packages in (("the image", image), ("`mebert[serve]`, with PyTorch", torch)):
        rows.append([title, str(len(packages)), f"{sum(packages.values()):,.0f}"])
        first = sorted(packages.items(), key=lambda item: -item[1])[:5]
        largest.append(", ".join(f"{name} {size:.0f}" for name, size in first))
    versions = f"Python {platform.python_version()}, PyTorch {distribution('torch').version}"
    note = f"*{versions}; largest packages in MB: {'; '.join(largest)}.*"
    text = f"{table(['', 'packages', 'MB installed'], rows)}\n\n{note}"
    replace_between(PAGE, MARKS, text)
    print(text)


if __name__ == "__main__":
    main()
