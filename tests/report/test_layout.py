"""Tables at any width: nothing is cut or folded, numbers stand below one another."""

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from mebert.report.layout import console, print_pairs, print_table, report_table

words = st.text("abcxyz019.-%", min_size=1, max_size=12)


def printed(table, width, keys=1):
    out = io.StringIO()
    print_table(table, Console(file=out, width=width), keys)
    return out.getvalue()


@given(st.lists(words, min_size=2, max_size=9), st.integers(1, 4), st.integers(30, 150), st.data())
@settings(max_examples=60, deadline=None)
def test_every_cell_is_whole_at_any_width(titles, rows, width, data):
    table = report_table("A title", titles[:1], titles[1:])
    cells = [[data.draw(words) for _ in titles] for _ in range(rows)]
    for row in cells:
        table.add_row(*row)
    text = printed(table, width)
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())
    blocks = [block.split("\n") for block in text.removeprefix("A title\n").strip("\n").split("\n\n")]
    shown = [[], *([] for _ in range(rows))]
    for block in blocks:
        body = block[next(n for n, line in enumerate(block) if "──" in line or line.strip() == "─") + 1 :]
        assert len(body) == rows
        for number, line in enumerate(body):
            found = line.split()
            assert found[0] == cells[number][0], "each part begins with the key column"
            shown[number] += found[1:]
    assert shown[:rows] == [row[1:] for row in cells]


def test_numbers_end_below_one_another_and_titles_are_folded_between_words():
    table = report_table("t", ["policy"], ["acc", "speed-up by layers"])
    table.add_row("edr", "0.9", "12.00x")
    table.add_row("entropy", "0.9735", "1.50x")
    lines = printed(table, 60).splitlines()
    rule = next(n for n, line in enumerate(lines) if "──" in line)
    assert [line.split() for line in lines[1:rule]] == [["speed-up"], ["by"], ["policy", "acc", "layers"]]
    first, second = lines[rule + 1 : rule + 3]
    assert len(first) == len(second)
    assert first.index("0.9") + 3 == second.index("0.9735") + 6


def test_sections_titles_and_captions():
    table = report_table("Title [of] it", ["a"], ["b"], "A caption that is longer than the table\nand a second line")
    table.add_row("x", "[1]")
    table.add_section()
    table.add_row("y", "2")
    text = printed(table, 40)
    assert text.startswith("Title [of] it\n"), "brackets are no markup"
    assert "[1]" in text
    assert re.search(r"x +\[1\]\n\n +y", text)
    assert "  A caption that is longer than the\n  table\n  and a second line" in text


@pytest.mark.parametrize(("columns", "width"), [(None, 140), ("80", 80), ("120", 120)])
def test_width_where_there_is_no_terminal(columns, width, monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    assert console().width == width


def test_commands_are_never_cut(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    command = "python -m mebert predict --config a/b/c/d/e/f/g/config.yaml --out [x].csv"
    print_pairs("Next:", {"predict": command})
    assert f"  predict  {command}\n" in capsys.readouterr().out
