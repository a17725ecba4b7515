"""Checkpoints are on the disk whole or not at all, damage is found, and the file before a damaged one is offered."""

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from resume.ends import assert_ends_as_whole, command_in, go_on, prepare
from runs import run

from mebert.storage.atomic import atomic_write, clear_unfinished, find_corruption, keeping_previous, previous_of
from mebert.storage.checkpoints import DamagedCheckpoint, read_checkpoint

PATH = Path("last.ckpt")


@pytest.fixture
def saved():
    """A file as PyTorch itself writes it."""
    content = {f"layer_{n}": torch.randn(40, 40, generator=torch.Generator().manual_seed(n)) for n in range(4)}
    torch.save({"state_dict": content, "text": "x" * 500}, PATH)
    return PATH.read_bytes()


# ---- what is damaged -------------------------------------------------------------------------------------------------


def test_a_file_cut_off_anywhere_is_found(saved):
    assert find_corruption(PATH) is None
    for size in np.random.default_rng(0).integers(3, len(saved), 60):
        PATH.write_bytes(saved[:size])
        assert "cut off" in (find_corruption(PATH) or ""), size
    PATH.write_bytes(b"")
    assert find_corruption(PATH) == "an empty file"


def test_a_single_bit_anywhere_in_the_contents_is_found(saved):
    """Also where PyTorch reads the file without a word."""
    with zipfile.ZipFile(PATH) as archive:
        starts = {info.filename: (info.header_offset, info.file_size) for info in archive.infolist()}
    silent = 0
    for name, (start, size) in starts.items():
        # Behind the header: 30 bytes, the name, and what aligns the contents.
        start += 30 + int.from_bytes(saved[start + 26 : start + 28], "little")
        start += int.from_bytes(saved[start - len(name.encode()) - 2 : start - len(name.encode())], "little")
        for place in np.random.default_rng(1).integers(start, start + size, 5):
            damaged = bytearray(saved)
            damaged[place] ^= 1 << int(place % 8)
            PATH.write_bytes(damaged)
            assert find_corruption(PATH) == f"damaged, {name} is not as it was written"
            with suppress(Exception):
                torch.load(PATH, weights_only=True)
                silent += 1
    assert silent >= 20  # all that is in tensors


def test_other_kinds_of_files_are_left_to_those_who_read_them():
    PATH.write_text("a: 1\n", encoding="utf-8")
    assert find_corruption(PATH) is None


def test_what_no_one_has_written_is_not_unpacked():
    """A few bytes could be endless contents."""
    with zipfile.ZipFile(PATH, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", bytes(300 * 2**20))
    begin = time.process_time()
    assert find_corruption(PATH) is None
    assert time.process_time() - begin < 0.2


# ---- whole or not at all ---------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys, torch
from pathlib import Path
from mebert.storage.atomic import atomic_write

class Bomb:
    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)

atomic_write({"a": torch.zeros(100_000), "b": Bomb()}, Path("last.ckpt"))
"""


def test_a_kill_in_the_midst_of_writing_leaves_the_old_file(saved):
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert PATH.read_bytes() == saved
    (left,) = Path().glob(".*.unfinished")
    clear_unfinished(Path())
    assert not left.exists()
    assert PATH.read_bytes() == saved


def test_what_others_are_writing_is_left_alone():
    alive = Path(f".last.ckpt.{os.uname().nodename.replace('.', '-')}.{os.getppid()}.unfinished")
    elsewhere, abandoned = Path(".last.ckpt.host-2.77.unfinished"), Path(".last.ckpt.host-3.77.unfinished")
    other = Path(".notes.unfinished")
    for path in (alive, elsewhere, abandoned, other):
        path.write_bytes(b"...")
    os.utime(abandoned, (time.time() - 4000,) * 2)
    clear_unfinished(Path())
    assert [path.exists() for path in (alive, elsewhere, abandoned, other)] == [True, True, False, True]


@pytest.mark.parametrize("replaced", [True, False])
def test_the_file_before_it_is_kept(saved, replaced):
    with keeping_previous(PATH, replaced):
        if replaced:
            atomic_write({"new": torch.ones(3)}, PATH)
        else:
            PATH.write_bytes(b"written over")  # as somebody else's writer may do
    assert previous_of(PATH) == Path("last-previous.ckpt")
    assert previous_of(PATH).read_bytes() == saved
    assert len(list(Path().iterdir())) == 2


def half_written():
    PATH.write_bytes(b"half of it")
    raise OSError("torn")


def test_where_writing_fails_two_files_are_left(saved):
    """Not two names of the same one."""
    previous_of(PATH).write_bytes(b"older")
    with pytest.raises(Exception, match="pickle"), keeping_previous(PATH, replaced=True):
        atomic_write(lambda: None, PATH)
    assert (PATH.read_bytes(), previous_of(PATH).read_bytes()) == (saved, b"older")
    with pytest.raises(OSError, match="torn"), keeping_previous(PATH, replaced=False):
        half_written()
    assert previous_of(PATH).read_bytes() == saved
    assert len(list(Path().iterdir())) == 2


# ---- in a run --------------------------------------------------------------------------------------------------------


def test_a_damaged_file_is_named_and_the_one_before_it_offered(tmp_path, capsys, whole):
    shutil.copytree(whole / "runs/cut_1_6", "runs/cut")
    last = Path("runs/cut/version_0/checkpoints/last.ckpt")
    damaged = bytearray(last.read_bytes())
    with zipfile.ZipFile(last) as archive:
        weights = archive.read(max(archive.infolist(), key=lambda part: part.file_size))
    damaged[damaged.index(weights) + len(weights) // 2] ^= 1  # the middle of the file may be padding
    last.write_bytes(damaged)  # not in place: the previous one must not be the same file
    assert run(*prepare(tmp_path), "--experiment", "cut", "--ckpt_path", "last") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{last} is not a readable checkpoint: damaged" in said
    words = command_in(said)
    assert words[-2:] == ["--ckpt_path", str(last.with_name("last-previous.ckpt"))]
    assert go_on(words, "rest.jsonl") == [1, 2]  # one interval before [1, 5]
    assert_ends_as_whole("cut", whole)


def test_a_complete_run_keeps_no_file_before_the_last(whole):
    for name, kept in (("whole", []), ("cut_1_6", ["last-previous.ckpt"])):
        files = (whole / "runs" / name).glob("version_0/checkpoints/*")
        assert sorted(path.name for path in files) == ["best.ckpt", *kept, "last.ckpt"]


def test_without_a_whole_one_beside_it(saved):
    PATH.write_bytes(saved[:999])
    with pytest.raises(
        DamagedCheckpoint, match="999 bytes that were cut off; give another one, or train anew"
    ) as raised:
        read_checkpoint(PATH)
    assert raised.value.other is None


def test_a_writer_of_the_users_own_stays(tmp_path, capsys):
    Path("own_io.py").write_text(
        "from lightning.fabric.plugins import TorchCheckpointIO\n"
        "class OwnIO(TorchCheckpointIO):\n"
        "    def save_checkpoint(self, checkpoint, path, storage_options=None):\n"
        "        print('written by my own')\n"
        "        super().save_checkpoint(checkpoint, path, storage_options)\n"
    )
    fit = prepare(tmp_path, trainer={"plugins": [{"class_path": "own_io.OwnIO"}], "max_epochs": 1})
    assert run(*fit, "--experiment", "own") == 0
    assert "written by my own" in capsys.readouterr().out
    assert read_checkpoint(Path("runs/own/version_0/checkpoints/last.ckpt"))["global_step"] == 7
