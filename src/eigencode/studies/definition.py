"""A study is data: cells of several kinds, each a grid times seeds. A paper is studies with what is concluded from them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, get_args

from eigencode._arguments import check_fields
from eigencode.errors import StudyError
from eigencode.perturbations.specification import MADE
from eigencode.studies.cell import CellConfig, with_field

if TYPE_CHECKING:
    from eigencode.studies.results.claim import Claim, StatedNumber

Scale = Literal["paper", "cpu", "quick"]

SCALES: tuple[Scale, ...] = get_args(Scale)

SETTINGS = "settings"
"""Figure of a paper whose cells vary what the paper leaves open: every claim is judged over each of its settings."""

_FEW = 50

MOST_CELLS = 100_000
"""More are refused before they are listed."""


@dataclass(frozen=True)
class Block:
    """Cells of one kind: a plan, times a grid, times seeds.

    Args:
        plan: What all cells share.
        grid: Dotted name of a field, such as member.target, to its values.
        seeds: Seeds of each cell.
        figures: Figures of a paper that the cells are for; of a user's own study, none.

    Raises:
        StudyError: no value or seed, one that is there twice, a seed in the grid, or one in the plan that is not among `seeds`.
    """

    plan: CellConfig
    grid: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    figures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses what would count one network as two, or none."""
        check_fields(self, StudyError, owner="a block")
        count = math.prod(len(values) for values in (self.seeds, *self.grid.values()))
        if count > MOST_CELLS:
            raise StudyError(f"the grid has {count} cells; {MOST_CELLS} at most. Make several studies.")
        if "member.seed" in self.grid or self.plan.member.seed not in {0, *self.seeds}:
            raise StudyError(
                "`member.seed` would be replaced by the seeds of the block. Give `seeds`, such as [3] for the seed 3."
            )
        for name, values in {"seeds": self.seeds, **self.grid}.items():
            if not values:
                raise StudyError(
                    f"{name} has no value: the grid has no cells. Give every field at least one value, and at least one seed."
                )
            if (twice := _first_twice(values)) is not None:
                raise StudyError(f"{name}: {twice!r} is duplicated. Give each value once.")

    def cells(self) -> Iterator[CellConfig]:
        """All cells; at beta 0 the target plays no part, and is set to that of the plan."""
        for values in itertools.product(*self.grid.values()):
            plan = self.plan
            for name, value in zip(self.grid, values, strict=True):
                plan = with_field(plan, name, value)
            if plan.member.beta == 0:
                plan = with_field(plan, "member.target", self.plan.member.target)
            for seed in (0,) if plan.network.weights else self.seeds:  # nothing is random about a network with its weights
                yield with_field(plan, "member.seed", seed)


def _first_twice(values: Iterable[Any]) -> Any:
    """The first value that was there before; None if there is none."""
    seen = set[Any]()
    for value in values:
        try:
            hash(value)
        except TypeError:  # a list or mapping
            value = repr(value)
        if value in seen:
            return value
        seen.add(value)
    return None


