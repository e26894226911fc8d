"""What is in one place only."""

from pathlib import Path

import pytest

import eigencode

PACKAGE = Path(eigencode.__file__).parent


@pytest.mark.parametrize(
    ("text", "home"),
    [
        ("torch.distributed as dist", "_processes.py"),
        ("is_initialized()", "_processes.py"),
        ("get_world_size()", "_processes.py"),
        ("os.fsync(", "_files.py"),
        ("set_loader(", "_parsing.py"),
        ("Fraction(", "_grammar.py"),
        ("hashlib", "_digests.py"),
        ('"_orig_mod"', "activations.py"),
    ],
)
def test_one_of_each(text, home):
    assert [str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if text in path.read_text()] == [home]
