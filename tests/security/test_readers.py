"""Whatever happened to a file, reading it starts nothing, changes nothing elsewhere, and ends in time, in memory and in a sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import reader_fuzzing
from reader_fuzzing import BYTES, KINDS, SECONDS

_FILES = 6
_MANY = 800


def read_damaged(kinds, folder, *, first, count):
    """What came of each file, in a process of its own: even one that ends it is seen."""
    folder.mkdir()
    precious = folder / "precious"
    precious.write_text("not yours")
    before = precious.stat()
    command = [sys.executable, reader_fuzzing.__file__, str(first), str(count), str(folder / "work"), *kinds]
    path = os.pathsep.join([str(Path(reader_fuzzing.__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env={**os.environ, "PYTHONPATH": path}
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    wanted = count * len(kinds)
    assert len(found) == wanted, f"the process ended with {done.returncode} after {found[-1:]}: {done.stderr[-1500:]}"
    after = precious.stat()
    assert (before.st_mode, before.st_uid, before.st_mtime_ns) == (after.st_mode, after.st_uid, after.st_mtime_ns)
    assert {path.name for path in folder.iterdir()} == {"precious", "work"}
    return found


def check(found):
    wrong = [each for each in found if each["outcome"] not in ("read", "refused") or each["events"]]
    assert not wrong, wrong[:3]
    assert max(each["seconds"] for each in found) < SECONDS
    assert max(each["memory"] for each in found) < BYTES
    assert sum(each["outcome"] == "refused" for each in found) >= len(found) // 4  # the damage is real


def test_damaged_files(tmp_path):
    check(read_damaged(list(KINDS), tmp_path / "files", first=0, count=_FILES))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files(kind, tmp_path):
    check(read_damaged([kind], tmp_path / "files", first=_FILES, count=_MANY))
