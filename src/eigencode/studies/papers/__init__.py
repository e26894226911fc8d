"""The three papers: their studies as data, and their findings as checks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import Literal, get_args

from eigencode._arguments import checked
from eigencode.errors import StudyError
from eigencode.studies.study import Block, Study, shrunk

Scale = Literal["paper", "cpu", "quick"]

SCALES: tuple[Scale, ...] = get_args(Scale)

PAPERS = ("jiang2020", "gerum2022", "schaeffer2020", "demo")


@dataclass(frozen=True)
class Paper:
    """A paper.

    Attributes:
        name: Author and year.
        title: Its title.
        figures: Figure -> what it shows.
        sources: Dotted name of a field -> where its value is from.
        axes: Columns of results that tell its networks apart, beside their seeds.
        kinds: Those of them by which networks may differ in other settings, too.
    """

    name: str
    title: str
    figures: dict[str, str]
    sources: dict[str, str]
    axes: tuple[str, ...]
    kinds: tuple[str, ...]

    def study(self, figure: str | None, scale: str) -> Study:
        """Cells of a figure, or of all whose files are there."""
        module = _module(self.name)
        left_out: set[str] = getattr(module, "left_out", set)()
        figures = [figure] if figure else [name for name in self.figures if name not in left_out]
        chosen: list[tuple[str, Block]] = [(name, block) for name in figures for block in module.blocks(name, scale)]
        distinct: list[Block] = []
        for _, block in chosen:
            shown = tuple(name for name, other in chosen if other == block)
            if (labelled := replace(block, figures=shown)) not in distinct:
                distinct.append(labelled)
        name = f"{self.name}.{figure}" if figure else self.name
        return Study(name, self.figures[figure] if figure else self.title, tuple(distinct), scale, self.sources)


def _module(name: str) -> ModuleType:
    return import_module(f"eigencode.studies.papers.{name}")


@checked(StudyError)
def paper(name: str) -> Paper:
    """A paper by its name, or by that of one of its figures.

    Raises:
        StudyError: no such paper or figure.
    """
    first, _, figure = name.partition(".")
    if first not in PAPERS:
        raise StudyError(f"No study is called {name!r}. There are {', '.join(PAPERS)}, or give a YAML file of your own.")
    module = _module(first)
    if figure and figure not in module.FIGURES:
        raise StudyError(f"{first} has no figure {figure!r}. It has {', '.join(module.FIGURES)}.")
    return Paper(first, module.TITLE, module.FIGURES, module.SOURCES, module.AXES, module.KINDS)


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


def as_they_come(study: Study) -> list[Study]:
    """Shipped studies of the name of this one, at its scale, or at all if it has none of theirs; none for a user's own name."""
    first, _, figure = study.name.partition(".")
    if first not in PAPERS or (figure and figure not in _module(first).FIGURES):
        return []
    scales = [scale for scale in SCALES if scale == study.scale] or SCALES
    shipped = [load(study.name, scale) for scale in scales]
    return [shrunk(each) for each in shipped] if study.scale == "smoke" else shipped


def marked_own(study: Study) -> Study:
    """A study from a file as what it is: of the scale whose cells of the paper's study it has, or the user's own."""
    cells = {plan.identity for plan in study.cells()}
    scales = (each.scale for each in as_they_come(study) if {plan.identity for plan in each.cells()} == cells)
    return replace(study, scale=next(scales, "own"))
