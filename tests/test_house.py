"""What is in one place only, which rooms may import which, and how long files, functions and their signatures may be."""

import ast
import tomllib
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
        ('"_orig_mod", None', "activations/hooks.py"),
    ],
)
def test_one_of_each(text, home):
    assert [str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if text in path.read_text()] == [home]


def test_shapes_are_checked_wherever_they_are_annotated():
    options = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["addopts"]
    checked = next(word for word in options.split() if word.startswith("--jaxtyping-packages=")).partition("=")[2].split(",")[:-1]
    annotated = [path for path in PACKAGE.rglob("*.py") if "from jaxtyping import" in path.read_text()]
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in annotated]
    assert sorted(names) == checked


ROOMS = (
    "provenance",
    "spectra",
    "datasets",
    "models",
    "activations",
    "perturbations",
    "penalties",
    "attacks",
    "measurement",
    "training",
    "studies",
    "reports",
    "papers",
    "commands",
    "cli",
)
"""A room imports those above it, and what all may import: errors, and modules whose names begin with an underscore."""

LAZY = {("studies/__init__.py", "papers")}
"""``ec.studies.load`` is loaded when it is first used."""


def imports_of(path):
    """First names below the package of everything that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "eigencode":
            rest = node.module.split(".")[1:]
            yield from [rest[0]] if rest else [alias.name for alias in node.names]


def place(room):
    """Rank of a room; 0 of what all may import."""
    return 0 if room == "errors" or room.startswith("_") else ROOMS.index(room) + 1


def test_no_room_imports_one_below_it():
    climbing = set()
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE)
        room = name.parts[0].removesuffix(".py")
        if room not in ("__init__", "__main__"):
            climbing |= {(str(name), imported) for imported in imports_of(path) if place(imported) > place(room)}
    assert climbing == LAZY


LONGEST_FILE, LONGEST_FUNCTION = 400, 40


def test_files_and_functions_fit_a_page():
    """Lines of code after the docstring, without comments and empty lines."""
    long = []
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        lines = text.splitlines()
        if len(lines) > LONGEST_FILE:
            long.append((path.name, len(lines)))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                code = lines[body[0].lineno - 1 : node.end_lineno] if body else []
                count = sum(bool(line.strip()) and not line.strip().startswith("#") for line in code)
                if count > LONGEST_FUNCTION:
                    long.append((path.name, node.name, count))
    assert not long


MOST_PARAMETERS = 6

MORE_PARAMETERS = {
    "keywords for users, made into values there": (
        "attacks/curves.py:attack_images",
        "attacks/curves.py:robustness_curve",
        "attacks/gradient.py:fgsm",
        "attacks/gradient.py:pgd",
        "datasets/sources.py:load",
        "measurement/measuring.py:collect",
        "measurement/measuring.py:measure",
        "measurement/monitor.py:__init__",
        "measurement/perturbed.py:perturbed_spectra",
        "reports/page.py:write_report",
        "spectra/accumulator.py:__init__",
        "spectra/eigenspectrum.py:from_activations",
        "spectra/bent.py:power_law_test",
        "spectra/power_law.py:fit_power_law",
        "spectra/signal.py:signal_spectrum",
        "spectra/uncertainty.py:stimulus_curve",
        "studies/execution/scheduling.py:plan_groups",
        "studies/execution/scheduling.py:run_study",
        "training/loop.py:train",
    ),
    "called by torch": ("_readers/checkpoints.py:_second_version", "_readers/checkpoints.py:_third_version"),
    "the arguments of train": ("training/grouping.py:train_group",),
}
"""Reason -> functions that take more."""


def test_what_goes_together_is_one_value():
    """Parameters without ``self`` and ``cls``."""
    many = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                told = node.args
                every = [*told.posonlyargs, *told.args, *told.kwonlyargs, *filter(None, (told.vararg, told.kwarg))]
                if sum(each.arg not in ("self", "cls") for each in every) > MOST_PARAMETERS:
                    many.add(f"{path.relative_to(PACKAGE).as_posix()}:{node.name}")
    assert many == set().union(*MORE_PARAMETERS.values())
