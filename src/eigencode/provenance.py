"""What a number was computed with."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from eigencode._version import __version__

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas")


def versions() -> dict[str, str]:
    """Versions of eigencode, Python and the packages that compute."""
    found = {"eigencode": __version__, "python": platform.python_version()}
    return found | {name: _version(name) for name in PACKAGES}


_version = cache(metadata.version)


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def hardware() -> dict[str, Any]:
    """Processor, cores and GPUs of this machine."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpus": gpus}


def in_use(device: str) -> str:
    """What this process uses: threads and the most memory so far, or memory of the GPU now."""
    if device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info(device)
        return f"{device}, {(total - free) / 2**30:.1f} of {total / 2**30:.1f} GiB"
    threads = torch.get_num_threads()
    used = f"{threads} {'thread' if threads == 1 else 'threads'}"
    if sys.platform == "win32":
        return used
    import resource

    unit = 1 if sys.platform == "darwin" else 2**10
    return f"{used}, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.1f} GiB"


def computed_with() -> dict[str, Any]:
    """Code revision, versions and hardware of this process."""
    return {"code_revision": code_revision(), "versions": versions(), "hardware": hardware()}


def circumstances(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Keys created, configuration, versions and hardware of a record."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "configuration": dict(configuration),
        "versions": versions(),
        "hardware": hardware(),
    }


@cache
def code_revision() -> str:
    """The git commit of eigencode's own source with "+" if it was changed since, or its version where it was installed."""
    folder = Path(__file__).parent
    if not (folder.parents[1] / ".git").exists():
        return __version__
    ask = partial(subprocess.run, cwd=folder, capture_output=True, text=True, check=True)
    try:
        commit, changed = ask(["git", "rev-parse", "--short=12", "HEAD"]), ask(["git", "status", "--porcelain", "."])
    except (OSError, subprocess.CalledProcessError):
        return __version__
    return str(commit.stdout).strip() + ("+" if changed.stdout.strip() else "")
