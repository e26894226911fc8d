import platform

import pytest

from peak_memory import SHAPES, peak

MARGIN = 1.3
"""Of the limit: what the process holds beyond what it asked for, in whole pages and between blocks."""

LIMITS = ["20MiB", "50MiB", "100MiB", "500MiB", "900MiB", "4GiB"]

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="peaks are read from /proc")


@pytest.mark.parametrize(
    ("shape", "limit", "half_samples", "who"),
    [
        ("several", "50MiB", 20, "command"),
    ],
)
def test_measuring_keeps_within_the_limit(shape, limit, half_samples, who):
    assert peak(shape, limit, half_samples, who)["times_the_limit"] <= MARGIN


@pytest.mark.slow
@pytest.mark.parametrize("who", ["python", "command"])
@pytest.mark.parametrize("half_samples", [0, 20])
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_measuring_keeps_within_any_limit(shape, limit, half_samples, who):
    assert peak(shape, limit, half_samples, who)["times_the_limit"] <= MARGIN
