"""`EarlyExitClassifier`: from texts to labels with a saved multi-exit model."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, overload

import torch

from mebert.choices import ProblemType
from mebert.data.tokenizers import check_vocabulary, tell_unknown_length
from mebert.errors import UserError, brief, check_range
from mebert.inference import BatchPlan, EngineName, PrecisionName, make_engine, prepare_model, prepare_policy
from mebert.inference.auto_backend import AutoBackend
from mebert.inference.batching import MOST_ROWS
from mebert.inference.prediction import Prediction, prediction_of
from mebert.inference.saved_parts import export_beside, saved_parts
from mebert.inference.settings import chosen_policy, whole_number
from mebert.inference.stream import TextEncoder, classify_stream
from mebert.models import MultiExitModel
from mebert.onnx.backend import OnnxBackend, is_exported, refuse_export
from mebert.policies import ExitPolicy
from mebert.policies.stored_thresholds import stored_point
from mebert.runtime.precision import pick_device, pick_precision
from mebert.storage.hub_folder import model_folder
from mebert.storage.operating_point import OperatingPoint, asked_by
from mebert.storage.spec_parts import Expected
from mebert.storage.thresholds import Threshold

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from mebert.exit_predictor import ExitPredictor

LONG_INPUT = 1000  # texts from which on a progress bar is shown


class EarlyExitClassifier:
    """A multi-exit model ready to classify texts.

    A text gives one `Prediction`, a list of texts a list of them, and any other iterable (a generator, an open file) a
    generator that reads lazily and yields predictions in order, in bounded memory.

    Args:
        model: A copy of it is prepared for inference.
        tokenizer: The model's; texts are read with a copy of it.
        policy: Decides when texts leave, with its threshold; None: every call must name one.
        operating_points: Policy name to speed-up by layers to threshold, for `speedup`.
        predictors: Exit predictors, for the engine `predicted`.
        device: `cpu`, `cuda`, ...; None: CUDA if available, else the CPU.
        precision: `float32`, `bfloat16` or `int8` (CPU); None: bfloat16 where the hardware multiplies it fast.
        compile: Compile the layers, which takes a minute at the first texts; needs a C++ compiler on a CPU.
        max_drops: Policy name to largest allowed drop to threshold, for `max_drop`.
        max_length: Longest text in tokens, as in training: longer ones are cut where a call gives no other length;
            None: the longest that the model can read.
        num_texts: Texts that the model was trained to read at a time, 1 or 2 (pairs), for a warning; None: not known.
        chosen_by: What chose the policy's threshold, in words, for `operating_point`.
        expected: Policy name to what validation data expect at thresholds, for the same.
        stride: As in training: longer texts are read in windows that overlap by so many tokens; None: they are cut.

    Threads may share one, each with settings of its own.

    Raises:
        UserError: A setting that this machine does not support.
    """

    backend: Final = "torch"

    def __init__(
        self,
        model: MultiExitModel,
        tokenizer: PreTrainedTokenizerBase,
        policy: ExitPolicy | None = None,
        operating_points: Mapping[str, Mapping[float, Threshold]] | None = None,
        predictors: Sequence[ExitPredictor] = (),
        device: str | torch.device | None = None,
        precision: PrecisionName | None = None,
        compile: bool = False,
        max_drops: Mapping[str, Mapping[float, Threshold]] | None = None,
        max_length: int | None = None,
        num_texts: int | None = None,
        chosen_by: str | None = None,
        expected: Mapping[str, Sequence[Expected]] | None = None,
        stride: int | None = None,
    ) -> None:
        default = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = device if isinstance(device, torch.device) else pick_device(device or default)
        if precision is None:
            precision = "bfloat16" if pick_precision(self.device.type)[0].startswith("bf16") else "float32"
        self.precision: PrecisionName = precision
        self.model = prepare_model(model, precision, compile, self.device)
        check_vocabulary(tokenizer, model.adapter.config.vocab_size)
        self.tokenizer = tokenizer
        self._own_tokenizer = copy.deepcopy(tokenizer)  # whose state no other code can change
        most = min(self.model.adapter.max_length, tokenizer.model_max_length)
        self._most_tokens = most
        self.max_length = most if max_length is None else min(max_length, most)
        self.num_texts, self.stride = num_texts, stride
        self.policy = None if policy is None else prepare_policy(policy, self.model)
        self.operating_points = operating_points or {}
        self.max_drops = max_drops or {}
        self.chosen_by, self.expected = chosen_by, expected or {}
        self.predictors = [predictor.to(self.device).bind(self.model) for predictor in predictors]

    @overload
    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        device: str | torch.device | None = None,
        precision: PrecisionName | None = None,
        compile: bool = False,
        *,
        backend: Literal["torch"] = "torch",
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> Self: ...

    @overload
    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        backend: Literal["onnx"],
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> OnnxBackend: ...

    @overload
    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        device: str | torch.device | None = None,
        precision: PrecisionName | None = None,
        compile: bool = False,
        *,
        backend: Literal["auto"],
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> Self | OnnxBackend | AutoBackend[Self]: ...

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        device: str | torch.device | None = None,
        precision: PrecisionName | None = None,
        compile: bool = False,
        *,
        backend: Literal["torch", "onnx", "auto"] = "torch",
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> Self | OnnxBackend | AutoBackend[Self]:
        """Open a model folder (`<run>/model`, or the run's own folder) or a Hub id, of which it fetches what is needed.

        Args:
            path: Written by `fit` or `MultiExitModel.save_pretrained`, with a tokenizer; a Hub id may be
                `<id>@<revision>`.
            device: As in the class.
            precision: As in the class.
            compile: As in the class.
            backend: `torch`; `onnx` for a folder of `python -m mebert export`, a run or a Hub id with one in it; it has
                its own precision; or `auto`: where the export is beside the model (`<run>/exported`), both are
                opened and timed, which takes less than a second, and each call goes to the one that is faster at its
                batch size. Without an export, without onnxruntime, on a GPU or where `precision` is not the export's,
                it is `torch`; of an export alone `onnx`.
            revision: Of a Hub id: a branch, tag or commit.
            token: Of the account that may read it; None: that of `hf auth login` or `HF_TOKEN`.

        Raises:
            UserError: There is no such folder or id, or it has no exits or no tokenizer.
        """
        if backend not in ("torch", "onnx", "auto"):
            raise UserError(f"backend must be torch, onnx or auto, got {brief(backend)}")
        if backend == "onnx" or (backend == "auto" and is_exported(path)):
            return OnnxBackend(path, revision=revision, token=token)
        refuse_export(path)
        folder = model_folder(path, revision, token)
        parts = saved_parts(folder)
        found = cls(**parts, device=device, precision=precision, compile=compile)
        if parts["max_length"] is None:
            tell_unknown_length(str(path), found.max_length)
        onnx = export_beside(folder) if backend == "auto" and found.device.type == "cpu" else None
        return found if onnx is None or precision not in (None, onnx.precision) else AutoBackend(found, onnx)

    @property
    def operating_point(self) -> OperatingPoint | None:
        """The point at which texts leave unless a call asks for another; None where every call must name one."""
        return None if self.policy is None else self.point_of()

    def point_of(
        self,
        policy: str | ExitPolicy | None = None,
        threshold: float | Sequence[float] | None = None,
        speedup: float | None = None,
        max_drop: float | None = None,
    ) -> OperatingPoint:
        """The point at which these settings of a call let texts leave, and what validation data expect of it."""
        chosen = self.choose_policy(policy, threshold, speedup, max_drop)
        asked = asked_by(threshold, speedup, max_drop)
        own = "the policy given" if isinstance(policy, ExitPolicy) else self.chosen_by
        return stored_point(chosen, asked or own, {} if isinstance(policy, ExitPolicy) else self.expected)

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """The layer (1-based) of each exit."""
        return self.model.exit_layers

    @property
    def problem_type(self) -> ProblemType:
        """As Hugging Face's configuration names it."""
        return self.model.problem_type

    @property
    def multi_label(self) -> bool:
        """Whether a text may have several labels."""
        return self.model.multi_label

    @property
    def label_names(self) -> list[str]:
        return self.model.label_names

    def __call__(
        self,
        texts: Any,
        *,
        policy: str | ExitPolicy | None = None,
        threshold: float | Sequence[float] | None = None,
        speedup: float | None = None,
        max_drop: float | None = None,
        engine: EngineName | Literal["auto"] = "auto",
        batch_size: int = 128,
        tokens_per_batch: int | None = None,
        max_length: int | None = None,
        window: int | None = None,
        progress: bool | None = None,
    ) -> Any:
        """Classify: a `Prediction` for one text, a list for a list, a generator for any other iterable.

        Args:
            texts: A text or a pair `(a, b)`; a list of either; or any other iterable of them, which is read lazily.
            policy: Its name (`entropy`, `max_prob`, ...) or the policy itself; None: the model's own.
            threshold: Use this threshold, in [0, 1], instead of the stored one; a list has one for each exit but the
                last.
            speedup: Use the threshold that was stored for this speed-up by layers; 1 is the full depth.
            max_drop: Use the threshold that `calibrate` stored for this largest allowed drop: the guaranteed one if it
                is the epsilon of a guarantee, else the measured one.
            engine: `shrink`, `full`, `refill` or `predicted`; `auto`: shrink.
            batch_size: Most texts per batch.
            tokens_per_batch: Most tokens per batch, padding included; None: no such limit.
            max_length: Longest text in tokens; longer ones are truncated (where `self.stride` is set: read in windows).
                None: as in training (`self.max_length`).
            window: Texts that are read ahead and sorted by length together; None: 8 batches.
            progress: Show a progress bar; None: on a terminal, for long lists.

        Raises:
            UserError: A setting that is invalid or not stored, or an input that is not text.
        """
        max_length = None if max_length is None else whole_number("max_length", max_length)
        tokens = None if tokens_per_batch is None else whole_number("tokens_per_batch", tokens_per_batch)
        plan = BatchPlan(whole_number("batch_size", batch_size), tokens)
        window = 8 * plan.max_batch if window is None else whole_number("window", window)
        check_range("window", window, 1, MOST_ROWS)
        encoder = self.text_encoder(max_length)
        runner = make_engine(
            "shrink" if engine == "auto" else engine,
            self.model,
            self.choose_policy(policy, threshold, speedup, max_drop),
            batch_size=plan.max_batch,
            max_wait=max(1, window // plan.max_batch),  # about a window, so that few results wait for their turn
            predictors=self.predictors,
        )
        single = isinstance(texts, str) or (isinstance(texts, tuple) and len(texts) == 2 and isinstance(texts[0], str))
        if not single and (isinstance(texts, dict | bytes) or not isinstance(texts, Iterable)):
            raise UserError(f"texts must be a text, a pair, or an iterable of such, got {type(texts).__name__}")
        results = classify_stream(runner, encoder, [texts] if single else texts, plan, window)
        found = (prediction_of(logits, index + 1, self.label_names, self.multi_label) for logits, index in results)
        if single:
            return next(found)
        if isinstance(texts, Sequence):
            shown = progress if progress is not None else len(texts) >= LONG_INPUT and sys.stderr.isatty()
            return list(_with_bar(found, len(texts)) if shown else found)
        return _with_bar(found, None) if progress else found

    def choose_policy(
        self,
        policy: str | ExitPolicy | None = None,
        threshold: float | Sequence[float] | None = None,
        speedup: float | None = None,
        max_drop: float | None = None,
    ) -> ExitPolicy:
        """The policy at the threshold that these settings ask for, bound to the model; arguments as in a call."""
        stored = (self.operating_points, self.max_drops)
        return chosen_policy(self.model, self.policy, *stored, policy, threshold, speedup, max_drop)

    def text_encoder(self, max_length: int | None = None) -> TextEncoder:
        """What makes batches of one input's texts; `max_length` as in a call."""
        if max_length is not None and not 1 <= max_length <= self._most_tokens:
            raise UserError(f"max_length must be from 1 to {self._most_tokens} for this model, got {max_length}")
        longest = self.max_length if max_length is None else max_length
        return TextEncoder(self._own_tokenizer, longest, self.device, self.num_texts, self.stride)


def _with_bar(found: Iterator[Prediction], total: int | None) -> Iterator[Prediction]:
    from rich.console import Console
    from rich.progress import track

    yield from track(found, "Classifying", total=total, console=Console(stderr=True), transient=True)
