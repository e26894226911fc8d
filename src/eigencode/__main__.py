"""``python -m eigencode``: the command line."""

import sys

from eigencode.cli import main

sys.exit(main())
