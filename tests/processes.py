"""Several processes of torch.distributed, as tests start them."""

import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
from pathlib import Path

_LEAVE = """
import os, sys
sys.stdout.flush()
os._exit(0)  # at once, with the group standing: gloo's threads may hold Python objects, and to end the group before them hangs
"""

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["torch.distributed", "eigencode.measurement.measuring", "eigencode.penalties.spectral"])


def torchrun(script, *arguments, processes=2, folder=None):
    """Standard output of a script run in several processes, of one thread each, that leave at its end.

    As torchrun starts them, but from a process that has imported PyTorch already.
    """
    Path(script).write_text(Path(script).read_text() + _LEAVE)
    with socket.socket() as free, tempfile.TemporaryDirectory() as told:
        free.bind(("127.0.0.1", 0))
        group = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        free.close()
        names = [os.path.join(told, str(rank)) for rank in range(processes)]
        running = [
            _SERVER.Process(
                target=_run,
                args=(
                    str(script),
                    list(map(str, arguments)),
                    folder,
                    {**group, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                    name,
                ),
            )
            for rank, name in enumerate(names)
        ]
        for process in running:
            process.start()
        for process in running:
            process.join(180)
        stuck = [process.kill() for process in running if process.exitcode is None]
        out, err = (["".join(Path(f"{name}.{end}").read_text() for name in names)] for end in ("out", "err"))
        assert not stuck, err
        assert not any(process.exitcode for process in running), err[0]
    return out[0]


def _run(script, arguments, folder, group, name):
    os.environ.update(group)
    if folder:
        os.chdir(folder)
    for descriptor, end in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{name}.{end}", os.O_WRONLY | os.O_CREAT), descriptor)
    import torch

    torch.set_num_threads(1)
    sys.argv = [script, *arguments]
    sys.path.insert(0, os.path.dirname(script))
    runpy.run_path(script, run_name="__main__")
