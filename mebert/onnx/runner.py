"""Classify with an exported early-exit model: ONNX Runtime, tokenizers and NumPy alone, no PyTorch.

`OnnxClassifier("folder")(["Fine.", "Dull."], speedup=2)`, or `python runner.py FOLDER TEXT ...`. A text leaves at the
first exit whose score is below the threshold. Shapes: B texts, n windows of them (B where texts are cut), C labels.
"""

import argparse
import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

FORMAT = 1
NEEDED = frozenset({
    "labels", "longest", "max_drops", "max_length", "num_texts", "operating_points", "pad_token_id", "policy",
    "problem_type", "split_special_tokens", "stride", "truncation_side", "unsplit",
})  # fmt: skip
Threshold = float | Sequence[float]  # for all exits, or for each but the last
OTHER = "the model was trained on {}, and the inputs are none; its answers may mean nothing"
_pool: list[bool] = []  # whether all sessions of the process share one pool of threads, which this module has made
Windows = list[tuple[list[int], list[int]]]  # token ids and segment ids of each window of a text


class ExportError(ValueError):
    """A folder that is no export, or is damaged, or a call with a wrong setting: what, where, and what to do."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one text: `score` for regression, `labels` (above 0.5) where there may be several."""

    label: str | None
    probabilities: dict[str, float]
    exit: int
    score: float | None = None
    labels: tuple[str, ...] | None = None


