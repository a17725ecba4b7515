"""Labels as they are written in files of every kind: read rightly, or told with the setting that helps."""

import pytest

from mebert.data import TextDataModule
from mebert.data.file_rows import LINE_COLUMN
from mebert.data.files import load_file
from mebert.errors import UserError

KINDS = ["csv", "tsv", "json", "jsonl", "parquet"]
NATIVE = ["jsonl", "parquet"]  # with numbers, truth values and lists of their own
ASK = r"--data\.labels '\[{}\]'"

# What a column holds -> the names and the class of each row, or what is said.
TEXTS = {
    "from 0": (["0", "1", "2"], ["0", "1", "2"], [0, 1, 2]),
    "from 1": (["5", "1", "2", "3", "4"], ["1", "2", "3", "4", "5"], [4, 0, 1, 2, 3]),
    "ten": ([str(n) for n in range(1, 11)], [str(n) for n in range(1, 11)], list(range(10))),
    "-1, 0, 1": (["-1", "0", "1"], "holds -1 beside 0, 1: if -1 is a class, give " + ASK.format('"-1", "0", "1"')),
    "-1 and 1": (["-1", "1"], ASK.format('"-1", "1"')),
    "-1 and +1": (["-1", "+1"], ASK.format('"-1", "1"')),
    "-1 beside codes": (["-1", "00", "01"], ASK.format('"-1", "00", "01"')),
    "-1 beside words": (["no", "-1", "yes"], ["no", "yes"], [0, 1]),
    "gaps": (["0", "2", "10"], "numbers 0, 2, 10, with gaps: .*" + ASK.format('"0", "2", "10"')),
    "0.0 and 1.0": (["0.0", "1.0", "1"], ["0", "1"], [0, 1, 1]),
    "decimals": (["0.5", "1.5", "2.0"], "regression: true to estimate numbers"),
    "codes": (["01", "00"], ["00", "01"], [1, 0]),
    "yes and no": (["Yes", "No"], ["No", "Yes"], [1, 0]),
    "case": (["Positive", "no", "positive"], "'Positive' and 'positive', which read the same.*" + ASK.format(".*")),
    "width": (["ab", "\uff41b"], r"\\uff41b\), which read the same"),
    "joiners": (["ab", "a\u200db"], r"a\\u200db"),
    "NFC and NFD": (["caf\u00e9", "the", "cafe\u0301"], ["caf\u00e9", "the"], [0, 1, 0]),
    "zero width": (["pos", "neg", "\ufeffpos\u200b", "ne\u00adg"], ["neg", "pos"], [1, 0, 1, 0]),
    "blanks": (["pos", " neg\u00a0", "\u200b"], ["neg", "pos"], [1, 0]),
    "emoji": (["\U0001f469\u200d\U0001f4bb", "\U0001f469"], ["\U0001f469", "\U0001f469\u200d\U0001f4bb"], [1, 0]),
    "lists": (["a", "b", "a,b"], "'a,b', which reads like several labels.*" + ASK.format('"a", "a,b", "b"')),
    "bars": (["drama|war", "war"], r"'drama\|war', which reads like several labels"),
    "lists of Python": (["['a', 'b']", "['a']"], r"give lists in JSONL or Parquet \(not their text\)"),
    "nan": (["a", "b", "nan"], "'nan', which reads like a missing label"),
}  # fmt: skip
VALUES = {
    "numbers": ([1, 2, 3], ["1", "2", "3"], [0, 1, 2]),
    "floats": ([0.0, 1.0, None], ["0", "1"], [0, 1]),
    "-1": ([-1, 0, 1], ASK.format('"-1", "0", "1"')),
    "truth values": ([True, False], ["False", "True"], [1, 0]),
    "NaN": ([float("nan"), 0.0, 1.0], "column 'label' holds nan, not a label; write a name or a number, or null"),
    "infinity": ([float("-inf"), 0.0, 1.0], "column 'label' holds -inf, not a label"),
    "lists": ([["a"], ["a", "b"], [], None], ["a", "b"], [[1, 0], [1, 1], [0, 0]]),
    "numbers in lists": ([[10, 2], [7]], ["2", "7", "10"], [[1, 0, 1], [0, 1, 0]]),
}  # fmt: skip
EVERY = [(kind, case) for kind in KINDS for case in TEXTS.values()]
EVERY += [(kind, case) for kind in NATIVE for case in VALUES.values()]
IDS = [f"{kind}-{name}" for kind in KINDS for name in TEXTS] + [f"{kind}-{name}!" for kind in NATIVE for name in VALUES]


