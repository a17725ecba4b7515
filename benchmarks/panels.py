"""Pictures of several panels, at most three in a row, so that a page shows them at a size that can be read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any


def panels(count: int, sharey: bool = False) -> tuple[Any, list[Any]]:
    """A figure and the axes of so many panels; four stand in two rows of two."""
    import matplotlib.pyplot as plt

    columns = 2 if count == 4 else min(count, 3)
    rows = math.ceil(count / columns)
    size = (3.6 * columns + 0.4, 2.7 * rows + 0.5)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, sharey=sharey)
    for spare in axes.flat[count:]:
        spare.remove()
    return figure, list(axes.flat[:count])


def save_with_legend(figure: Any, path: Path) -> None:
    """Write a figure with one legend below for all its panels, of which each may lack some lines."""
    import matplotlib.pyplot as plt

    lines: dict[str, Any] = {}
    for axis in figure.axes:
        handles, names = axis.get_legend_handles_labels()
        lines |= dict(zip(names, handles, strict=True))
    figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncol=3, fontsize=9)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)