class OnnxClassifier:
    """An exported model ready to classify texts; `threads`, of all models of the process: None is one a core."""

    def __init__(self, folder: str | Path, threads: int | None = None) -> None:
        self.manifest = read_manifest(folder := Path(folder))
        self._graphs = [open_graph(folder / name, threads) for name in ("embed.onnx", *self.manifest["exits"])]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = bool(self.manifest["split_special_tokens"])
        self._unsplit = re.compile("|".join(map(re.escape, self.manifest["unsplit"])) or "(?!)")

    def threshold_of(self, threshold: Any = None, speedup: Any = None, max_drop: Any = None) -> Threshold:
        """The threshold that these settings ask for; without any the model's own."""
        asked = {"threshold": threshold, "speedup": speedup, "max_drop": max_drop}.items()
        if len(given := [(name, value) for name, value in asked if value is not None]) > 1:
            raise ExportError(f"{' and '.join(name for name, _ in given)} were both given; give one of them")
        for name, value in given:
            most, size = (1, len(self.manifest["exits"]) - 1) if name == "threshold" else (np.inf, -1)
            at, what = np.asarray(value), f"in [0, 1], or a list of {size}" if size >= 0 else "a number of at least 0"
            if at.dtype.kind not in "fiu" or at.shape not in ((), (size,)) or not all(0 <= n <= most for n in at.flat):
                raise ExportError(f"{name} must be {what}, got {value!r:.80}")
            if name == "threshold" or given == [("speedup", 1)]:
                return at.tolist() if name == "threshold" else 0.0
            section = self.manifest["operating_points" if name == "speedup" else "max_drops"]
            stored = {float(key): limit for key, limit in section.items()}
            if value not in stored:
                known = ", ".join(f"{key:g}" for key in stored) or "none"
                raise ExportError(f"{name} {value:g} is not stored with this model (stored: {known})")
            return stored[value]
        return self.manifest["policy"]["threshold"]

    def __call__(
        self, texts: Any, *, batch_size: int = 32, max_length: int | None = None, window: int | None = None, **at: Any
    ) -> Any:
        """Classify: a `Prediction` for a text or a pair (a, b), a list for a list, a generator for any other iterable.

        Texts leave at the stored threshold, or at `threshold=`, or at that stored for a `speedup=` (1: the full depth)
        or for a largest `max_drop=`. `window` texts (None: 32 batches) are read ahead and sorted by length together.
        """
        limit, ahead = self.threshold_of(**at), 1 if window is None else window
        longest = self.manifest["max_length"] if max_length is None else max_length
        for name, value in (("batch_size", batch_size), ("max_length", longest), ("window", ahead)):
            if np.ndim(value) or np.asarray(value).dtype.kind not in "fiu" or not value >= 1 or value % 1:
                raise ExportError(f"{name} must be a whole number of at least 1, got {value!r:.80}")
        if longest > (most := self.manifest["longest"]):
            raise ExportError(f"max_length must be at most {most} for this model, got {longest}")
        single = isinstance(texts, str) or (isinstance(texts, tuple) and _is_pair(texts))
        if not single and (isinstance(texts, dict | bytes) or not isinstance(texts, Iterable)):
            raise ExportError(f"texts must be a text, a pair, or an iterable of such, got {type(texts).__name__}")
        sizes = int(batch_size), int(longest), int(window or 32 * batch_size)
        found = self._stream([texts] if single else texts, limit, *sizes)
        return next(found) if single else list(found) if isinstance(texts, Sequence) else found

    def in_words(self, answer: Prediction) -> str:
        """A line for people, as `mebert predict --text` prints it."""
        shares, chosen = answer.probabilities, (answer.label,) if answer.labels is None else answer.labels
        what = ", ".join(f"{name} ({shares[name]:.4f})" for name in chosen if name is not None)
        if not what and shares:
            what = "none of the labels (the nearest: {}, {:.4f})".format(*max(shares.items(), key=lambda one: one[1]))
        return f"{what or f'{answer.score:.4f}'}, exit {answer.exit} of {len(self.manifest['exits'])}"

    def encode(self, texts: Sequence[Any], max_length: int | None = None) -> list[Windows]:
        """Token ids and segment ids of some texts or pairs: of each its windows, one where it is cut."""
        stride, longest = self.manifest["stride"], self.manifest["max_length"] if max_length is None else max_length
        how = "only_second" if stride is not None and any(map(_is_pair, texts)) else "longest_first"
        side = self.manifest["truncation_side"]
        self._tokenizer.enable_truncation(longest, stride=stride or 0, strategy=how, direction=side)
        rows = self._tokenizer.encode_batch([*map(self._plain, texts)])
        return [[(w.ids, w.type_ids) for w in ([row] if stride is None else [row, *row.overflowing])] for row in rows]

    def run(self, texts: Sequence[Windows], threshold: Threshold) -> tuple[np.ndarray, np.ndarray]:
        """Logits (B, C), of several labels (B, C, 2), and exits (B,), from 0, of texts as `encode` gives them."""
        rows = [row for windows in texts for row in windows]
        text_of = np.repeat(np.arange(len(texts)), [len(windows) for windows in texts])  # the text of each window, (n,)
        lengths = np.asarray([len(ids) for ids, _ in rows])
        mask = (np.arange(int(lengths.max())) < lengths[:, None]).astype(np.int64)
        ids, segments = np.full_like(mask, self.manifest["pad_token_id"]), np.zeros_like(mask)
        ids[mask == 1], segments[mask == 1] = (np.concatenate(part) for part in zip(*rows, strict=True))
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
        return run_chain(self._graphs, feed, text_of, threshold)

    def _stream(self, texts: Iterable[Any], threshold: Threshold, batch_size: int, max_length: int, window: int) -> Any:
        iterator, first, kind, wanted = iter(texts), 1, 0, self.manifest["num_texts"] or 0  # 0: not known
        while part := [text for _, text in zip(range(window), iterator, strict=False)]:
            kind = kind or 1 + _is_pair(part[0])
            for place, text in enumerate(part, start=first):
                if not (_is_pair(text) if kind == 2 else isinstance(text, str)):
                    raise ExportError(f"input {place} is {text!r:.70}; give texts, or pairs of texts (a, b)")
            if first == 1 and kind + wanted == 3:
                warnings.warn(OTHER.format("pairs of texts" if wanted == 2 else "single texts"), stacklevel=3)
            rows = self.encode(part, max_length)
            order, answers = sorted(range(len(rows)), key=lambda n: sum(len(w[0]) for w in rows[n])), dict[int, Any]()
            for places in (order[start : start + batch_size] for start in range(0, len(order), batch_size)):
                logits, exits = self.run([rows[place] for place in places], threshold)
                answers |= {place: self._answer(*row) for place, *row in zip(places, logits, exits, strict=True)}
            yield from (answers[place] for place in range(len(part)))
            first += len(part)

    def _answer(self, logits: np.ndarray, exit_index: int) -> Prediction:
        labels, number = self.manifest["labels"], int(exit_index) + 1
        if self.manifest["problem_type"] == "regression":
            return Prediction(None, {}, number, float(logits[0]))
        shares = (w := np.exp((logits - logits.max(-1, keepdims=True)).astype(np.float64))) / w.sum(-1, keepdims=True)
        if shares.ndim == 2:  # several labels: no and yes of each
            chosen = tuple(name for name, (no, yes) in zip(labels, logits, strict=True) if yes > no)
            return Prediction(None, dict(zip(labels, shares[:, 1].tolist(), strict=True)), number, labels=chosen)
        return Prediction(labels[int(logits.argmax())], dict(zip(labels, shares.tolist(), strict=True)), number)

    def _plain(self, text: Any) -> Any:  # with special tokens that are typed as ordinary text
        one = isinstance(text, str)
        return self._unsplit.sub(lambda m: f"{m[0][0]} {m[0][1:]}", text) if one else tuple(map(self._plain, text))


