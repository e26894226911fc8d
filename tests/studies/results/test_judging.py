"""Claims judged over each setting of what a paper leaves open."""

import re
from dataclasses import replace

import pandas as pd
import pytest

from eigencode.reports.study_tables import VERDICTS, sensitivity_table, settings_one_by_one
from eigencode.studies import Block, Store, StudyResults, load
from eigencode.studies.cell import with_field
from eigencode.studies.execution.group import CellRecord
from eigencode.studies.results.judging import over_settings, study_record
from paper_networks import deep, evidence, nets

SAYS = "“the exponent of the first layer is less than one” (III D)"


@pytest.fixture
def settings(tmp_path):
    """Jiang's grid of two learning rates: at one the networks are as the paper describes them, at the other no layer is."""
    plan = load("jiang2020.settings").blocks[0].plan
    grid = {"member.learning_rate": (0.5, 0.1), "training.epochs": (10, 60)}
    study = replace(load("jiang2020.settings"), blocks=(Block(plan, grid, tuple(range(4)), ("settings",)),))
    records = []
    for rate, epochs, options in ((0.5, 10, {}), (0.1, 60, {"alphas": [2.0] * 8})):
        for record in nets(4, **options):
            own = with_field(with_field(plan, "member.learning_rate", rate), "training.epochs", epochs)
            own = with_field(own, "member.seed", record.plan.member.seed)
            rows = record.rows.assign(epoch=record.rows["epoch"].replace(60, epochs))
            records.append(replace(record, plan=own, rows=rows))
    store = Store(tmp_path / "store.sqlite")
    store.save(records)
    return study, store


def test_each_setting_has_its_verdicts(settings):
    study, store = settings
    rows = over_settings(study, StudyResults(store, study.cells()))
    assert [row["setting"] for row in rows] == [
        {"member.learning_rate": rate, "training.epochs": epochs} for rate in (0.5, 0.1) for epochs in (10, 60)
    ]
    assert [(row["networks"], row["asked"]) for row in rows] == [(4, 4), (0, 4), (0, 4), (4, 4)]
    verdicts = [{part["part"]: part["verdict"] for part in row["parts"]} for row in rows]
    assert [each["J4b"] for each in verdicts] == ["holds", "not tested", "not tested", "does not hold"]
    assert {each["J3a"] for each in verdicts} == {"not tested"}  # widths are not varied
    table = sensitivity_table(rows).set_index("part")
    assert table.loc["J4b"].to_dict() == {"the paper says": SAYS, "holds": 1, "undecided": 0, "does not hold": 1, "not tested": 2}
    assert set(table[[*VERDICTS]].sum(axis=1)) == {4}
    listed = settings_one_by_one(rows)
    assert len(listed) == 4 * len(table)
    assert list(listed)[:4] == ["member.learning_rate", "training.epochs", "networks", "asked"]


def test_a_setting_is_judged_as_a_study_of_it_would_be(settings):
    study, store = settings
    whole = over_settings(study, StudyResults(store, study.cells()))[-1]
    plan = with_field(with_field(study.blocks[0].plan, "member.learning_rate", 0.1), "training.epochs", 60)
    alone = replace(load("jiang2020"), blocks=(Block(plan, {}, tuple(range(4))),))
    record = study_record(alone, StudyResults(store, alone.cells()), configuration={})
    parts = [part for claim in record["claims"] for part in claim["parts"]]
    assert [(part["part"], part["verdict"], part["found"]) for part in parts] == [
        (part["part"], part["verdict"], part["found"]) for part in whole["parts"]
    ]


def test_other_studies_have_no_settings(tmp_path):
    assert over_settings(load("jiang2020.fig5"), evidence(nets(), tmp_path)) == []
    empty = CellRecord(load("demo").cells()[0], pd.DataFrame(columns=["layer"]))
    assert over_settings(load("demo"), StudyResults(Store(tmp_path / "other.sqlite"), [empty.plan])) == []


def test_the_whole_paper_leaves_its_settings_out():
    whole, grid = load("jiang2020"), load("jiang2020.settings")
    assert not {plan.identity for plan in whole.cells()} & {plan.identity for plan in grid.cells()}
    assert len(grid.cells()) == 72
    assert {plan.member.learning_rate for plan in grid.cells()} == {0.5, 0.1}


def test_the_record_counts_what_is_undecided(tmp_path):
    """Two deep networks of each setting leave much open; fifty would do, or nothing is known of how many."""
    study = load("gerum2022.fig3d")
    two = [record for record in deep("fig3d", sharp=0.0) if record.plan.member.seed < 2]
    (other := tmp_path / "other").mkdir()
    record = study_record(study, evidence(two, tmp_path), configuration={})
    told = record["undecided"]
    open_parts = [part for claim in record["claims"] for part in claim["parts"] if part["verdict"] == "undecided"]
    assert open_parts
    count = int(record["claims"][0]["verdict"] == "undecided")
    assert told.startswith(f"{count} of 1 claims and {len(open_parts)} of 4 parts are undecided. ")
    assert re.findall(r"(G6\w) \((\d+|not known how many)\)", told) == [
        (part["part"], str(part["networks"] or "not known how many")) for part in open_parts
    ]
    assert study_record(load("jiang2020.fig2"), evidence(nets(), other), configuration={})["undecided"] == ""