@pytest.mark.parametrize(("kind", "case"), EVERY, ids=IDS)
def test_every_form_in_every_kind_of_file(kind, case, write, tokenizer_folder):
    column, *expected = case
    path = write(f"rows.{kind}", [{"text": f"the cat {n}", "label": label} for n, label in enumerate(column)])
    if kind == "json":
        expected = ["its name must end in .csv, .tsv, .jsonl, .parquet"]
    if len(expected) == 1:
        with pytest.raises(UserError, match=expected[0]) as told:
            TextDataModule(train_file=path, tokenizer=tokenizer_folder)
        assert "\n" not in str(told.value)
        return
    names, classes = expected
    data = TextDataModule(train_file=path, validation_file=path, tokenizer=tokenizer_folder)
    data.setup("fit")
    assert data.label_names == names
    assert data.split("train").labels.tolist() == data.split("val").labels.tolist() == classes


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("names", "column", "expected"),
    [
        (["-1", "0", "1"], ["1", "-1", "0"], [2, 0, 1]),
        (["1", "0"], ["0", "1"], [1, 0]),
        (["negative", "positive"], ["1", "0"], [1, 0]),  # positions: no name is a number
        (["Positive", "positive"], ["positive", "Positive"], [1, 0]),
        (["a", "b", "a,b"], ["a,b", "a"], [2, 0]),
        (["0.5", "1.50"], ["1.50", "0.5"], [1, 0]),
        (["1", "2", "3"], ["0", "1", "2"], "label '0' is none of the classes 1, 2, 3;"),
        (["01", "02"], ["1", "2"], "label '1' is none of the classes 01, 02"),
        (["negative", "neutral", "positive"], ["-1", "0", "1"], "label '-1' beside other numbers"),
        (["0", "1"], ["1", "0", "-1"], "label '-1' beside other numbers: .* leave it empty there"),
        (["no", "yes"], ["No", "yes"], "write 'no', or"),
    ],
)
def test_given_names_are_the_names(kind, names, column, expected, write, tokenizer_folder):
    path = write(f"rows.{kind}", [{"text": "the cat", "label": label} for label in column])
    data = TextDataModule(train_file=path, validation_file=path, labels=names, tokenizer=tokenizer_folder)
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            data.setup("fit")
    else:
        data.setup("fit")
        assert data.split("train").labels.tolist() == expected


@pytest.mark.parametrize(
    "names", [["a", "a\u200b"], ["caf\u00e9", "cafe\u0301"], ["1", "1.0"], ["a", " "], "ab", ["a"]]
)
def test_given_names_are_two_or_more_that_differ(names, write):
    path = write("rows.csv", [{"text": "the cat", "label": "a"}])
    with pytest.raises(UserError, match="labels must be two or more different names, not "):
        TextDataModule(train_file=path, labels=names)


