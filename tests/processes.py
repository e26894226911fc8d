"""Several processes of torch.distributed, as tests start them."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

_LEAVE = """
import os, sys
sys.stdout.flush()
os._exit(0)  # at once, with the group standing: gloo's threads may hold Python objects, and to end the group before them hangs
"""


def torchrun(script, *arguments, processes=2, folder=None):
    """Standard output of a script run in several processes, of one thread each, that leave at its end.

    One such run at a time: two that begin together may choose the same port.
    """
    Path(script).write_text(Path(script).read_text() + _LEAVE)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with FileLock(Path(tempfile.gettempdir()) / f"torchrun-{os.getuid()}.lock"):
        done = subprocess.run(
            [*command, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            env=environment,
            cwd=folder,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout
