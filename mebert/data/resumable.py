"""A training loader that resumes in the middle of an epoch.

Lightning keeps the state of a loader with `state_dict` and `load_state_dict` in the checkpoint. It creates the iterator
before it sets the sampler's epoch, so the loader reads the epoch when the first batch is requested.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader
from typing_extensions import override

from mebert.data.samplers import OrderedSampler

T = TypeVar("T")


class ResumableLoader(DataLoader[T]):
    """`DataLoader` over an `OrderedSampler` that can start anywhere in an epoch; `len` is that of the whole epoch.

    Give it a `generator` of its own: without one, every iterator draws a seed for its workers from the global random
    state, which then depends on how often the run was resumed. With any other sampler (such as Lightning's own for
    `overfit_batches`) an epoch always starts with its first batch.
    """

    # On the class, so that the arguments stay those of DataLoader: Lightning reads them to rebuild a loader.
    _epoch = -1
    _batches = 0
    _resumed: tuple[int, int] | None = None

    @override
    def __iter__(self) -> Iterator[T]:  # type: ignore[override]
        # A generator: none of this runs before the first batch is requested, when the epoch is known.
        epoch, batches = self._resumed or (-1, 0)
        self._resumed = None
        self._epoch, self._batches = getattr(self.sampler, "epoch", -1), 0
        if isinstance(self.sampler, OrderedSampler) and self.batch_size is not None:
            if self._epoch == epoch:
                self._batches = batches
            self.sampler.skip_rows = self._batches * self.batch_size
        for batch in super().__iter__():
            self._batches += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the current `epoch`, and how many `batches` of it have been yielded or skipped."""
        epoch, batches = self._resumed or (self._epoch, self._batches)  # nothing has been yielded since
        return {"epoch": epoch, "batches": batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Start the next iteration after the batches of a state, if it is of the same epoch."""
        self._resumed = (state["epoch"], state["batches"])
