"""The base of all recipes: joint training of every exit, one step for all stages, a policy with its threshold.

Shapes: B batch, C classes, E exits, F feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lightning as L
from torch import Tensor, nn

from mebert.choices import HeadKind, PoolingKind, ProblemType
from mebert.data.label_names import check_data_labels, is_unnamed
from mebert.errors import check_range
from mebert.inference import EngineName
from mebert.losses import balanced_weights, depth_weights, per_exit_losses, uniform_weights
from mebert.models.families import build_encoder
from mebert.models.multi_exit import ExitOutputs, MultiExitModel, model_inputs
from mebert.models.pooler import start_from_pooler
from mebert.modules.checks import check_fit, check_strategy, check_unlabelled, first_class_weights, train_labels
from mebert.modules.engine_prediction import PredictionModule
from mebert.modules.fitted_indicators import check_rows, has_fitted_parts
from mebert.modules.optimization import adamw_with_linear_decay
from mebert.policies import ExitPolicy
from mebert.runtime.messages import rank_zero_info
from mebert.runtime.precision import may_fuse
from mebert.storage.operating_point import MAX_DROP, check_max_drop
from mebert.storage.thresholds import as_threshold, check_threshold


def stage_prefix(trainer: L.Trainer, stage: str, dataloader_idx: int = 0) -> str:
    """The prefix of a split's metrics: its name in the data module's `validation_names` or `test_names`, if any."""
    attribute = {"val": "validation_names", "test": "test_names"}.get(stage, "")
    names = getattr(getattr(trainer, "datamodule", None), attribute, None) or [stage]
    return str(names[dataloader_idx]) if dataloader_idx < len(names) else f"{stage}_{dataloader_idx}"


class MultiExitModule(PredictionModule):
    """Joint training: the weighted cross-entropy of all exits (mean squared error where `num_labels` is 1).

    Where a row has several labels it is the binary cross-entropy, mean over labels.

    To write another recipe, subclass, override `compute_loss` (and, where it must, `build_model`,
    `configure_optimizers`, `default_policy` or `score_policies`) and name the class by `class_path`.
    Subclasses pass on what they do not use as `**kwargs`.

    Args:
        encoder: Hub id or folder of the pretrained encoder.
        num_labels: Number of classes; 1 means regression. The command line takes it from the data.
        encoder_config: Build the encoder from scratch with these Hugging Face settings (`model_type` and others)
            instead of loading `encoder`.
        encoder_layers: Use only that many layers of the encoder, the first ones; null uses all.
        pooling: What every exit reads: the [CLS] token, the masked mean or maximum over tokens, a small attention, or
            FastBERT's, whose feature is of width 128.
        head: `mlp` is Linear, tanh, dropout, Linear; `linear` is dropout and one Linear; `shared` is `mlp` whose first
            Linear is the same for all exits.
        exit_layers: Layers with an exit, from 1, ending with the last layer; null gives every layer one.
        exit_weights: `uniform`, or `depth` (exit i weighs i, as in PABEE).
        class_weights: What a sample of each class weighs in the cross-entropy, in the order of the labels; `balanced`
            lets all classes count the same: w_c = N / (C n_c) for n_c of N training samples. Null weighs all alike.
        dropout: Replaces the encoder's dropout rates and sets the heads'; null keeps the encoder's, and 0.1 in heads.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: On matrices only, not on biases and LayerNorm.
        warmup_ratio: Share of the steps with rising learning rate, in [0, 1); linear decay follows.
        target_speedup: Choose the policy's threshold on validation data for this speed-up by layers, at least 1, and
            not by `max_drop`.
        threshold: Threshold of the policy, in [0, 1], instead of one chosen on validation data; a list has one for each
            exit but the last.
        policy: When samples leave, by class_path (`mebert.Patience`, ...), instead of the recipe's own rule. What it
            has to choose, its threshold included, is chosen on validation data, unless its threshold (or patience) is
            set here or by `threshold`.
        engine: How `predict` runs: `shrink` drops samples as they leave, `full` runs all layers, `refill` lets those
            that stay wait for a full batch, `predicted` runs each straight to the exit that an exit predictor names.
        attn_implementation: `sdpa` or `eager`; no effect on a family that transformers runs in one way only.
        head_learning_rate: Peak learning rate of all that is not the encoder (exit heads, prototypical networks, ...),
            which starts from random weights; null takes `learning_rate`. Recipes of two stages have none.
        max_drop: The policy's threshold is the fastest at which the main metric on validation data is at most this much
            below the last exit's, a difference such as 0.005; full depth where none is.
        pretrained_pooler: Start the first Linear of every exit from the encoder's pretrained pooler, which reads [CLS]
            (of ElasticBERT's weights, which have one a layer, from its layer's). Null does so where the encoder has
            one, `pooling` is `cls` and `head` has such a layer; true is an error elsewhere; false starts at random.
        problem_type: What a label is, as in Hugging Face. The command line takes it from the data; null: by
            `num_labels` one class, or a number.
        per_exit: Choose a threshold for each exit instead of one for all, together, where validation data choose them.
    """

    model_class: type[MultiExitModel] = MultiExitModel

    def __init__(
        self,
        encoder: str = "google-bert/bert-base-uncased",
        num_labels: int = 2,
        encoder_config: dict[str, Any] | None = None,
        encoder_layers: int | None = None,
        pooling: PoolingKind = "cls",
        head: HeadKind = "mlp",
        exit_layers: list[int] | None = None,
        exit_weights: Literal["uniform", "depth"] = "uniform",
        class_weights: list[float] | Literal["balanced"] | None = None,
        dropout: float | None = None,
        learning_rate: float = 2e-5,
        weight_decay: float = 0.0,
        warmup_ratio: float = 0.0,
        target_speedup: float | None = None,
        threshold: float | list[float] | None = None,
        policy: ExitPolicy | None = None,
        engine: EngineName = "shrink",
        attn_implementation: Literal["sdpa", "eager"] = "sdpa",
        head_learning_rate: float | None = None,
        max_drop: float = MAX_DROP,
        pretrained_pooler: bool | None = None,
        problem_type: ProblemType | None = None,
        per_exit: bool = False,
    ) -> None:
        super().__init__()
        check_range("learning_rate", learning_rate, 0.0, low_open=True)
        check_range("head_learning_rate", head_learning_rate, 0.0, low_open=True)
        check_range("weight_decay", weight_decay, 0.0)
        check_range("warmup_ratio", warmup_ratio, 0.0, 1.0)
        check_range("target_speedup", target_speedup, 1.0)
        check_threshold("threshold", threshold)
        check_max_drop("max_drop", max_drop)
        self.save_hyperparameters()
        self.learning_rate = learning_rate
        self.head_learning_rate = head_learning_rate
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.target_speedup = target_speedup
        self.threshold = None if threshold is None else as_threshold(threshold)
        self.max_drop = max_drop
        self.per_exit = per_exit
        self.engine = engine
        self.model = self.build_model()
        make_weights = depth_weights if exit_weights == "depth" else uniform_weights
        self.exit_weights: Tensor
        self.register_buffer("exit_weights", make_weights(self.model.num_exits), persistent=False)
        self.class_weights: Tensor | None
        self.register_buffer(
            "class_weights", first_class_weights(class_weights, num_labels, problem_type), persistent=False
        )
        self.init_policy(policy)
        self.loss_parts: dict[str, Tensor] = {}  # of the last training batch, for callbacks

    def build_model(self) -> MultiExitModel:
        """The multi-exit model of the settings in `self.hparams`."""
        hp = self.hparams
        source = hp["encoder"], hp["encoder_config"], hp["dropout"], hp["attn_implementation"]
        encoder = build_encoder(*source, layers=hp["encoder_layers"])
        model = self.model_class(
            encoder,
            exit_layers=self.exit_layers(encoder.config.num_hidden_layers),
            head_dropout=0.1 if hp["dropout"] is None else hp["dropout"],
            **{name: hp[name] for name in ("num_labels", "pooling", "head")},
            **({} if hp["problem_type"] is None else {"problem_type": hp["problem_type"]}),
        )
        pretrained = hp["encoder"] if hp["encoder_config"] is None else None
        self.starts_from_pooler = start_from_pooler(model, pretrained, hp["pretrained_pooler"])
        if pretrained is not None and not Path(pretrained).exists():  # known here alone: such a path may be relative
            model.base_model = pretrained
        return model

    def exit_layers(self, num_layers: int) -> list[int] | None:
        """The layers with an exit, from 1, for an encoder of `num_layers`; None gives every layer one."""
        layers: list[int] | None = self.hparams["exit_layers"]
        return layers

    def compute_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss and its named parts, each logged as `<stage>/<name>`.

        Args:
            outputs: Logits (E, B, C) and features (E, B, F) of all exits.
            batch: Has `labels` (B,), or (B, C) of 0 and 1 where a row has several.

        Returns:
            At least `loss`, a scalar.
        """
        return {"loss": self.weighted_exit_loss(outputs, batch)}

    def score_of_exits(self, values: Tensor) -> Tensor:
        """`val/score`, by which the best checkpoint is chosen, from the main metric of every exit (E,)."""
        return values.mean()

    def score_of_curve(self, area: float) -> float:
        """`val/auc`, to choose a checkpoint by, from the area under the curve of the module's policy."""
        return area

    def configure_optimizers(self) -> Any:
        """AdamW (fused where it can be) with linear warm-up and decay."""
        steps, rates = int(self.trainer.estimated_stepping_batches), (self.learning_rate, self.weight_decay)
        return adamw_with_linear_decay(
            self, *rates, self.warmup_ratio, steps, self.own_rates(), fused=may_fuse(self.trainer)
        )

    def own_rates(self) -> list[tuple[nn.Parameter, float]]:
        """Parameters with a peak learning rate of their own: what `head_learning_rate` is for, if it is set."""
        if self.head_learning_rate is None:
            return []
        encoder = {id(parameter) for parameter in self.model.encoder.parameters()}
        return [(p, self.head_learning_rate) for p in self.model.parameters() if id(p) not in encoder]

    def weighted_exit_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the exits' losses, weights summing to 1."""
        return (self.exit_weights * self.per_exit_losses(outputs, batch)).sum()

    def per_exit_losses(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of each exit, (E,)."""
        labels = batch["labels"]  # of the first rows: those after them have none (`data.unlabelled_file`)
        return per_exit_losses(outputs.logits[:, : len(labels)], labels, self.class_weights)

    @property
    def learns_without_labels(self) -> bool:
        """Whether training rows without a label have a place in `compute_loss`, after those with one."""
        return False

    exit_loss, losses_of_exits = weighted_exit_loss, per_exit_losses  # their names in mebert 0.1.0

    def forward(self, **inputs: Tensor) -> ExitOutputs:
        outputs: ExitOutputs = self.model(**inputs)
        return outputs

    def exit_logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The logits of all exits for a batch, (E, B, C)."""
        logits: Tensor = self(**model_inputs(batch)).logits
        return logits

    def _step(self, batch: Mapping[str, Tensor], stage: str) -> dict[str, Tensor]:
        outputs = self(**model_inputs(batch))
        step = {"logits": outputs.logits.detach(), "features": outputs.features.detach(), "index": batch["index"]}
        if "labels" in batch:
            known = len(batch["labels"])
            step = {"logits": step["logits"][:, :known], "features": step["features"][:, :known]}
            step |= {"index": batch["index"][:known], "labels": batch["labels"]}
            if stage == "train":
                weight, parts = float(len(batch["index"])), self.compute_loss(outputs, batch)
            else:
                rows = batch["index"] >= 0
                # Rows with index -1 only pad a process's share of an evaluation split.
                kept = ExitOutputs(outputs.logits[:, rows], outputs.features[:, rows])
                parts = self.compute_loss(kept, {name: value[rows] for name, value in batch.items()})
                # A float, since Lightning truncates the mean of integers over processes (20.5 would weigh 20).
                weight = float(rows.sum())
                if not weight:  # nothing but padding: it must not put a NaN into the mean
                    parts = {name: value.new_zeros(()) for name, value in parts.items()}
            values = {name: value.detach() for name, value in parts.items()}
            if stage == "train":
                self.loss_parts = values
            self.log_dict(
                {f"{stage}/{name}": value for name, value in values.items()},
                prog_bar=stage == "train",
                batch_size=weight,  # type: ignore[arg-type]
                sync_dist=stage != "train",
                add_dataloader_idx=False,
            )
            step["loss"] = parts["loss"]
        return step

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._step(batch, "train")

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        return self._step(batch, stage_prefix(self.trainer, "val", dataloader_idx))

    def test_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        return self._step(batch, stage_prefix(self.trainer, "test", dataloader_idx))

    def setup(self, stage: str) -> None:
        """Take label names and balanced class weights from the data; check that texts of its length fit the encoder.

        A trained model keeps its label names, and data with others are refused.
        """
        datamodule = getattr(self.trainer, "datamodule", None)
        names = getattr(datamodule, "label_names", None)
        if stage != "fit":
            check_data_labels(self.model.label_names, datamodule)
        if names and len(names) == self.model.num_labels and (stage == "fit" or is_unnamed(self.model.label_names)):
            self.model.label_names = [str(name) for name in names]
        check_strategy(self.trainer.strategy)
        check_fit(self.model, datamodule)
        if stage == "fit":
            check_unlabelled(self, datamodule)
        if stage == "fit" and self.starts_from_pooler:
            rank_zero_info("exits start from the encoder's pretrained pooler (model.pretrained_pooler)")
        self.model.window = getattr(datamodule, "window", None)
        if stage == "fit" and has_fitted_parts(self.model):
            check_rows(datamodule)
        if stage == "fit" and self.hparams["class_weights"] == "balanced" and self.class_weights is not None:
            self.class_weights.copy_(balanced_weights(train_labels(datamodule), self.model.num_labels))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["mebert"]["class_weights"] = None if self.class_weights is None else self.class_weights.tolist()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if self.class_weights is not None and self.hparams["class_weights"] == "balanced":
            # Without the training rows (validate, test) they could not be worked out again.
            self.class_weights.copy_(self.class_weights.new_tensor(checkpoint["mebert"]["class_weights"]))
