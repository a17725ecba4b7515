"""Texts that are read in windows: inputs (B, W, S) run as one input a window, and what exits find of them is averaged.

Windows of a text are full (S tokens) but for its last, so that they side by side, (B, W S), are the text's tokens
without a gap. Shapes: B texts, W windows of the longest text, S tokens of a window, n windows of all texts together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def flat_windows(
    input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
) -> tuple[tuple[Tensor, Tensor, Tensor | None], np.ndarray | None]:
    """Inputs (B, W, S) as inputs of windows (n, S), and the number of windows of each text (B,), on the host.

    Inputs (B, S) stay as they are, and their number is None.
    """
    if input_ids.dim() == 2:
        return (input_ids, attention_mask, token_type_ids), None
    there = (attention_mask != 0).any(-1)
    there[:, 0] = True  # a text without any token is one window
    types = None if token_type_ids is None else token_type_ids[there]
    return (input_ids[there], attention_mask[there], types), there.sum(1).cpu().numpy()


def mean_of_windows(values: Tensor, windows: np.ndarray | None) -> Tensor:
    """The mean of each text's windows, (n, ...) to (B, ...); the values themselves where `windows` (B,) is None."""
    if windows is None:
        return values
    text = torch.from_numpy(np.repeat(np.arange(len(windows)), windows)).to(values.device)
    counts = torch.from_numpy(windows).to(values.device).view(-1, *[1] * (values.dim() - 1))
    wide = values if values.dtype == torch.float64 else values.float()
    total = wide.new_zeros(len(windows), *values.shape[1:]).index_add(0, text, wide)
    return (total / counts).to(values.dtype)


def places_of_windows(windows: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Where the windows of some texts (their numbers) stand among those of all.

    >>> places_of_windows(np.array([1, 3, 2]), np.array([0, 2])).tolist()
    [0, 4, 5]
    """
    starts = np.cumsum(windows) - windows
    return np.concatenate([np.arange(0), *(np.arange(starts[text], starts[text] + windows[text]) for text in texts)])


def stacked_inputs(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Inputs of several batches as one batch, padded to its longest text; with windows where one of them has some."""
    if len(parts) == 1:
        return parts[0]
    if any(part["input_ids"].dim() == 3 for part in parts):
        parts = [{name: v if v.dim() == 3 else v.unsqueeze(1) for name, v in part.items()} for part in parts]
    shape = [max(sizes) for sizes in zip(*(part["input_ids"].shape[1:] for part in parts), strict=True)]

    def padded(values: Tensor) -> Tensor:
        more = [wanted - own for wanted, own in zip(shape, values.shape[1:], strict=True)]
        return F.pad(values, [number for size in reversed(more) for number in (0, size)])

    return {name: torch.cat([padded(part[name]) for part in parts]) for name in parts[0]}


def texts_of(inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Token ids and mask of whole texts, (B, S): windows stand side by side, (B, W S)."""
    return inputs["input_ids"].flatten(1), inputs["attention_mask"].flatten(1)
