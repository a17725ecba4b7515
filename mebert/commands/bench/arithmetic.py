"""What the measured models and engines cost by count, and the threshold that meets a speed-up by that count.

Shapes: N samples, E exits. FLOPs are those of `mebert.models.flops`: matrix products, at each sample's own length.
"""

from __future__ import annotations

from torch import Tensor

from mebert.calibration import threshold_for_cost
from mebert.inference import EngineName
from mebert.models.flops import direct_exit_flops, encoder_flops, exit_flops, single_exit_flops
from mebert.models.multi_exit import MultiExitModel
from mebert.policies import ExitPolicy

__all__ = ["Costs", "flops_speedup", "threshold_for_flops"]


def flops_speedup(exits: Tensor, flops: Tensor, plain: Tensor) -> float:
    """Cost of the plain model over the cost of the exits taken.

    Args:
        exits: 0-based exit of each sample, (N,).
        flops: Cost of leaving at each exit, (E, N).
        plain: Cost of the plain model, (N,).
    """
    return float(plain.sum() / flops.gather(0, exits.unsqueeze(0)).sum())


def threshold_for_flops(scores: Tensor, flops: Tensor, plain: Tensor, target: float) -> float | None:
    """The strictest threshold that reaches a speed-up by FLOPs, or None where none does.

    Args:
        scores: A policy's score of every sample at every exit, (E, N).
        flops: Cost of leaving at each exit, (E, N).
        plain: Cost of the plain model, (N,).
        target: Wanted speed-up.
    """
    return threshold_for_cost(scores, flops, float(plain.mean()) / target)


class Costs:
    """Counted costs of all that is measured on the same samples.

    Args:
        model: The multi-exit model.
        lengths: Tokens of each sample, (N,).
    """

    def __init__(self, model: MultiExitModel, lengths: Tensor) -> None:
        self.model = model
        self.lengths = lengths
        self.plain = single_exit_flops(model, lengths)

    def of_engine(self, name: EngineName, policy: ExitPolicy) -> Tensor:
        """What an engine spends on a sample that leaves at each exit, (E, N)."""
        if name == "predicted":
            return self.predicted()
        return self.all_layers(policy) if name == "full" else self.tried(policy)

    def tried(self, policy: ExitPolicy) -> Tensor:
        """Exits are tried one after another until one is taken, (E, N): the engines `shrink` and `refill`."""
        return exit_flops(self.model, self.lengths, policy)

    def all_layers(self, policy: ExitPolicy) -> Tensor:
        """All exits and decisions are computed whichever is taken, (E, N): the engine `full`."""
        return self.tried(policy)[-1:].expand(self.model.num_exits, -1)

    def predicted(self) -> Tensor:
        """The layers up to the exit and its head alone, (E, N): the engine `predicted`."""
        return direct_exit_flops(self.model, self.lengths)

    def first_layers(self, depth: int) -> Tensor:
        """The first layers alone with one head, (1, N)."""
        head = self.model.exit(self.model.num_exits - 1).flops(self.lengths.double())
        return (encoder_flops(self.model.adapter, self.lengths, depth) + head).unsqueeze(0)
