"""After training: which exit a text will take is learnt from adaptive runs of the best checkpoint, and kept in it."""

from __future__ import annotations

import copy
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from typing_extensions import override

from mebert.data.scoring import score_split
from mebert.errors import UserError, check_range
from mebert.exit_predictor import fitting
from mebert.exit_predictor.base import ExitPredictor
from mebert.exit_predictor.coverage import Coverage
from mebert.exit_predictor.fitting import PredictorKind, PredictorSettings
from mebert.exit_predictor.linear import LinearExitPredictor
from mebert.metrics.curve import replay, speedup_layers
from mebert.metrics.record_files import record_from_tensors
from mebert.policies import policy_from_spec
from mebert.runtime.messages import rank_zero_info, rank_zero_warn
from mebert.runtime.progress import rows_pass
from mebert.storage.atomic import atomic_write
from mebert.storage.checkpoints import read_checkpoint
from mebert.storage.thresholds import Threshold

if TYPE_CHECKING:
    from mebert.data.tokenised import TokenisedSplit
    from mebert.models.multi_exit import MultiExitModel
    from mebert.modules import MultiExitModule
    from mebert.policies import ExitPolicy


class ExitPrediction(L.Callback):
    """Fits exit predictors (GEEP's exit-layer prediction) at the end of `fit`; does nothing unless `kind` is given.

    One pass of the best checkpoint over a split serves the policy's own threshold and every stored speed-up: each gets
    a predictor, kept in that checkpoint and in the model folder. `test` then reports how well they predict, and the
    engine `predicted` runs by them.

    Args:
        kind: `token` is GEEP's table of the exits that texts with a token took, `linear` a small head on the embedding
            output, to compare with; `static` (after HashEE) goes by the frequency of tokens in the training and
            validation rows, without any pass, and is as fast as each stored speed-up; null makes none.
        ngram: Longest run of tokens that the table counts, at least 1; runs of 2 and more are hashed.
        coverage: How a predicted distribution becomes one exit: null takes the likeliest, a number in (0, 1] the
            smallest exit whose cumulative mass reaches it, and `match` the number at which the predicted exits are, on
            the validation split, as fast as those that the policy took.
        split: Rows to learn from: `train` has more of them, `val` was not trained on.
        max_rows: At most this many of them, drawn by a fixed seed; null for all.
        buckets: Rows of the table that runs of 2 and more tokens share by their hash.
        prior_strength: How many occurrences of a token the shares of all samples weigh as, above 0.
    """

    def __init__(
        self,
        kind: PredictorKind | None = None,
        ngram: int = 1,
        coverage: Coverage = "match",
        split: Literal["train", "val"] = "train",
        max_rows: int | None = 20_000,
        buckets: int = 2**18,
        prior_strength: float = 10.0,
    ) -> None:
        check_range("exit_prediction.max_rows", max_rows, 1)
        self.settings = PredictorSettings(kind or "token", ngram, coverage, buckets, prior_strength)
        self.kind = kind
        self.split = split
        self.max_rows = max_rows

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        data = getattr(trainer, "datamodule", None)
        if stage == "fit" and self.kind is not None and not hasattr(data, "collate_for"):
            given = "plain loaders" if data is None else type(data).__name__
            raise UserError(
                f"exit_prediction.kind is {self.kind}, but {given} has no tokenised rows to learn from; train with "
                "TextDataModule (or a subclass) as datamodule, or set exit_prediction.kind to null"
            )
        if stage == "fit" and self.kind == "linear" and getattr(data, "window", None) is not None:
            raise UserError(
                "exit_prediction.kind linear reads the embeddings of one input, and data.stride makes several of a "
                "text; take kind token or static"
            )

    @override
    def on_train_end(self, trainer: L.Trainer, pl_module: MultiExitModule) -> None:  # type: ignore[override]
        if self.kind is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        found = (c.best_model_path for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint))
        best = next((path for path in found if path), None)
        if best is None:
            rank_zero_warn("exit_prediction: no checkpoint was written, so no exit predictor is made")
            return
        started = time.perf_counter()
        content = read_checkpoint(Path(best))
        # A copy: the module keeps the weights of the end of training.
        model = copy.deepcopy(pl_module.model).eval()
        weights = content["state_dict"].items()
        model.load_state_dict({k.removeprefix("model."): v for k, v in weights if k.startswith("model.")})
        policy = policy_from_spec(content["mebert"]["policy"]).bind(model)
        points = content["mebert"]["operating_points"].get(policy.name, {})
        recorded = content["mebert"].get("validation_record")
        scores = {} if recorded is None else record_from_tensors(recorded).scores
        predictors = self._fit(trainer, model, policy, points, scores.get(policy.name))
        if trainer.is_global_zero:
            content["mebert"]["exit_predictors"] = [predictor.state() for predictor in predictors]
            atomic_write(content, Path(best))
            rows = predictors[0].origin.rows if predictors[0].origin else 0
            rank_zero_info(
                f"exit prediction: {self.kind} predictors for {len(predictors)} operating points of {policy.name} from "
                f"{rows:,} {self.split} rows in {time.perf_counter() - started:.1f} s"
            )
        trainer.strategy.barrier()

    def _fit(
        self,
        trainer: L.Trainer,
        model: MultiExitModel,
        policy: ExitPolicy,
        points: dict[float, Threshold],
        recorded: Tensor | None,
    ) -> list[ExitPredictor]:
        """A predictor for the policy's threshold and each stored one; made on process 0 alone, after common passes.

        `recorded` are the policy's scores on validation data (E, N), if the checkpoint keeps them.
        """
        validation = trainer.datamodule.validation_names[0]  # type: ignore[attr-defined]
        targets: dict[Threshold, float | None] = {policy.threshold: None}
        targets |= {threshold: target for target, threshold in points.items()}
        learn_from = "train" if self.split == "train" else validation
        if self.kind == "static":  # from the tokens alone, but how fast the policy's own threshold is has to be seen
            wanted = {threshold: target for threshold, target in targets.items() if target is not None}
            if unknown := [threshold for threshold in targets if threshold not in wanted]:
                if recorded is None:
                    recorded = self._score(trainer, model, policy, validation).scores
                layers = model.exit_layers
                wanted |= {threshold: speedup_layers(replay(recorded, threshold), layers) for threshold in unknown}
            if not trainer.is_global_zero:
                return []
            rows = self._rows(trainer, learn_from)
            fresh = rows if learn_from == validation else self._rows(trainer, validation)
            how, special = self.settings.coverage, trainer.datamodule.tokenizer.all_special_ids  # type: ignore[attr-defined]
            return [
                fitting.fit_static(
                    model, rows, policy.with_threshold(at), wanted[at], how, target, self.split, fresh, special
                )
                for at, target in targets.items()
            ]
        scored, unseen = self._score(trainer, model, policy, learn_from), None
        if self.split == "train" and self.settings.coverage == "match":
            unseen = self._score(trainer, model, policy, validation)
        if not trainer.is_global_zero:
            return []
        return [
            fitting.fit_from_scores(
                model, scored, policy.with_threshold(threshold), self.settings, target, self.split, unseen
            )
            for threshold, target in targets.items()
        ]

    def _rows(self, trainer: L.Trainer, name: str) -> TokenisedSplit:
        """The rows of a split, or `max_rows` of them."""
        rows: TokenisedSplit = trainer.datamodule.split(name)  # type: ignore[attr-defined]
        if self.max_rows is None or len(rows) <= self.max_rows:
            return rows
        drawn = np.random.default_rng(0).permutation(len(rows))[: self.max_rows]
        return rows.select(np.sort(drawn))

    def _score(self, trainer: L.Trainer, model: MultiExitModel, policy: ExitPolicy, name: str) -> fitting.ScoredRows:
        """An adaptive run over (at most `max_rows` rows of) a split, shared by the processes."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        rows = self._rows(trainer, name)
        head = None
        if self.kind == "linear":
            head = LinearExitPredictor(model.num_exits, model.adapter.hidden_size).bind(model)
        rank_zero_info(f"exit prediction: running the best checkpoint on {len(rows):,} rows of {name}")
        score = partial(fitting.score_batch, model, policy, head)
        with rows_pass(f"exits of {name} rows", trainer, len(rows), data.eval_batch_size) as bar:
            values = score_split(trainer, rows, data.collate_for(), score, data.eval_batch_size, bar.tick)
        return fitting.as_scored(rows, values, model.num_exits)
