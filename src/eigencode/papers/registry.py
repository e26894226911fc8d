"""The papers that come with eigencode, and their studies by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from eigencode._arguments import checked
from eigencode.errors import StudyError
from eigencode.papers import demo, gerum2022, jiang2020, schaeffer2020
from eigencode.studies.definition import Paper, Scale, Study
from eigencode.studies.yaml import read_study

PAPERS: dict[str, Paper] = {each.PAPER.name: each.PAPER for each in (jiang2020, gerum2022, schaeffer2020, demo)}


@checked(StudyError)
def paper(name: str) -> Paper:
    """A paper by its name, or by that of one of its figures.

    Raises:
        StudyError: no such paper or figure.
    """
    first, _, figure = name.partition(".")
    if first not in PAPERS:
        raise StudyError(f"No study is called {name!r}. There are {', '.join(PAPERS)}, or give a YAML file of your own.")
    found = PAPERS[first]
    if figure and figure not in found.figures:
        raise StudyError(f"{first} has no figure {figure!r}. It has {', '.join(found.figures)}.")
    return found


@checked(StudyError)
def load(name: str, scale: Scale = "cpu") -> Study:
    """A shipped study.

    Args:
        name: A paper (all of its figures), or one figure, such as jiang2020.fig5.
        scale: "paper", "cpu" (what two cores can do) or "quick".

    Returns:
        Study.

    Raises:
        StudyError: no such study or scale.

    Example:
        >>> study = load("jiang2020.fig6")
        >>> study.title, len(study.cells())
        ('Gaussian noise at the input of each layer', 20)
    """
    return paper(name).study(name.partition(".")[2] or None, scale)


@checked(StudyError)
def from_yaml(path: Path) -> Study:
    """A study from a YAML file; of a paper's scale only with the very cells that the paper's study has there, else "own".

    Raises:
        StudyError: the file cannot be read, or has unknown fields or values of the wrong type.
    """
    return _recognised(read_study(path))


def _recognised(study: Study) -> Study:
    """A study from a file as what it is: of the scale whose cells of the paper's study it has, or the user's own."""
    own = PAPERS.get(study.name.partition(".")[0])
    if own is None or (study.figure and study.figure not in own.figures):
        return replace(study, scale="own")
    cells = {plan.identity for plan in study.cells()}
    shipped = own.shipped_versions(study)
    scales = (each.scale for each in shipped if {plan.identity for plan in each.cells()} == cells)
    return replace(study, scale=next(scales, "own"), paper=own)
