"""What a checkpoint may wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mebert.errors import UserError
from mebert.policies import FixedExit

if TYPE_CHECKING:
    import lightning as L

    from mebert.modules import MultiExitModule

__all__ = ["check_monitors"]


def check_monitors(trainer: L.Trainer, module: MultiExitModule) -> None:
    """Say before training, not after the first epoch, that a checkpoint waits for a curve that is not drawn.

    Raises:
        UserError: It is that of a policy whose scores are not recorded after each epoch.
    """
    known = [name for name in module.score_policies() if name != FixedExit.name]
    for monitor in (getattr(one, "monitor", None) for one in trainer.checkpoint_callbacks):
        name = module.policy.name if monitor == "val/auc" else str(monitor).removeprefix("val/auc_")
        if str(monitor).startswith("val/auc") and name not in known:
            raise UserError(
                f"checkpoint.monitor {monitor}: no curve of the policy {name!r} is drawn after each epoch; choose "
                f"val/auc_ and one of {', '.join(known)}, or give the module that policy (model.policy)"
            )
