"""The built-in entailment task: no download, a vocabulary of its own, examples of known difficulty."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from typing_extensions import override

from mebert.data.synthetic_grammar import LABEL_NAMES, MAX_DIFFICULTY, WORDS, Example, examples
from mebert.data.text_splits import TextSplits
from mebert.errors import UserError, check_range

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def synthetic_tokenizer() -> PreTrainedTokenizerBase:
    """Return a tokenizer of one token a word, made in memory."""
    from transformers import BertTokenizer

    vocabulary = {word: number for number, word in enumerate((*SPECIAL_TOKENS, *WORDS))}
    return BertTokenizer(vocab=vocabulary, split_special_tokens=True)


def synthetic_splits(
    train_samples: int, eval_samples: int, shares: Sequence[float], seed: int
) -> dict[str, list[Example]]:
    """Return the splits train, val and test, which have no example in common.

    The evaluation splits are drawn first, so that they stay the same for any number of training examples.
    """
    stream = examples(seed, shares)
    sizes = {"val": eval_samples, "test": eval_samples, "train": train_samples}
    return {name: [next(stream) for _ in range(size)] for name, size in sizes.items()}


class SyntheticSplits(TextSplits):
    """A claim and the facts it is about: entailment, neutral or contradiction, with difficulty 1 to 4 a row.

    `mebert.data.synthetic_grammar` describes the difficulties. Nothing is downloaded. The claim (`hypothesis`) is the
    first text of the pair and the facts (`premise`) the second, so that the claim always has the same positions.

    Args:
        train_samples: Examples of the training split.
        eval_samples: Examples of the validation split, and as many of the test split.
        difficulty_shares: Weight of each difficulty, from 1 on; a shorter list leaves out the hardest.
        batch_size: Training rows a batch and process.
        eval_batch_size: Rows a batch and process in validation, test and prediction.
        predict_file: Own rows to predict, with the columns `hypothesis` and `premise`; null predicts the test split.
        streaming: Read `predict_file` as it is predicted, in constant memory; null does so from 100 MB on.
        num_workers: Processes that build batches; 0 builds them in the main process.
        seed: Determines the examples and their order.
    """

    def __init__(
        self,
        train_samples: int = 48_000,
        eval_samples: int = 2_000,
        difficulty_shares: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        batch_size: int = 32,
        eval_batch_size: int = 250,
        predict_file: str | None = None,
        streaming: bool | None = None,
        num_workers: int = 0,
        seed: int = 42,
    ) -> None:
        check_range("train_samples", train_samples, 1)
        check_range("eval_samples", eval_samples, 1)
        shares = [float(share) for share in difficulty_shares]
        if not 1 <= len(shares) <= MAX_DIFFICULTY or not all(0 <= s < math.inf for s in shares) or not sum(shares):
            raise UserError(
                f"difficulty_shares is {shares}; give 1 to {MAX_DIFFICULTY} weights, none negative, not all 0"
            )
        super().__init__(
            tokenizer="the synthetic task's own",
            max_length=32,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            predict_file=predict_file,
            streaming=streaming,
            text_column="hypothesis",
            text_pair_column="premise",
            labels=list(LABEL_NAMES),
            # Length tells the difficulty, and batches of one difficulty alone train badly.
            group_by_length=False,
            num_workers=num_workers,
            seed=seed,
        )
        self.task_name = "synthetic"
        self.vocab_size = len(SPECIAL_TOKENS) + len(WORDS)
        self.train_samples = train_samples
        self.eval_samples = eval_samples
        self.difficulty_shares = shares

    @override
    def build_tokenizer(self) -> PreTrainedTokenizerBase:
        return synthetic_tokenizer()

    @override
    def load_splits(self, groups: Collection[str]) -> dict[str, datasets.Dataset]:
        import datasets

        train_samples = self.train_samples if "train" in groups else 0
        splits = synthetic_splits(train_samples, self.eval_samples, self.difficulty_shares, self.seed)
        splits["predict"] = splits["test"]
        return {
            name: datasets.Dataset.from_list([vars(example) for example in rows])
            for name, rows in splits.items()
            if name in groups
        }
