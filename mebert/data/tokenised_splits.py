"""Splits of texts as token ids: their columns, the tokenizer and its settings; what a data module builds on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mebert.choices import ProblemType
from mebert.data.files import ONE_LABEL, LabelForm
from mebert.data.loaders import SplitLoaders
from mebert.data.rows import Rows
from mebert.data.tasks import Task
from mebert.data.text_warnings import UNKNOWN, mostly_unknown, warn_of_share
from mebert.data.tokenised import TokenisedSplit, tokenise
from mebert.data.tokenizers import check_tokenizer, settings_of

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase


class TokenisedSplits(SplitLoaders):
    """Tokenises rows by name of their split; a subclass sets the attributes below, as in `TextDataModule`."""

    task: Task | None
    files: Mapping[str, str]
    tokenizer_name: str
    max_length: int
    stride: int | None = None
    predict_file: str | None
    text_columns: tuple[str, ...]
    predict_columns: tuple[str, ...]
    regression: bool
    label_form: LabelForm = ONE_LABEL
    query_column: str | None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._text_settings: dict[str, Any] = {}
        self._rows: dict[str, Rows] = {}

    @abstractmethod
    def build_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer; called once a process, on rank 0 first."""

    @property
    def problem_type(self) -> ProblemType:
        """What a label is, as in Hugging Face."""
        if self.regression:
            return "regression"
        return "multi_label_classification" if self.label_form.several else "single_label_classification"

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, loaded at its first use."""
        if self._tokenizer is None:
            self._tokenizer = self.build_tokenizer()
            check_tokenizer(self._tokenizer, self.tokenizer_name, self.max_length)
        return self._tokenizer

    @property
    def window(self) -> int | None:
        """Tokens of the windows in which long texts are read; None: they are cut."""
        return None if self.stride is None else self.max_length

    @property
    def text_settings(self) -> dict[str, Any]:
        """How texts become tokens, in plain values; stored with a model, which must be asked in the same way."""
        if not self._text_settings:
            own = {"max_length": self.max_length, "stride": self.stride, "num_texts": len(self.text_columns)}
            self._text_settings = own | settings_of(self.tokenizer)
        return self._text_settings

    def texts(self, name: str, positions: Collection[int]) -> dict[str, list[str | None]]:
        """Return texts of a prepared split, by column, for positions in the split (not row numbers of the raw data)."""
        rows = self._rows_of(name)
        return cells_of(rows.table, self._text_columns(name), [int(rows.chosen[position]) for position in positions])

    def tokenised_with(self, name: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> TokenisedSplit:
        """Return a prepared split in the token ids of another tokenizer, its rows in the same order."""
        return tokenise(self._rows_of(name), tokenizer, max_length, self._text_columns(name), name, self.stride)

    def _tokenise(self, rows: Rows, name: str) -> TokenisedSplit:
        columns = self._text_columns(name)
        rows.check_texts(columns, refuse_blank=name != "predict" and bool(self.files))
        self._rows[name] = rows
        split = tokenise(rows, self.tokenizer, self.max_length, columns, name, self.stride)
        warn_of_share(mostly_unknown(split.tokens, split.offsets, self.tokenizer), UNKNOWN, rows.place)
        return split

    def _rows_of(self, name: str) -> Rows:
        self.split(name)  # raises for one that has not been prepared
        return self._rows[name]

    def _origin(self, name: str) -> str:
        if name in self.files:
            return self.files[name]
        whose = f" of task {self.task.name!r}" if self.task is not None else ""
        return f"the {name} split{whose}"

    def _text_columns(self, name: str) -> tuple[str, ...]:
        return self.predict_columns if name == "predict" and self.predict_file else self.text_columns

    def _columns(self, name: str) -> tuple[str, ...]:
        """Return the columns of texts and question; a file to predict with a task need not have the latter."""
        query = None if name == "predict" and self.task is not None and self.predict_file else self.query_column
        return tuple(dict.fromkeys(c for c in (query, *self._text_columns(name)) if c is not None))


def cells_of(table: datasets.Dataset, columns: Sequence[str], rows: list[int]) -> dict[str, list[str | None]]:
    """Return some rows of a table by column."""
    chosen = table.select_columns(list(columns))[rows]
    return {name: list(chosen[name]) for name in columns}
