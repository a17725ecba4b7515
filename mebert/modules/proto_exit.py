"""DE3-BERT: joint training with prototypical networks, and exits by the hybrid of distance and entropy.

Source: He et al., "DE3-BERT: Distance-Enhanced Early Exiting for BERT based on Prototypical Networks",
arXiv 2402.05948. Each function and docs/methods.md state what is exact, reported or reconstructed.
Shapes: E exits, M = E - 1 exits with prototypes, B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from mebert.errors import UserError, check_range
from mebert.losses import dar_hinge, dar_softmax
from mebert.metrics.curve import ExitRecord
from mebert.models.multi_exit import ExitOutputs, MultiExitModel
from mebert.models.prototypes import PrototypeBank
from mebert.modules.base import MultiExitModule
from mebert.modules.checks import refuse_several_labels
from mebert.policies import ExitPolicy, HybridDistanceEntropy, hybrid_indicator, normalised_entropy
from mebert.policies.distance import choose_lambda


class ProtoExitModule(MultiExitModule):
    """DE3-BERT: cross-entropy of all exits plus alpha times the distance-aware regulariser (DAR).

    Every exit but the last has a linear prototypical network and one moving-average prototype a class; a sample
    leaves when EDR, the weighted harmonic mean of its distance ratio and its normalised entropy, is below the
    threshold. The weight lambda and the threshold are chosen on the validation split after every epoch.

    Args:
        prototypes: Whether there are prototypical networks; false is the paper's ablation (plain entropy exits).
        prototype_dim: Dimension of the prototype space.
        gamma: Weight of the newest batch in the prototypes' moving average, in (0, 1].
        dar: Form of the regulariser: `hinge`, `softmax`, or `none` for the paper's ablation (the prototypes are still
            tracked, but nothing pulls samples to them).
        alpha: Weight of the regulariser, at least 0.
        margin: Margin of the hinge form, at least 0.
        lam: Lambda, the weight of the distance ratio in EDR, at least 0 (0 is pure entropy); null chooses it from
            `lam_grid` by the area under the accuracy-speed curve of the validation split.
        lam_grid: The values to choose lambda from.
        kwargs: The settings of MultiExitModule.
    """

    def __init__(
        self,
        prototypes: bool = True,
        prototype_dim: int = 128,
        gamma: float = 0.1,
        dar: Literal["hinge", "softmax", "none"] = "hinge",
        alpha: float = 0.1,
        margin: float = 1.0,
        lam: float | None = None,
        lam_grid: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0),
        **kwargs: Any,
    ) -> None:
        check_range("alpha", alpha, 0.0)
        check_range("margin", margin, 0.0)
        if lam is not None and not lam >= 0:  # infinity is the distance ratio alone
            raise UserError(f"lam must be at least 0, got {lam}")
        if not lam_grid or not all(value >= 0 for value in lam_grid):
            raise UserError(f"lam_grid must hold at least one value, none below 0; got {list(lam_grid)}")
        super().__init__(**kwargs)
        self.dar: Literal["hinge", "softmax", "none"] = dar
        self.alpha = alpha
        self.margin = margin
        self.lam = lam
        self.lam_grid = tuple(lam_grid)

    def build_model(self) -> MultiExitModel:
        """The shared model with a prototype bank; without one for the ablation."""
        model = super().build_model()
        hp = self.hparams
        if hp["prototypes"]:
            instead = "MultiExitModule (--recipe joint), or prototypes: false"
            refuse_several_labels("ProtoExitModule, with a prototype a class,", hp["problem_type"], instead)
            if model.num_exits < 2:
                raise UserError("prototypes need at least 2 exits: every exit but the last has a prototypical network")
            model.prototypes = PrototypeBank(
                model.num_exits - 1, model.feature_size, model.num_labels, hp["prototype_dim"], hp["gamma"]
            )
        return model

    def compute_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`ce` over all exits and `dar` over the exits with prototypes; in training the prototypes move first."""
        ce = self.weighted_exit_loss(outputs, batch)
        bank = self.model.prototypes
        if bank is None:
            return {"loss": ce}
        g = bank.embed(outputs.features[:-1])
        if self.training:
            bank.update(g.detach(), batch["labels"])
        distances = bank.distances_of(g)
        if self.dar == "softmax":
            dar = dar_softmax(distances, batch["labels"])
        else:
            dar = dar_hinge(distances, batch["labels"], self.margin)
        alpha = 0.0 if self.dar == "none" else self.alpha
        return {"loss": ce + alpha * dar, "ce": ce.detach(), "dar": dar.detach()}

    def default_policy(self) -> ExitPolicy:
        """EDR with lambda 1 (or the one given) until validation data has chosen; entropy without prototypes."""
        if self.model.prototypes is None:
            return super().default_policy()
        lam = self.hparams["lam"]
        return HybridDistanceEntropy(self.threshold or 0.0, lam=1.0 if lam is None else lam)

    def choose_policy(self, record: ExitRecord) -> None:
        """Choose lambda by the area under the validation curve, and put EDR's scores with it into the record."""
        if "dr" not in record.scores or not isinstance(self.policy, HybridDistanceEntropy):
            super().choose_policy(record)
            return
        entropy = normalised_entropy(record.logits)
        dr = record.scores["dr"]
        grid = self.lam_grid if self.lam is None else (self.lam,)
        # Of equals the first: the smaller lambda, nearer to plain entropy.
        best = choose_lambda(record, dr, entropy, grid, self.model.exit_layers)
        record.scores["edr"] = hybrid_indicator(dr, entropy, best)
        self.policy = HybridDistanceEntropy(self.policy.threshold, lam=best).bind(self.model)
