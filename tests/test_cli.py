import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import eigencode as ec
from command_line import command, run
from eigencode import cli
from eigencode.errors import EigencodeError

KEPT = Path(__file__).parents[1] / "docs" / "reproductions" / "gerum2022.sqlite"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["measure", "--wrong"],
        ["train", "--batch_size", "x"],
        ["study", "list"],
        ["study", "list", "--store", str(KEPT)],
        ["study", "show", "schaeffer2020"],
        ["study", "show", "nothing"],
        ["measure", "--model", "gerum_cnn", "--ranks", "5"],
        ["attack", "--model", "gerum_cnn", "--strengths", "x"],
        ["train", "--target", "x"],
        ["construct"],
        ["report", "nothing"],
    ],
)
def test_what_needs_no_torch_does_not_import_it(words):
    code = f"import sys, eigencode.cli as c\ntry: c.main({words!r})\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_answers_in_a_second():
    best = 9.0
    for _ in range(3):
        start = time.perf_counter()
        assert command("--help").returncode == 0
        best = min(best, time.perf_counter() - start)
    assert best < 1


def test_every_option_is_explained(capsys):
    for name, config in (("measure", cli.MeasureConfig), ("attack", cli.AttackConfig), ("construct", cli.ConstructConfig)):
        status, out, _ = run(capsys, name, "--help")
        assert status == 0
        for option in config.__dataclass_fields__:
            assert f"--{option} " in out
        assert out.count("type:") >= 0.8 * len(config.__dataclass_fields__)


def test_version(capsys):
    assert run(capsys, "--version")[:2] == (0, f"eigencode {ec.__version__}\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["measure", "--modle", "x"], "modle"),
        (["measure", "--units", "some"], "some"),
        (["measure", "--count", "many"], "count"),
        (["measur"], "measur"),
        ([], "command"),
    ],
)
def test_usage_errors_exit_with_2(capsys, words, text):
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert text in err
    assert "Traceback" not in err


def _signalled(number, body="signal.raise_signal(number)"):
    """A program in which a signal comes while words are parsed."""
    code = f"""
import signal, time
from eigencode import __main__, cli
number = signal.Signals({int(number)})
signal.signal(number, signal.SIG_DFL)  # it is ignored in the background of some shells
def parser(_command):
    {body}
    raise SystemExit(0)
cli.build_parser = parser
raise SystemExit(__main__.main())
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_with_a_line_and_their_status(number, status):
    done = _signalled(number)
    assert (done.returncode, done.stderr) == (status, "eigencode: interrupted; nothing was written.\n")


def test_a_second_signal_ends_at_once():
    again = "try: signal.raise_signal(number)\n    except KeyboardInterrupt: signal.raise_signal(number)"
    done = _signalled(signal.SIGINT, again)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_a_signal_that_is_ignored_stays_so():
    code = "import signal, sys\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\nsys.argv = ['eigencode', '--version']\n"
    code += "from eigencode import _signals\n_signals.listen()\nsignal.raise_signal(signal.SIGHUP)\n"
    code += "from eigencode.__main__ import main\nraise SystemExit(main())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_all_rooms_can_be_entered():
    assert ec.studies.load("jiang2020.fig5").name == "jiang2020.fig5"
    for module in (ec, ec.studies, ec.training):
        assert set(module.__all__) <= set(dir(module))
        assert all(hasattr(module, name) for name in dir(module))


def test_every_error_is_a_value_error():
    assert issubclass(EigencodeError, ValueError)


@pytest.mark.parametrize("how", ["ascii", "closed", pytest.param("latin-1", marks=pytest.mark.slow)])
def test_results_are_printed_wherever_stdout_leads(how, tmp_path):
    words = [
        "measure",
        "--model",
        "gerum_shallow_mlp",
        "--count",
        "60",
        "--half_samples",
        "0",
        "--ranks",
        "2-10",
        "--out",
        str(tmp_path / "o"),
    ]
    command = [sys.executable, "-m", "eigencode", *words]
    environment = {**os.environ, "PYTHONUTF8": "0"} | ({"PYTHONIOENCODING": how} if how != "closed" else {})
    if how == "closed":
        command = ["sh", "-c", f"exec {shlex.join(command)} >&-"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    assert (tmp_path / "o" / "record.json").exists()


@pytest.mark.parametrize("command", ["measure", pytest.param("attack", marks=pytest.mark.slow)])
def test_a_reader_that_goes_away_loses_no_results(command, tmp_path):
    words = [command, "--model", "gerum_shallow_mlp", "--count", "60", "--half_samples", "0", "--ranks", "2-10", "--json"]
    words += ["--perturbation", "gaussian", "--strengths", "0,0.1"] if command == "attack" else []
    line = shlex.join([sys.executable, "-m", "eigencode", *words, "--out", str(tmp_path / "o")])
    subprocess.run(["sh", "-c", f"{line} | true"], capture_output=True, check=False)
    assert (tmp_path / "o" / "record.json").exists()


def test_a_network_that_ends_the_program(tmp_path, capsys):
    (tmp_path / "net.py").write_text(
        "import sys\nfrom torch import nn\n\nclass Quits(nn.Module):\n    def forward(self, images):\n        sys.exit()\n\n\nmake = Quits\n"
    )
    assert cli.main(["measure", "--model", f"file:{tmp_path}/net.py:make", "--count", "60", "--out", str(tmp_path / "o")]) == 1
    assert capsys.readouterr().err.endswith("the network's code ended the program (exit status None). Fix its forward method.\n")
    assert not (tmp_path / "o").exists()
