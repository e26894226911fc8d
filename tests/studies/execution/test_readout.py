"""What is read of a trained network, or of one that is given."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from eigencode import datasets, measure, models
from eigencode.errors import StudyError
from eigencode.papers.schaeffer2020.study import RELEASED
from eigencode.reports.study_figures import draw
from eigencode.reports.study_tables import cells_table, perturbed_tables, results_table
from eigencode.studies import (
    Block,
    Local,
    NetworkSpec,
    PerturbationSpec,
    Readout,
    Store,
    Study,
    StudyResults,
    overridden,
    run_study,
)
from eigencode.studies import (
    load as load_study,
)
from eigencode.studies.execution.estimating import estimated
from eigencode.studies.execution.group import Task, run_group
from eigencode.studies.execution.scheduling import plan_groups
from eigencode.studies.results.judging import claims_of
from small_study import PLAN, STUDY, table


def test_one_network_read_in_two_ways_and_one_with_a_field_left_out(tmp_path):
    study = overridden(STUDY, "grid.reading.ranks=[[1,10],[2,20]] grid.member.beta=0 seeds=1")
    other = overridden(study, "images.train_count=200").blocks[0]
    whole = Study(
        "mine", "", (replace(study.blocks[0], plan=replace(PLAN, images=replace(PLAN.images, train_count=None))), other)
    )
    store = Store(tmp_path / "store.sqlite")
    run_study(whole, store, Local())
    evidence = StudyResults(store, whole.cells())
    cells, perturbed = cells_table(evidence), perturbed_tables(evidence)
    assert sorted(zip(cells["images.train_count"], cells["reading.ranks"], strict=True)) == [
        ("200", "1-10"),
        ("200", "2-20"),
        ("–", "1-10"),
        ("–", "2-20"),
    ]
    assert len(perturbed["Accuracy"]) == len(perturbed["Exponent α"]) == len(results_table(evidence)) == 4
    evidence.rows.to_parquet(tmp_path / "results.parquet")


def test_a_network_with_weights_is_read_and_not_trained(tmp_path):
    network = models.load("gerum_cnn", image_shape=(1, 8, 8), seed=7)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    plan = replace(PLAN, network=NetworkSpec("gerum_cnn", weights=str(tmp_path / "weights.safetensors")))
    study, store = Study("read", "", (Block(plan, {}, (3, 4)),)), Store(tmp_path / "store.sqlite")
    (plan,) = study.cells()  # nothing depends on a seed
    assert run_study(study, store, Local()).failed == {}
    assert set(StudyResults(store, study.cells()).cells["epochs"]) == {0}
    values = table(store, study)[plan.identity]
    held_out = datasets.load("digits", count=120).subset(100, seed=0)
    assert set(values.index.get_level_values("perturbation")) == {"unperturbed", "gaussian", "pgd", "fgsm"}
    expected = measure(network, held_out, half_samples=0)["tanh3"].fit("jiang").alpha
    assert values["tanh3", "unperturbed", 0.0, 0, "alpha"] == pytest.approx(expected, rel=1e-6)
    (group,) = estimated(plan_groups(study, None))
    (trained,) = estimated(plan_groups(Study("x", "", (Block(PLAN),)), None))
    assert group.seconds < trained.seconds


def test_a_network_that_has_collapsed_has_accuracies_and_no_spectrum(tmp_path):
    network = models.load("gerum_cnn", image_shape=(1, 8, 8))
    network.hidden.weight.data.zero_()
    save_file(network.state_dict(), tmp_path / "dead.safetensors")
    plan = replace(PLAN, network=NetworkSpec("gerum_cnn", weights=str(tmp_path / "dead.safetensors")))
    study, store = Study("dead", "", (Block(plan),)), Store(tmp_path / "store.sqlite")
    summary = run_study(study, store, Local())
    assert (summary.finished, summary.failed, summary.without_exponent) == (1, {}, {"penultimate": 1})
    rows = StudyResults(store, study.cells()).rows
    assert set(rows["quantity"]) == {"accuracy"}
    assert set(rows["perturbation"]) == {"pgd"}


def test_what_is_read_after_greedy_training_is_of_the_last_epoch(tmp_path):
    plan = overridden(STUDY, "network.model=jiang_mlp training.rule=greedy training.optimizer=sgd member.beta=0").blocks[0].plan
    plan = replace(
        plan, network=NetworkSpec("jiang_mlp", {"depth": 3, "width": 30}), reading=Readout("layers.0,layers.2", "jiang", 100)
    )
    study, store = Study("greedy", "", (Block(plan),)), Store(tmp_path / "store.sqlite")
    assert run_study(study, store, Local()).failed == {}
    found = StudyResults(store, study.cells())
    assert set(found.select("alpha", perturbation="unperturbed")["epoch"]) == {6}
    assert set(found.select("accuracy", perturbation="held_out")["epoch"]) == {6}


def test_images_are_made_once_and_the_same_without_a_place_to_keep_them(tmp_path):
    told = (PerturbationSpec("robust", (0.5,), count=40, steps=5), PerturbationSpec("random_target", (0.0,), count=40, steps=5))
    study = overridden(Study("made", "", (Block(PLAN, {}, (0, 1)),)), "network.model=schaeffer_cnn")
    (block,) = study.blocks
    study = replace(study, blocks=(replace(block, plan=replace(block.plan, reading=Readout("relu4", "jiang", 100, told))),))
    tables = []
    for number, states in enumerate((None, tmp_path / "states")):
        store = Store(tmp_path / f"{number}.sqlite")
        assert run_study(study, store, Local(), stack=2, states=states).failed == {}
        tables.append(table(store, study))
    pd.testing.assert_series_equal(*tables, rtol=1e-6)
    assert tables[0].xs("accuracy", level="quantity").xs("robust", level="perturbation").shape == (2,)
    made = sorted((tmp_path / "states" / "made").rglob("*-*.safetensors"))
    assert sorted(path.name.split("-")[0] for path in made) == ["random_target", "robust"]
    before = [path.stat().st_mtime_ns for path in made]
    run_study(study, Store(tmp_path / "1.sqlite"), Local(), again=True, states=tmp_path / "states")
    assert [path.stat().st_mtime_ns for path in made] == before


@pytest.mark.slow
def test_released_data_sets_and_networks_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_images = torch.Generator().manual_seed(0)
    for name in RELEASED.values():
        folder = tmp_path / "release_datasets" / name
        folder.mkdir(parents=True)
        torch.save([torch.rand(6, 3, 32, 32, generator=draw_images) for _ in range(2)], folder / "CIFAR_ims")
        torch.save([torch.arange(6) for _ in range(2)], folder / "CIFAR_lab")
    images = torch.rand(60, 3, 32, 32, generator=draw_images)
    save_file({"inputs": images, "labels": torch.arange(60) % 10}, "images.safetensors")
    weights = models.load("cifar_resnet50", seed=1).state_dict()
    for name in ("nat", "l2_0_25", "l2_0_5", "l2_1_0"):
        torch.save({"model": {f"module.model.{key}": value for key, value in weights.items()}}, f"cifar_{name}.pt")
    words = "images.data=tensors:images.safetensors training.epochs=1 training.batch_size=30 reading.ranks=jiang reading.count=12"
    study, store = overridden(load_study("schaeffer2020.released"), words), Store("store.sqlite")
    summary = run_study(study, store, Local())
    assert (summary.finished, summary.failed, summary.unstarted) == (7, {}, {})
    found = StudyResults(store, study.cells())
    alpha = found.select("alpha", perturbation="robust", model="cifar_resnet50")
    assert set(alpha["trained"]) == {"cifar_nat.pt", "cifar_l2_0_25.pt", "cifar_l2_0_5.pt", "cifar_l2_1_0.pt"}
    assert alpha["value"].nunique() == 1  # one network by four names
    judged = {claim.name: claim.judged(found) for claim in claims_of(study)}
    assert set(judged) == {"S4", "S5"}
    assert all(each.verdict != "not tested" for name in ("S4", "S5") for each in judged[name].findings)
    assert draw(study, study.figure, found) is not None


def test_a_released_data_set_that_is_not_there_is_told_before_training(tmp_path):
    told = (PerturbationSpec("robust", (0.5,), data="ilyas:nowhere"),)
    plan = replace(PLAN, reading=replace(PLAN.reading, perturbations=told))
    seen = []
    summary = run_study(
        Study("x", "", (Block(plan),)), Store(tmp_path / "s.sqlite"), Local(), report=lambda *words: seen.append(words)
    )
    assert (summary.failed, seen) == ({}, [])
    (reason,) = summary.unstarted
    assert reason.startswith("ilyas: nowhere must be a folder")


def test_a_layer_that_does_not_exist_is_told_before_training(tmp_path):
    plan = replace(PLAN, reading=replace(PLAN.reading, layers="nosuch"))
    seen = []
    (record,) = run_group(Task((plan,)), lambda *words: seen.append(words))
    assert record.error.startswith("`layers`: no layer is called 'nosuch'")
    assert seen == []


def test_a_window_beyond_the_data_is_told(tmp_path):
    plan = replace(PLAN, reading=Readout("tanh3,output", (1, 20), 100))
    summary = run_study(Study("x", "", (Block(plan),)), Store(tmp_path / "s.sqlite"), Local())
    assert (summary.finished, summary.without_exponent) == (1, {"output": 1})
    beyond = replace(plan, reading=replace(plan.reading, ranks=(90, 200)))
    with pytest.raises(StudyError, match="`ranks` 90-200 reach beyond the 99 eigenvalues of a code of 100 images"):
        run_study(Study("x", "", (Block(beyond),)), Store(tmp_path / "s.sqlite"), Local())
    fitting = replace(plan, reading=replace(plan.reading, ranks="jiang"))
    assert run_study(Study("x", "", (Block(fitting),)), Store(tmp_path / "s.sqlite"), Local()).without_exponent == {}
