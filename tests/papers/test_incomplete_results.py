"""Whatever cells, layers, conditions or quantities are missing: claims, numbers and figures say what they need, and none fails."""

import copy
import random
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from eigencode.reports.study_figures import draw
from eigencode.studies import Store, StudyResults, load
from eigencode.studies.results.judging import claims_of, figures_of, stated_numbers_of
from paper_networks import deep, evidence, grid, mlps, nets, resnet

KEPT = Path(__file__).parents[2] / "docs" / "reproductions"
TRIALS = 5


def kept(name):
    """Evidence of the cells that are kept beside a page."""
    store = Store(KEPT / f"{name}.sqlite", make=False)
    finished = store.finished()
    return StudyResults(store, [plan for plan in load(name).cells() if plan.identity in finished])


SOURCES = {
    "jiang2020": lambda folder: evidence([*nets(), *nets(width=50, spread=0.02)], folder),
    "gerum2022": lambda _: kept("gerum2022"),
    "gerum2022 (made)": lambda folder: evidence([*mlps(), *deep("fig3a")], folder),
    "schaeffer2020": lambda _: kept("schaeffer2020"),
    "schaeffer2020 (made)": lambda folder: evidence([*grid(), resnet(gaussian=1.7, pure_noise=1.8)], folder),
}


@pytest.mark.parametrize("source", SOURCES)
def test_any_part_of_the_results_can_be_missing(source, tmp_path):
    whole, study, chance = SOURCES[source](tmp_path), load(source.partition(" ")[0]), random.Random(source)
    for trial in range(TRIALS):
        some = part_of(whole, chance)
        for claim in claims_of(study):
            assert claim.judged(some).verdict in ("holds", "does not hold", "undecided", "not tested")
        for published in stated_numbers_of(study):
            assert set(published.compared(some)) == {"quantity", "figure", "paper", "here", "difference"}
        if trial % 4 == 0:
            for name in figures_of(study):
                assert isinstance(draw(study, name, some), Figure | None)


def part_of(whole, chance):
    """Some of the cells, without some layers, perturbations, strengths or quantities."""
    cells = list(whole.cells["cell"])
    few = chance.choice([1, 2, 4, len(cells) // 2, len(cells) - 1, len(cells)])
    chosen = set(chance.sample(cells, min(max(few, 1), len(cells))))
    some = copy.copy(whole)
    some.cells = whole.cells[whole.cells["cell"].isin(chosen)]
    some.rows = whole.rows[whole.rows["cell"].isin(chosen)]
    for column in chance.sample(["layer", "perturbation", "strength", "quantity"], chance.randint(0, 2)):
        values = sorted(some.rows[column].unique())
        gone = chance.sample(values, chance.randint(0, max(len(values) - 1, 0)))
        some.rows = some.rows[~some.rows[column].isin(gone)]
    some.rows = some.rows.reset_index(drop=True)
    vars(some).pop("spectra", None)
    some._kept = whole._kept[whole._kept["cell"].isin(chosen)]
    some._last_epochs = some.rows.groupby("network")["epoch"].max()
    return some