def run_chain(graphs: Sequence[Any], feed: dict[str, Any], text_of: Any, threshold: Threshold) -> tuple[Any, Any]:
    """`OnnxClassifier.run` on arrays of windows, (n, S) int64 each; `text_of` (n,) is the text of each, from 0 up."""
    (embed, names), *exits = graphs
    limits = [threshold] * len(exits) if isinstance(threshold, int | float) else [*threshold, 0.0]
    hidden, *bias = embed.run(None, {name: feed[name] for name in names})
    feed, carried = {"attention_mask": feed["attention_mask"], "bias": bias[0] if bias else None}, list[Any]()
    left = np.arange(text_of[-1] + 1)  # numbers of the texts that have not left
    logits, taken = np.zeros(0), np.zeros(len(left), np.int64)
    for number, (session, names) in enumerate(exits):
        limit, last = limits[number], number + 1 == len(exits)
        feed.update({f"carried_{n}": c for n, c in enumerate(carried)}, hidden=hidden, ask=np.asarray(limit > 0))
        if "average" in names:
            own = (left[:, None] == text_of).astype(np.float32)
            feed["average"] = own / own.sum(1, keepdims=True)
        hidden, found, score, *carried = session.run(None, {name: feed[name] for name in names})
        if not last and not limit > 0:
            continue  # only the layers were run
        logits = logits if logits.size else found
        logits[left], taken[left], stays = found, number, ~(score < limit)
        if last or not stays.any():
            break
        if not stays.all():
            kept = stays if len(stays) == len(text_of) else np.isin(text_of, left[stays])
            left, hidden, text_of, carried = left[stays], hidden[kept], text_of[kept], [c[stays] for c in carried]
            feed["attention_mask"] = feed["attention_mask"][kept]
    return logits, taken


def read_manifest(folder: Path) -> dict[str, Any]:
    """The content of `manifest.json`, once all files that it lists are there and whole."""
    if not (path := folder / "manifest.json").is_file():
        raise ExportError(f"{folder} is no exported model: it has no manifest.json; python -m mebert export writes one")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        written, files, exits = manifest["format"], dict(manifest["files"]), manifest.get("exits", [])
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{path} is damaged ({type(error).__name__}); export the model anew") from error
    lacking = sorted(NEEDED - manifest.keys()) if written == FORMAT else []
    if lacking or not isinstance(manifest.get("policy", {}), dict):
        raise ExportError(f"{path} is damaged: it has no {', '.join(lacking) or 'policy'}; export the model anew")
    if written != FORMAT:
        raise ExportError(f"{path} has format {written!r:.40}, this reads format {FORMAT}; use the runner.py beside it")
    names = [f"exit_{number + 1}.onnx" for number in range(len(files) - 2)]
    if not names or exits != names or files.keys() != {"embed.onnx", "tokenizer.json", *names}:
        raise ExportError(f"{path}: exits and files do not fit each other; export the model anew")
    for file, digest in ((folder / name, digest) for name, digest in files.items()):
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            what = "damaged (its checksum is another)" if file.is_file() else "missing"
            raise ExportError(f"{file} is {what}; export the model anew, or copy the folder whole")
    return dict(manifest)


def _is_pair(text: Any) -> bool:
    return isinstance(text, tuple | list) and len(text) == 2 and all(isinstance(part, str) for part in text)


def session_options(threads: int | None) -> Any:
    """Settings of a session: all share one pool of threads, as each one's own would wait for work, and their memory."""
    if not _pool:
        memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
        try:
            ort.set_global_thread_pool_sizes(threads or 0, 1)
            ort.create_and_register_allocator(memory, None)
            _pool.append(True)
        except Exception as error:  # another copy of this file has made the pool; or another model has run before it
            _pool.append("already been created" in str(error))
    options = ort.SessionOptions()
    options.log_severity_level, options.use_per_session_threads = 3, not _pool[0]
    options.intra_op_num_threads = 0 if _pool[0] else threads or 0
    own = ("session.use_env_allocators", "1") if _pool[0] else ("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry(*own)
    return options


def open_graph(path: Path, threads: int | None) -> tuple[Any, list[str]]:
    """Load a graph; `threads` as in `OnnxClassifier`."""
    try:
        session = ort.InferenceSession(str(path), session_options(threads), providers=["CPUExecutionProvider"])
        return session, [value.name for value in session.get_inputs()]
    except Exception as error:  # ONNX Runtime has many kinds, of no common class
        raise ExportError(f"{path} cannot be loaded: {' '.join(str(error).split())[:200]}") from error


if __name__ == "__main__":
    parser = argparse.ArgumentParser("runner.py", argparse.SUPPRESS, "runner.py FOLDER TEXT [TEXT ...] or --pair A B")
    parser.add_argument("folder", help="as `python -m mebert export` wrote it")
    parser.add_argument("text", nargs="*", help="a text, in quotes")
    parser.add_argument("--pair", nargs=2, action="append", default=[], metavar=("A", "B"), help="for a model of pairs")
    parser.add_argument("--speedup", type=float, metavar="S", help="a stored one; 1: the full depth")
    asked = parser.parse_intermixed_args()
    if bool(asked.text) == bool(asked.pair):
        parser.error("give TEXT ... or --pair A B, one of them")
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        run = OnnxClassifier(asked.folder)
        print(*map(run.in_words, run(asked.text or [*map(tuple, asked.pair)], speedup=asked.speedup)), sep="\n")
    except ExportError as error:
        parser.error(str(error))
