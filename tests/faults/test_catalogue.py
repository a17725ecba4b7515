"""Every fault of the catalogue gets one line that names it, says what to do, and is in docs/errors.md."""

import re
import time

import pytest
from faults.data_files import STRANGE_BUT_FINE
from faults.fault import PREFIX, provoke
from faults.page import GROUPS, PAGE, messages_of, rendered, shortened

from mebert.data import TextDataModule
from mebert.data.synthetic import synthetic_tokenizer

FAULTS = [(group, fault) for group, faults in GROUPS.items() for fault in faults]
SECONDS = 20  # a hang, on a machine that does other things too
# A message must tell the reader to do something, or what is wanted instead.
WORDS = (
    "add|be|calibrate|change|check|choose|close|correct|expected|fetch|fill|give|keep|known|leave|let|lower|must|name|need"
    "|needed|needs|quote|rename|run|save|say|set|stored|take|test|train|try|unpack|use|write|wrong"
)
PHRASES = "did you mean|log in|make room|may have|not the name of|there is also|this study has|it has|no imported"
PHRASES += "|lists them|are required|unrecognized|does not accept|was trained for|allows|in the recipe"
ADVICE = re.compile(rf"\b({WORDS}|{PHRASES})\b", re.IGNORECASE)


@pytest.mark.parametrize(("group", "fault"), FAULTS, ids=[fault.what for _, fault in FAULTS])
def test_fault_gets_its_line(group, fault, trained_run, tmp_path):
    begin = time.perf_counter()
    provoked = provoke(fault, trained_run, tmp_path)
    assert time.perf_counter() - begin < SECONDS
    assert provoked.status == 2, provoked.message
    assert provoked.message
    assert "\n" not in provoked.message, "one line"
    assert len(provoked.message) < 900, "that can be read"
    if provoked.errors:
        assert provoked.errors.rstrip().splitlines()[-1] == PREFIX + provoked.message, "the last line"
    assert "Traceback" not in provoked.errors
    for part in [fault.says] if isinstance(fault.says, str) else fault.says:
        assert part in shortened(provoked.message, tmp_path)
    assert ADVICE.search(provoked.message), provoked.message
    assert bool(provoked.left) == fault.ran, provoked.left
    known = messages_of(PAGE.read_text(encoding="utf-8")).get((group, fault.what))
    assert known == shortened(provoked.message, tmp_path), "renew docs/errors.md: python -m tests.faults.write"


def test_the_page_holds_these_faults_and_no_others():
    page = PAGE.read_text(encoding="utf-8")
    messages = messages_of(page)
    assert list(messages) == [(group, fault.what) for group, fault in FAULTS]
    assert rendered(messages) == page
    assert not re.search(r"/(tmp|home|root|work|usr)/", page), "no path of one machine"


@pytest.mark.parametrize("what", STRANGE_BUT_FINE)
def test_strange_but_no_mistake(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    synthetic_tokenizer().save_pretrained("tokenizer")
    name, content = STRANGE_BUT_FINE[what]
    (tmp_path / name).write_bytes(content)
    query = {"query_column": "query", "labels": ["0", "1"]} if b"query" in content else {}
    data = TextDataModule(train_file=name, validation_file=name, tokenizer="tokenizer", max_length=32, **query)
    data.setup("fit")
    assert len(data.split("train")) >= 2
    assert data.num_labels == 2
    batch = next(iter(data.train_dataloader()))
    assert set(batch["labels"].tolist()) <= {0, 1}
