"""Progress: a bar on a terminal, lines in a log file."""

import math
import os
import pty
import subprocess
import sys

import pytest

from eigencode.commands import progress


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


class TestLeft:
    def test_counts_what_was_done_here_alone(self, clock):
        stages = progress.Stages()
        assert math.isnan(stages.update_stage("cells", 10, 40, "").left)
        clock.now += 60
        assert stages.update_stage("cells", 12, 40, "").left == 30 * 28
        clock.now += 15
        assert stages["cells"].left == 30 * 28 - 15

    def test_a_stage_that_starts_over_forgets_its_pace(self, clock):
        stages = progress.Stages()
        stages.update_stage("this group", 0, 10, "training")
        clock.now += 9
        assert stages.update_stage("this group", 9, 10, "training").left == 1
        assert math.isnan(stages.update_stage("this group", 0, 10, "reading").left)

    def test_what_is_overdue_may_end_any_moment(self, clock):
        stages = progress.Stages()
        stages.update_stage("cells", 0, 4)
        clock.now += 10
        stages.update_stage("cells", 1, 4)
        clock.now += 300
        assert stages["cells"].left == 20
        stages.update_stage("cells", 3, 4)
        clock.now += 9000
        assert math.isnan(stages["cells"].left)

    def test_nothing_left(self, clock):
        stages = progress.Stages()
        stages.update_stage("cells", 0, 2, "")
        clock.now += 1
        assert math.isnan(stages.update_stage("cells", 2, 2, "").left)


@pytest.mark.parametrize(("seconds", "words"), [(math.nan, "?"), (5, "5.0 s"), (90, "1.5 min"), (5400, "1.5 h")])
def test_durations(seconds, words):
    assert progress.duration(seconds) == words


def test_a_log_file_gets_a_line_a_minute(clock, capsys):
    with progress.progress_bar("fig2") as show:
        for minute in range(4):
            show("cells", minute, 4, "1 failed" if minute > 1 else "")
            show("this group", 5, 10, "training")
            show("cluster", 0, 0, "2 of 2 cores")
            clock.now += 40
    assert capsys.readouterr().err.splitlines() == [
        "fig2: cells 2 of 4 1 failed (1.3 min left); this group 5 of 10 training; cluster 2 of 2 cores",
    ]


def test_a_terminal_gets_a_bar():
    """In a process of its own with a terminal as stderr."""
    script = (
        "import time\nfrom eigencode.commands.progress import progress_bar\n"
        "with progress_bar('fig2') as show:\n    for done in range(4):\n        show('cells', done, 4)\n        time.sleep(0.1)\n"
    )
    outer, inner = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", script], stderr=inner, check=True, env={**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    )
    os.close(inner)
    shown = os.read(outer, 1 << 16).decode()
    assert "fig2: cells" in shown
    assert "3/4" in shown
    assert "s left)" in shown
