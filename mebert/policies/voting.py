"""Leave when most of the exits so far agree with this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from mebert.policies.base import ExitPolicy


@dataclass
class Voting(ExitPolicy):
    """Leave when the share of exits so far that make this exit's prediction is large (RECONSTRUCTED).

    The score is 1 - v / (i + 1) at exit i with v votes for its prediction, its own included. The added vote against
    it lets four of four count for more than two of two, and one of one for no more than a half. Below a threshold of
    1/2 the prediction is that of the majority. Unlike patience, one exit that disagrees does not reset the count.
    """

    name = "voting"
    regression = False

    def observe(self, exit_index: int, logits: Tensor, features: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        prediction = logits.argmax(-1, keepdim=True)
        vote = F.one_hot(prediction.squeeze(-1), logits.shape[-1])
        votes = vote if state is None else state + vote
        share = votes.gather(-1, prediction).squeeze(-1).float() / (exit_index + 2)  # exit i has the index i - 1
        return 1.0 - share, votes
