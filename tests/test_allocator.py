import os
import platform
import subprocess
import sys

import pytest

from eigencode import cli, keep_freed_memory

FAULTS = """
import resource, sys
import eigencode as ec
kept = sys.argv[1] == "kept" and ec.keep_freed_memory()
import torch

def tensors(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

tensors(20)
print(int(kept), tensors(10))
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")


def faults(kept):
    told = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", FAULTS, kept], capture_output=True, text=True, check=True, env=told)
    return map(int, done.stdout.split())


def test_freed_memory_is_used_again_without_clearing_its_pages():
    understood, few = faults("kept")
    _, many = faults("given back")
    assert understood
    assert few < 0.1 * many


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_whoever_has_told_the_allocator_something_is_left_alone(monkeypatch, name):
    monkeypatch.setenv(name, "something")
    assert not keep_freed_memory()


def test_every_command_keeps_freed_memory(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: calls.append("kept"))
    assert cli.main(["doctor"]) == 0
    assert calls == ["kept"]
    assert capsys.readouterr().out
