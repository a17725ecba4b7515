"""DeeBERT: first the backbone with its last exit, then all earlier exits before the frozen backbone, in one run.

Source: Xin et al., "DeeBERT: Dynamic Early Exiting for Accelerating BERT Inference", ACL 2020, and its released code;
what is exact and what is reconstructed stands in docs/methods.md. Shapes: E exits, B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mebert.models.multi_exit import ExitOutputs
from mebert.modules.two_stage import TwoStageModule


class DeeBERTModule(TwoStageModule):
    """DeeBERT: fine-tune the backbone with its last exit, then train all other exits on the labels.

    Stage 1 (the first `stage1_epochs` epochs): CE of the last exit. Stage 2 (the rest up to `trainer.max_epochs`): the
    sum over the earlier exits of CE_i. All exits start from the encoder's pretrained pooler, as in the released code
    (`pretrained_pooler`). Where they cannot (no [CLS], no pooler), each earlier exit with the head `mlp` begins stage 2
    with the last one's first Linear, as stage 1 left it (RECONSTRUCTED). Layers and last exit run
    without gradient, and (RECONSTRUCTED) without dropout, in stage 2. In a regression squared errors take the place of
    the cross-entropies. In evaluation `loss` is the mean over exits. Arguments: those of TwoStageModule.
    """

    recipe = "DeeBERT"

    def second_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`ce`: the sum of the earlier exits' losses."""
        loss = self.per_exit_losses(ExitOutputs(outputs.logits[:-1], outputs.features[:-1]), batch).sum()
        return {"loss": loss, "ce": loss.detach()}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """As the base; without a pretrained pooler, stage 2 begins with the last exit's in all exits."""
        super().on_train_batch_start(batch, batch_idx)
        # No exit has moved before this step; a run that is resumed at it does the same again.
        if not self.starts_from_pooler and self.stage == 2 and self.trainer.global_step == self.stage1_steps:
            self.copy_pooler()

    @torch.no_grad()
    def copy_pooler(self) -> None:
        """Give the earlier exits the last one's first Linear, where the head has two of them."""
        last = self.model.exit(self.model.num_exits - 1).classifier[0]
        if isinstance(last, nn.Linear):
            for index in range(self.model.num_exits - 1):
                self.model.exit(index).classifier[0].load_state_dict(last.state_dict())
