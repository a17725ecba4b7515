"""Every file of the package is written under a temporary name, as its source says; those that no test writes, too."""

import ast
from pathlib import Path

import mebert

WRITING = {"write_text", "write_bytes", "savefig", "save_file", "open_memmap", "ParquetWriter", "ArrowWriter"}
# These get a temporary name as an argument called `path`, or a folder of one.
GIVEN = {"report/prediction_files.py", "models/pretrained.py"}


def test_no_file_is_opened_for_writing_but_under_a_temporary_name():
    package, found = Path(mebert.__file__).parent, []
    for source in package.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            if name in WRITING or (name == "open" and any(set("wax+") & set(m) and len(m) < 4 for m in modes)):
                found.append((str(source.relative_to(package)), ast.unparse(node)))
    assert len(found) > 10
    known = [("storage/atomic.py", "write_text"), *((given, "") for given in GIVEN)]
    known.append(("commands/study/run_cells.py", "cell.log.open"))  # the process's own, appended to
    loose = [
        (file, call)
        for file, call in found
        if "unfinished" not in call
        and call[:11] != "write_text("
        and not call.startswith("open(os.devnull, ")  # holds nothing
        and not any(file == place and start in call for place, start in known)
    ]
    assert loose == []