@dataclass(frozen=True)
class Study:
    """Cells that answer a question.

    Args:
        name: Name, such as jiang2020.fig5.
        title: What is asked.
        scale: Which of the paper's settings: paper, cpu, quick or smoke; own for a user's own; train for one of ``eigencode
            train``, whose images may be too few for an exponent.
        blocks: Cells of each kind.
        sources: Dotted name of a field -> where its value is from: stated in the paper, from the authors' code, or chosen,
            and why.
        paper: Paper that the study is of, whose claims and figures its results have; none for a study of a user's own, by its
            name too.
    """

    name: str
    title: str
    blocks: tuple[Block, ...]
    scale: str = "own"
    sources: dict[str, str] = field(default_factory=dict)
    paper: Paper | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuses a name that no folder can have."""
        if set(self.name) & set("/\\\0"):
            raise StudyError(f"`name` names the folder of reports, and must be without / and \\; got {self.name!r}.")
        if self.paper and (self.name.partition(".")[0] != self.paper.name or self.figure not in (None, *self.paper.figures)):
            object.__setattr__(self, "paper", None)

    @property
    def figure(self) -> str | None:
        """The figure of the paper that the study is of; None if it is of the whole paper."""
        return self.name.partition(".")[2] or None

    def cells(self) -> list[CellConfig]:
        """All cells, each once.

        Raises:
            StudyError: there are no blocks, or a field of the grid does not exist.
        """
        cells = _distinct(self.blocks)
        if not cells:
            raise StudyError(f"{self.name} has no cells. Give it at least one block.")
        return cells

    def cells_of(self, *figures: str) -> list[CellConfig]:
        """Cells for any of these figures, each once."""
        return _distinct(block for block in self.blocks if set(figures) & set(block.figures))


def _distinct(blocks: Iterable[Block]) -> list[CellConfig]:
    return list({plan.identity: plan for block in blocks for plan in block.cells()}.values())


def smoke_version(study: Study) -> Study:
    """The study in a size that takes seconds: bundled digits, two epochs, few images, strengths, values and seeds."""
    return replace(study, scale="smoke", blocks=tuple(_shrunk(block) for block in study.blocks))


def _shrunk(block: Block) -> Block:
    plan = block.plan
    training = plan.training
    few = tuple(
        replace(each, strengths=_ends(each.strengths), count=_FEW, steps=5 if each.kind in MADE else 3)
        for each in plan.reading.perturbations
    )
    own = ":" in plan.images.data or plan.network.weights or any(each.data for each in few)  # files that are to be used
    data = plan.images.data if own else "digits"
    stimuli = tuple(count for count in (_FEW, 2 * _FEW) if plan.reading.stimuli)
    smaller = replace(
        plan,
        images=replace(plan.images, data=data, train_count=8 * _FEW, test_count=8 * _FEW),
        training=replace(
            training, epochs=min(training.epochs, 2), batch_size=min(training.batch_size, 4 * _FEW), measure_every=1
        ),
        reading=replace(plan.reading, count=8 * _FEW, perturbations=few, stimuli=stimuli),
    )
    grid = {name: _ends(values) for name, values in block.grid.items()}
    return Block(smaller, grid, block.seeds[:2], block.figures)


def _ends(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys((values[0], values[-1])))


@dataclass(frozen=True)
class Paper:
    """A paper.

    Args:
        name: Author and year.
        title: Its title.
        figures: Figure -> what it shows.
        sources: Dotted name of a field -> where its value is from.
        axes: Columns of results that tell its networks apart, beside their seeds.
        kinds: Those of them by which networks may differ in other settings, too.
        blocks: Figure and scale -> cells.
        left_out: Called for the figures that the study of the whole paper leaves out, such as those whose files are not there.
        claims: Called for its findings, when they are needed: they import more than a list of studies may wait for.
        stated: Called for the numbers that it states, in the same way.
        curves: Called for what lays its published curves beside ``StudyResults``: rows of a table; None if there are none.
        drawings: Called for its drawings by their figures: each makes a figure from ``StudyResults``.
        beside_recordings: Figures that draw a recording beside the networks.
        spectra_of_one: Figures that draw the spectra of one network of each setting.
    """

    name: str
    title: str
    figures: Mapping[str, str]
    sources: Mapping[str, str]
    axes: tuple[str, ...]
    kinds: tuple[str, ...]
    blocks: Callable[[str, str], tuple[Block, ...]]
    left_out: Callable[[], set[str]] = set
    claims: Callable[[], Sequence[Claim]] = tuple
    stated: Callable[[], Sequence[StatedNumber]] = tuple
    curves: Callable[[], Callable[..., list[dict[str, Any]]] | None] = lambda: None
    drawings: Callable[[], Mapping[str, Callable[..., Any]]] = dict
    beside_recordings: tuple[str, ...] = ()
    spectra_of_one: tuple[str, ...] = ()

    def study(self, figure: str | None, scale: str) -> Study:
        """Cells of a figure, or of all whose files are there."""
        left_out = self.left_out()
        figures = [figure] if figure else [name for name in self.figures if name not in left_out]
        chosen: list[tuple[str, Block]] = [(name, block) for name in figures for block in self.blocks(name, scale)]
        distinct: list[Block] = []
        for _, block in chosen:
            shown = tuple(name for name, other in chosen if other == block)
            if (labelled := replace(block, figures=shown)) not in distinct:
                distinct.append(labelled)
        name = f"{self.name}.{figure}" if figure else self.name
        return Study(name, self.figures[figure] if figure else self.title, tuple(distinct), scale, dict(self.sources), self)

    def shipped_versions(self, study: Study) -> list[Study]:
        """Its own studies of the name of a study, at the study's scale, or at all if it has none of that scale."""
        scales = [scale for scale in SCALES if scale == study.scale] or SCALES
        shipped = [self.study(study.figure, scale) for scale in scales]
        return [smoke_version(each) for each in shipped] if study.scale == "smoke" else shipped


def later(module: str, name: str) -> Callable[[], Any]:
    """What a paper's claims and drawings are given as: a value of a module that is imported when it is asked for."""
    return partial(_value_of, module, name)


def _value_of(module: str, name: str) -> Any:
    return getattr(import_module(module), name)