def test_which_label_marks_right_answers_is_asked_for(write):
    rows = [{"text": "the cat", "label": label, "q": 1} for label in ("wrong", "right")]
    with pytest.raises(UserError, match=r"the second of the labels marks right.*\[\"right\", \"wrong\"\].*other way"):
        TextDataModule(train_file=write("rows.csv", rows), query_column="q")
    rows = [row | {"label": number} for number, row in enumerate(rows)]
    assert TextDataModule(train_file=write("rows.csv", rows), query_column="q").label_names == ["0", "1"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"text": "b", "label": 1, "label": 0}', "line 2: the key 'label' is given twice in one object"),
        ('{"text": "b", "text": "c", "label": 1}', "line 2: the key 'text' is given twice"),
        ('{"text": "b", "label": NaN}', "line 2: column 'label' holds nan, not a label; .*or null where there is none"),
        ('{"text": NaN, "label": 1}', "line 2: column 'text' holds nan, not a text"),
        ('{"text": -Infinity, "label": 1}', "line 2: column 'text' holds -inf, not a text"),
        ('{"text": 1e999, "label": 1}', "line 2: column 'text' holds inf, not a text"),
    ],
)
@pytest.mark.parametrize("regression", [False, True])
def test_json_that_could_be_read_in_two_ways(line, says, regression, write, tokenizer_folder):
    path = write("rows.jsonl", f'{{"text": "a", "label": 0}}\n{line}\n')
    labels = None if regression else ["0", "1"]
    data = TextDataModule(
        train_file=path, validation_file=path, labels=labels, regression=regression, tokenizer=tokenizer_folder
    )
    with pytest.raises(UserError, match=says):
        data.setup("fit")


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_column_with_the_name_of_our_own(kind, streaming, write, tokenizer_folder):
    rows = [{"text": f"the cat {n}", LINE_COLUMN: f"the dog {n}", "label": n} for n in range(2)]
    path = write(f"rows.{kind}", rows)
    settings = {"labels": ["0", "1"], "tokenizer": tokenizer_folder, "streaming": streaming or None}
    data = TextDataModule(predict_file=path, **settings)
    data.setup("predict")
    assert data.predict_rows([0, 1]) == {"text": ["the cat 0", "the cat 1"]}
    with pytest.raises(UserError, match="a column '__line__' cannot be read, since mebert has one of its own; rename"):
        TextDataModule(predict_file=path, text_column=LINE_COLUMN, **settings).setup("predict")


def test_columns_of_parquet_and_settings_that_name_one_twice(write, tokenizer_folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = write("rows.csv", [{"text": "the cat", "label": "a", "difficulty": "9"}])
    twice = path.replace(".csv", ".parquet")
    pq.write_table(pa.Table.from_arrays([pa.array([letter]) for letter in "abc"], ["text", "label", "text"]), twice)
    with pytest.raises(UserError, match="more than one column 'text'; rename one"):
        TextDataModule(validation_file=twice, labels=["b", "c"], tokenizer=tokenizer_folder).setup("validate")
    for names in ({"text_column": "label"}, {"text_pair_column": "text"}, {"text_pair_column": "label"}):
        with pytest.raises(UserError, match=r"both name the column '(label|text)'"):
            TextDataModule(validation_file=path, labels=["a", "b"], **names)
    both = {"validation_file": path, "predict_file": path, "labels": ["a", "b"], "tokenizer": tokenizer_folder}
    data = TextDataModule(text_column="label", **both)
    data.setup("predict")  # which reads no labels
    assert len(data.split("predict")) == 1
    with pytest.raises(UserError, match="label_column and text_column both name the column 'label'"):
        data.setup("validate")
    data = TextDataModule(validation_file=path, labels=["a", "b"], text_column="difficulty", tokenizer=tokenizer_folder)
    data.setup("validate")
    assert data.split("val").difficulty is None  # a text, not the difficulty of a row


def test_the_same_bytes_are_other_rows_in_another_kind_of_file(write):
    tables = [load_file(write(f"rows.{kind}", 'text\n"the\ncat"\n'), ["text"], None) for kind in ("csv", "tsv")]
    assert [list(table["text"]) for table in tables] == [["the\ncat"], ['"the', 'cat"']]
    as_label = load_file(write("rows.csv", 'text\n"the\ncat"\n'), [], "text")
    assert len({table._fingerprint for table in (*tables, as_label)}) == 3
