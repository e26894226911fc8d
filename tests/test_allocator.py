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

HELD = """
import re, sys
import eigencode as ec
from eigencode._allocator import freed_memory_given_back
kept = sys.argv[1] == "kept" and ec.keep_freed_memory()
import torch

def held():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

def blocks():  # between small ones that stay
    stay = []
    for size in range(2**21, 2**21 + 40 * 2**18, 2**18):
        torch.ones(size)
        stay.append(torch.ones(1000))
    return stay

torch.ones(2**23)
with freed_memory_given_back():
    before = held()
    stay = blocks()
    print(held() - before)
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


@pytest.mark.parametrize("kept", ["kept", "given back"])
def test_no_holes_are_left_where_freed_memory_is_given_back(kept):
    told = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", HELD, kept], capture_output=True, text=True, check=True, env=told)
    assert float(done.stdout) < 100  # MiB: what was free before is used again; of blocks of 8 to 48 MiB, more than 1000 in all


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
