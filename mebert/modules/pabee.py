"""PABEE's training: joint, deeper exits weigh more, and all exits share one pooler.

Source: Zhou et al., "BERT Loses Patience: Fast and Robust Inference with Early Exit", NeurIPS 2020, and its released
code (docs/methods.md). PCEE-BERT and F-PABEE train the same way.
"""

from __future__ import annotations

from typing import Any, Literal

from mebert.choices import HeadKind
from mebert.modules.base import MultiExitModule
from mebert.policies import ExitPolicy, Patience


class PABEEModule(MultiExitModule):
    """PABEE: sum over exits of i CE_i, divided by the sum of i; one pooler, and a classifier of its own for each exit.

    Samples leave by patience. (The earliest that it can let go is exit 2, so that a small encoder attains few speeds.)

    Args:
        head: `shared`, the paper's: Linear(F -> F) and tanh, the same for all exits, then each exit's own Linear.
        exit_weights: `depth`, the paper's: exit i weighs i; or `uniform`.
        kwargs: The settings of MultiExitModule.
    """

    def __init__(
        self, head: HeadKind = "shared", exit_weights: Literal["uniform", "depth"] = "depth", **kwargs: Any
    ) -> None:
        super().__init__(head=head, exit_weights=exit_weights, **kwargs)

    def default_policy(self) -> ExitPolicy:
        """Patience, at full depth until validation data has chosen; for regression as the base."""
        if self.model.num_labels == 1:
            return super().default_policy()
        return Patience(self.threshold or 0.0)
