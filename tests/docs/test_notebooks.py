"""The notebooks as they are stored; `make test-notebooks` runs them."""

import json
import re
from pathlib import Path

import nbformat
import pytest

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_form(path):
    """No outputs and no metadata; what it is, how long it takes, what comes next; no machine's path, no download."""
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    nbformat.validate(nbformat.from_dict(notebook))
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    cells = notebook["cells"]
    for cell in cells:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            code = "".join(cell["source"])
            assert "://" not in code
            assert not re.search(r"^\s*[!%](?!%writefile )", code, flags=re.MULTILINE)  # no shell
    assert cells[0]["cell_type"] == cells[-1]["cell_type"] == "markdown"
    first, last = ("".join(cells[place]["source"]) for place in (0, -1))
    assert re.match(r"# \S", first)
    assert re.search(r"^\*About \w+ minutes? on a CPU.*nothing is downloaded", first, flags=re.MULTILINE)
    assert "## Next" in last
    assert not re.search(r"(?<![\w.])(/(home|root|work|tmp|usr|mnt|Users|opt|var)/|[A-Z]:\\\\)", text)
