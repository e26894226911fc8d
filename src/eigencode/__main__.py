"""The command line as a program: ``eigencode``, or ``python -m eigencode``."""

import sys

from eigencode import _signals


def main() -> int:
    """Runs a command; it can be interrupted from the first moment.

    Returns:
        Exit status, as of ``eigencode.cli.main``.
    """
    try:
        _signals.listen()
        from eigencode import cli

        return cli.main()
    except KeyboardInterrupt:  # while modules are loaded or words are parsed
        print("eigencode: interrupted; nothing was written.", file=sys.stderr)
        return _signals.exit_status()


if __name__ == "__main__":
    sys.exit(main())
