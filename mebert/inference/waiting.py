"""What `refill` and `predicted` share: queues in which rows wait until a full batch can run.

Shapes: n rows of a group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from torch import Tensor
from typing_extensions import override

from mebert.errors import check_range
from mebert.inference.engine import Engine

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel
    from mebert.policies import ExitPolicy


class Group(Protocol):
    """Rows that wait together."""

    rows: Tensor  # the caller's row numbers, (n,)
    fed: int  # number of the feed with which the oldest of them came

    def split(self, size: int) -> tuple[Self, Self]:
        """The first `size` rows, and the rest."""


G = TypeVar("G", bound=Group)


class WaitingEngine(Engine, Generic[G]):
    """An engine with a first-in, first-out queue of groups for each stop.

    Args:
        model: In evaluation mode.
        policy: Bound to the model.
        queues: Number of queues.
        batch_size: Rows of a full batch, at least 1.
        max_waiting: Most rows that may wait after a feed; the fullest queue runs first.
        max_wait: A row is done at the latest when this many further batches have been fed (0: at once); None: no such
            limit.

    Raises:
        UserError: A setting out of range.
    """

    def __init__(
        self,
        model: MultiExitModel,
        policy: ExitPolicy,
        queues: int,
        batch_size: int,
        max_waiting: int,
        max_wait: int | None,
    ) -> None:
        super().__init__(model, policy)
        check_range("batch_size", batch_size, 1)
        check_range("max_waiting", max_waiting, 0)
        check_range("max_wait", max_wait, 0)
        self.batch_size, self.max_waiting, self.max_wait = batch_size, max_waiting, max_wait
        self._queues: list[list[G]] = [[] for _ in range(queues)]
        self._fed = 0

    @property
    @override
    def waiting(self) -> int:
        return sum(map(self._size, range(len(self._queues))))

    def _size(self, index: int) -> int:
        return sum(group.rows.shape[0] for group in self._queues[index])

    def _is_late(self, index: int) -> bool:
        """Whether a queue holds a row that may not wait any longer."""
        return self.max_wait is not None and any(g.fed + self.max_wait <= self._fed for g in self._queues[index])

    def _fullest(self) -> int:
        """The queue with most rows; of equals the deepest."""
        return max(range(len(self._queues)), key=lambda index: (self._size(index), index))

    def _take(self, index: int, size: int) -> list[G]:
        """Take the oldest rows of a queue out of it, `size` at most."""
        queue, taken = self._queues[index], []
        while queue and size:
            group = queue.pop(0)
            if group.rows.shape[0] > size:
                group, rest = group.split(size)
                queue.insert(0, rest)
            taken.append(group)
            size -= group.rows.shape[0]
        return taken
