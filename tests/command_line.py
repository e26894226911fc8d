"""The command line as tests call it."""

import subprocess
import sys

from eigencode import cli


def run(capsys, *words):
    """Exit status, stdout and stderr of a command in this process."""
    try:
        status = cli.main([str(word) for word in words])
    except SystemExit as stopped:
        status = stopped.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def command(*words, **options):
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "eigencode", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )
