"""Tables, figures and claims never take networks or readings for one that are not; what is not to be trusted is told."""

from dataclasses import replace

import pandas as pd
import pytest

from eigencode.errors import StudyError
from eigencode.perturbations.specification import PerturbationSpec
from eigencode.reports.study_figures import spectra_of_networks
from eigencode.reports.study_tables import perturbed_tables
from eigencode.studies import Block, Store, Study, StudyResults, load
from eigencode.studies import paper as load_paper
from eigencode.studies.cell import with_field
from eigencode.studies.execution.group import CellRecord
from eigencode.studies.execution.readout import ROW
from eigencode.studies.results.attack_warnings import attack_warnings
from eigencode.studies.results.judging import claims_of, confounders, figures_of, part, stated_numbers_of, study_record
from paper_networks import (
    deep,
    evidence,
    gerum,
    mlps,
    nets,
)


def test_a_column_that_is_not_there_is_told(tmp_path):
    with pytest.raises(StudyError, match=r"There is no column 'betta'\. Columns are .*beta"):
        evidence([gerum(0, 0.0, 1.0)], tmp_path).select("alpha", betta=1)


def test_spectra_stand_in_the_order_of_their_numbers(tmp_path):
    records = [gerum(0, 1.0, 2.0) for _ in range(3)]
    rates = (0.01, 0.001, 0.003)
    records = [
        replace(record, plan=with_field(record.plan, "member.learning_rate", rate))
        for record, rate in zip(records, rates, strict=True)
    ]
    (panel,) = spectra_of_networks(evidence(records, tmp_path)).axes
    labels = [line.get_label() for line in panel.get_lines()]
    assert [label for label in labels if "rate" in label] == [f"member.learning_rate {rate:g}" for rate in sorted(rates)]


def test_attacks_that_are_not_to_be_trusted(tmp_path):
    records = [gerum(seed, 0.0, 1.0) for seed in range(3)]
    assert attack_warnings(evidence(records, tmp_path), [record.plan for record in records]) == []
    strange = (records[0].rows["perturbation"] == "pgd") & (records[0].rows["strength"] == 0.1)
    records[0] = replace(records[0], rows=records[0].rows.assign(value=records[0].rows["value"] + 0.02 * strange))
    short = tuple(replace(told, steps=4) for told in records[1].plan.reading.perturbations)
    records[1] = replace(records[1], plan=with_field(records[1].plan, "reading.perturbations", short))
    (tmp_path / "store.sqlite").unlink()
    found = attack_warnings(evidence(records, tmp_path), [record.plan for record in records])
    told = {(each["attack"], each["flag"]): each["networks"] for each in found}
    assert told == {
        ("pgd 0.1", "weaker_than_fgsm"): "1 of 3",
        ("pgd 0.05", "budget_out_of_reach"): "1 of 3",
        ("pgd 0.1", "budget_out_of_reach"): "1 of 3",
        ("pgd 0.15", "budget_out_of_reach"): "1 of 3",
    }


def test_results_under_perturbations_are_means_over_seeds(tmp_path):
    tables = perturbed_tables(evidence(mlps(), tmp_path))
    assert list(tables) == ["Accuracy"]
    table = tables["Accuracy"]
    shown = [f"{kind} {strength}" for kind in ("fgsm", "pgd") for strength in (0.01, 0.03, 0.05, 0.1, 0.15)]
    assert list(table) == ["beta", "target", *shown]
    assert table["target"].tolist()[:3] == ["–", "0.6", "1"]
    assert table["fgsm 0.05"].iloc[0] == "0.700 ± 0.000"
    nets_ = perturbed_tables(evidence(nets(2), tmp_path / "other"))
    assert list(nets_["Exponent α"])[:2] == ["layer", "layer_gaussian 0.1"]
    assert len(nets_["Accuracy"]) == 8


def test_results_of_two_data_sets_are_told_apart(tmp_path):
    tables = perturbed_tables(evidence([*deep("fig3d"), *deep("fig3g")], tmp_path))
    table = tables["Accuracy"]
    assert list(table)[:4] == ["data", "epochs", "beta", "target"]
    assert table["data"].value_counts().to_dict() == {"mnist": 11, "cifar10": 11}


def test_of_many_strengths_those_of_all_networks_are_told(tmp_path):
    def attacked(seed, strengths):
        rows = [("tanh1", "held_out", 0.0, 50, "accuracy", 0.9)]
        rows += [("", "pgd", strength, 50, "accuracy", 0.5) for strength in strengths]
        plan = with_field(load("gerum2022.fig2").blocks[0].plan, "member.seed", seed)
        return CellRecord(plan, pd.DataFrame(rows, columns=ROW))

    every = [number / 100 for number in range(1, 20)]
    (table,) = perturbed_tables(evidence([attacked(0, every)], tmp_path / "one")).values()
    assert list(table) == [f"pgd {number / 100:g}" for number in range(1, 20, 2)]
    (table,) = perturbed_tables(evidence([attacked(0, every), attacked(1, [0.05, 0.1])], tmp_path / "two")).values()
    assert list(table) == ["pgd 0.05", "pgd 0.1"]


def mixed(records, tmp_path, name):
    """What claims and figures of a paper need beyond these networks, as one study without labels; empty for nothing."""
    blocks = tuple(Block(record.plan, seeds=(record.plan.member.seed,)) for record in records)
    study = Study(name, "", blocks, paper=load_paper(name))
    return study, evidence(records, tmp_path)


@pytest.mark.parametrize(
    ("name", "base", "field", "value"),
    [
        ("gerum2022.fig2", mlps, "training.batch_size", 100),
        ("gerum2022.fig2", mlps, "training.epochs", 10),
        ("gerum2022.fig2", mlps, "member.learning_rate", 0.1),
        ("jiang2020.fig5", nets, "images.data", "digits"),
        ("jiang2020.fig5", nets, "member.learning_rate", 0.1),
    ],
)
def test_networks_that_differ_in_more_than_the_papers_are_not_averaged(name, base, field, value, tmp_path):
    records = base()
    study, found = mixed(records, tmp_path / "same", name)
    assert confounders(study, found) == ""
    others = [CellRecord(with_field(record.plan, field, value), record.rows) for record in records[:3]]
    study, found = mixed([*records, *others], tmp_path / "mixed", name)
    column = field if field not in ("training.epochs", "images.data") else field.partition(".")[2]
    assert confounders(study, found).endswith(f"; these differ in {column}")
    record = study_record(study, found, configuration={"name": name, "scale": "own", "set": ""})
    assert {claim["verdict"] for claim in record["claims"]} == {"not tested"}
    assert [row["here"] for row in record["published"]] == ["not measured"] * len(stated_numbers_of(study))
    assert len(stated_numbers_of(study)) == (4 if name == "gerum2022.fig2" else 0)


def attacked_by(records, **options):
    """The records as if they had been attacked in another way, and lost more accuracy."""
    others = []
    for record in records:
        told = tuple(replace(each, **options) for each in record.plan.reading.perturbations)
        rows = record.rows.assign(
            value=record.rows["value"].where(record.rows["perturbation"] != "pgd", record.rows["value"] - 0.3)
        )
        others.append(CellRecord(with_field(record.plan, "reading.perturbations", told), rows))
    return others


def test_attacks_in_two_ways_are_told_apart(tmp_path):
    records = mlps()
    study, found = mixed([*records, *attacked_by(records, count=None)], tmp_path, "gerum2022.fig2")
    assert confounders(study, found).endswith("; these differ in reading.perturbations")
    clean = found.select("accuracy", perturbation="held_out")
    assert len(clean) == len(records)  # each network once
    attacked = found.select("accuracy", perturbation="pgd", strength=0.05)
    assert attacked["reading.perturbations"].value_counts().to_dict() == {"count 2000": 45, "all images": 45}
    assert len(attacked) == 2 * len(records)
    table = perturbed_tables(found)["Accuracy"]
    assert len(table) == 2 * 15


def test_what_is_said_of_attacks_in_two_ways_is_of_the_cell_that_made_them(tmp_path):
    """Of PGD that is weaker than FGSM in few steps, and not in many."""
    records = mlps()[:2]
    for record in records:
        record.rows.loc[record.rows["perturbation"] == "pgd", "value"] += 0.05
    few = attacked_by(records, steps=4)
    for record in few:
        record.rows.loc[record.rows["perturbation"] == "pgd", "value"] += 0.3
    both = [*few, *attacked_by(records)]
    found = attack_warnings(evidence(both, tmp_path), [record.plan for record in both])
    assert {each["attack"] for each in found if each["flag"] == "weaker_than_fgsm"} == {
        f"pgd {strength:g}" for strength in (0.01, 0.03, 0.05, 0.1, 0.15)
    }


@pytest.mark.parametrize(
    ("told", "way"),
    [
        (PerturbationSpec("pgd", (0.1,)), "by default"),
        (PerturbationSpec("pgd", (0.2, 0.1), steps=40, step_size=0.01), "by default"),
        (PerturbationSpec("pgd", (0.1,), norm="l2", step_size=0.01), "l2, step_size 0.01"),
        (PerturbationSpec("pgd", (0.1,), spectra=False), "all images"),
        (PerturbationSpec("robust", (0.1,), steps=1000), "by default"),
        (PerturbationSpec("robust", (0.1,), steps=100, count=9), "count 9, steps 100"),
    ],
)
def test_ways_of_perturbing_in_words(told, way):
    assert told.variant == way


def test_baselines_of_two_trainings_are_told_apart(tmp_path):
    """Their targets play no part, and so tell nothing apart."""
    records = mlps()
    others = []
    for record in records[::15]:
        plan = with_field(with_field(record.plan, "training.batch_size", 100), "member.target", 2.0)
        others.append(CellRecord(plan, record.rows.assign(value=record.rows["value"] - 0.3)))
    study, found = mixed([*records, *others], tmp_path, "gerum2022.fig2")
    assert confounders(study, found).endswith("; these differ in training.batch_size")
    table = perturbed_tables(found)["Accuracy"]
    assert table[table["beta"] == "0"]["training.batch_size"].tolist() == ["100", "2500"]


def test_one_kind_of_network_has_one_setting(tmp_path):
    """Strong networks that were trained otherwise are not compared with weak ones."""
    records = []
    for record in mlps():
        size = 100 if record.plan.member.beta == 1 else 2500
        records.append(CellRecord(with_field(record.plan, "training.batch_size", size), record.rows))
    study, found = mixed(records, tmp_path, "gerum2022.fig2")
    assert confounders(study, found).endswith("; these differ in training.batch_size")


def test_fitted_again_a_network_that_was_read_over_two_windows_is_there_once(tmp_path):
    records = mlps()
    narrow = [CellRecord(with_field(record.plan, "reading.ranks", (2, 9)), record.rows, record.spectra) for record in records]
    found = evidence([*records, *narrow], tmp_path)
    assert len(found.select("accuracy", perturbation="held_out")) == 2 * len(records)
    assert len(found.spectra) == 2 * len(records)
    again = found.over((3, 30))
    assert len(again.spectra) == len(records)
    assert len(again.select("accuracy", perturbation="held_out")) == len(records)
    assert "reading.ranks" not in again.rows


@pytest.mark.parametrize("scale", [pytest.param("paper", marks=pytest.mark.slow), "cpu", "quick"])
@pytest.mark.parametrize("paper", ["jiang2020", "gerum2022", "schaeffer2020", "demo"])
def test_no_shipped_study_mixes_networks(paper, scale, tmp_path):
    rows = pd.DataFrame([("", "held_out", 0.0, 1, "accuracy", 1.0)], columns=ROW)
    for figure in [None, *figures_of(load(paper, scale))]:
        name = f"{paper}.{figure}" if figure else paper
        study = load(name, scale)
        store = Store(tmp_path / f"{name}.sqlite")
        store.save([CellRecord(plan, rows) for plan in study.cells()])
        found = StudyResults(store, study.cells())
        parts = [(claim.figure, *claim.also) for claim in claims_of(study)]
        parts += [(each.figure,) for each in stated_numbers_of(study)]
        parts += [(each,) for each in figures_of(study)]
        assert [figures for figures in parts if confounders(study, part(study, found, *figures))] == []
