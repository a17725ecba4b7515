"""GPFEE: exits that also read the past, and that learn to imagine the future.

Source: Liao et al., "A Global Past-Future Early Exit Method for Accelerating Inference of Pre-trained Language Models",
NAACL 2021, and its released code; what is exact and what is reconstructed stands in docs/methods.md.
Shapes: E exits, B batch, C classes, F feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from mebert.errors import check_range
from mebert.models.multi_exit import ExitOutputs
from mebert.models.past_future import PastFutureModel, imitation_loss
from mebert.modules.base import MultiExitModule


class GPFEEModule(MultiExitModule):
    """GPFEE: (1 - w) sum over exits of i CE_i / sum of i, plus w times the imitation loss.

    Exits classify as in `PastFutureModel`: from their own and all earlier features, and from those of later exits as
    far as they can be imagined. The imitation loss is the mean of 1 - cos(imagined, true feature).

    Args:
        imitation_weight: w, in [0, 1].
        exit_weights: `depth`, the paper's: exit i weighs i; or `uniform`.
        pretrained_pooler: As in MultiExitModule; the released code's poolers, one an exit, start at random.
        kwargs: The settings of MultiExitModule; `head` is `mlp`.
    """

    model_class = PastFutureModel
    model: PastFutureModel

    def __init__(
        self,
        imitation_weight: float = 0.5,
        exit_weights: Literal["uniform", "depth"] = "depth",
        pretrained_pooler: bool | None = False,
        **kwargs: Any,
    ) -> None:
        check_range("imitation_weight", imitation_weight, 0.0, 1.0)
        super().__init__(exit_weights=exit_weights, pretrained_pooler=pretrained_pooler, **kwargs)
        self.imitation_weight = imitation_weight

    def compute_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`loss` with its parts `ce` and `imitation`."""
        ce = self.weighted_exit_loss(outputs, batch)
        ahead = [self.model.imagine(i, feature) for i, feature in enumerate(outputs.features[:-1])]
        imitation = imitation_loss(ahead, outputs.features)
        loss = (1.0 - self.imitation_weight) * ce + self.imitation_weight * imitation
        return {"loss": loss, "ce": ce.detach(), "imitation": imitation.detach()}
