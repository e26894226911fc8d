"""A study is run into a store."""

import os
import time
from dataclasses import replace

import pandas as pd
import pytest
from safetensors.torch import save_file

from eigencode import datasets, measure, models
from eigencode.studies import (
    Block,
    Local,
    NetworkSpec,
    Readout,
    Store,
    Study,
    overridden,
    run_study,
)
from eigencode.studies.cell import with_field
from eigencode.studies.execution.group import Task, run_group, states_of
from eigencode.training import train
from eigencode.training.saving import load_tensors, save_tensors
from small_study import PLAN, STUDY, Counting, table


def test_numbers_are_those_of_the_library(finished):
    plan = STUDY.cells()[3]
    images, held_out = (datasets.load("digits", split=split, count=count) for split, count in (("train", 300), ("test", 120)))
    network = models.load("gerum_cnn", image_shape=images.shape, seed=plan.member.seed)
    run = train(network, images, settings=PLAN.training, cells=plan.member, held_out=held_out)
    spectrum = measure(run.models[0], held_out.subset(100, seed=0), half_samples=0)["tanh3"]
    values = table(finished)[plan.identity]
    last = run.history.iloc[-1]
    assert values["tanh3", "unperturbed", 0.0, 2, "alpha"] == pytest.approx(spectrum.fit("jiang").alpha, rel=1e-4)
    assert values["tanh3", "unperturbed", 0.0, 2, "dimension"] == pytest.approx(spectrum.dimension, rel=1e-4)
    population = spectrum.population_dimension().dimension
    assert values["tanh3", "unperturbed", 0.0, 2, "dimension_population"] == pytest.approx(population, rel=1e-4)
    assert values["tanh3", "training", 0.0, 2, "alpha"] == pytest.approx(last["alpha"], rel=1e-4)
    assert values["tanh3", "held_out", 0.0, 2, "accuracy"] == pytest.approx(last["held_out_accuracy"], abs=0.01)
    conditions = set(values.index.get_level_values("perturbation"))
    assert conditions == {"training", "held_out", "unperturbed", "gaussian", "pgd", "fgsm"}
    assert values["", "pgd", 0.1, 2, "accuracy"] <= values["", "pgd", 0.05, 2, "accuracy"]


def test_grouping_changes_nothing(finished, tmp_path):
    alone = Store(tmp_path / "alone.sqlite")
    run_study(STUDY, alone, Local(), stack=1)
    difference = (table(finished) - table(alone)).abs()
    assert len(difference) == len(table(finished))
    assert difference.xs("alpha", level="quantity").max() < 1e-2
    assert difference.xs("accuracy", level="quantity").max() < 0.03


def test_finished_cells_are_not_run_twice(tmp_path):
    store, engine = Store(tmp_path / "store.sqlite"), Counting()
    first = Study("first", "", (Block(PLAN, {}, (0,)),))
    run_study(first, store, engine)
    run_study(STUDY, store, engine, stack=2)
    assert engine.given == [1, 1, 2]
    before = table(store)
    run_study(STUDY, store, engine)
    assert engine.given == [1, 1, 2]
    summary = run_study(first, store, engine, again=True)
    assert engine.given == [1, 1, 2, 1]
    assert (summary.new, summary.finished) == (1, 1)
    pd.testing.assert_series_equal(table(store), before, rtol=1e-6)


def test_a_cell_that_fails_is_recorded_and_stops_nothing(tmp_path):
    store = Store(tmp_path / "store.sqlite")
    plan = (
        overridden(Study("x", "", (Block(PLAN),)), "reading.perturbations=[] training.optimizer=sgd network.model=schaeffer_cnn")
        .blocks[0]
        .plan
    )
    study = Study("penalties", "", (Block(plan, {"member.covariance": (0.0, 1e30)}, (0,)),))
    summary = run_study(study, store, Local())
    assert (summary.finished, summary.new, len(summary.failed)) == (1, 1, 1)
    assert next(iter(summary.failed.values())).startswith("Training stopped at step 2 (epoch 1)")
    engine = Counting()
    assert run_study(study, store, engine).new == 0
    assert engine.given == []
    run_study(study, store, engine, retry=True)
    assert engine.given == [1]


def test_data_that_is_not_there_stops_its_cells_alone(tmp_path):
    store = Store(tmp_path / "store.sqlite")
    blocks = (Block(PLAN), Block(overridden(STUDY, "images.data=tensors:nowhere.npz").blocks[0].plan))
    summary = run_study(Study("x", "", blocks), store, Local())
    assert (summary.finished, summary.failed) == (1, {})
    assert summary.unstarted == {"tensors: nowhere.npz does not exist. Check the path.": 1}


def test_an_unexpected_error_is_recorded(tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise MemoryError("no memory left")

    monkeypatch.setattr("eigencode.studies.execution.engines.run_group", fails)
    store = Store(tmp_path / "store.sqlite")
    summary = run_study(STUDY, store, Local())
    assert set(summary.failed.values()) == {"MemoryError: no memory left"}


def test_training_is_kept_where_reading_came_to_an_unexpected_end(tmp_path, monkeypatch):
    states, trained = tmp_path / "states", []

    def out_of_memory(*_arguments):
        raise MemoryError("none left")

    def report(stage, done, *_):
        trained.extend([done] if stage == "training" else [])

    with monkeypatch.context() as patch:
        patch.setattr("eigencode.studies.execution.group.read", out_of_memory)
        summary = run_study(STUDY, Store(tmp_path / "store.sqlite"), Local(), states=states)
    assert len(summary.failed) == 4
    summary = run_study(STUDY, Store(tmp_path / "store.sqlite"), Local(), states=states, retry=True, report=report)
    assert (summary.finished, trained) == (4, [])
    assert list(states.iterdir()) == []


def test_time_before_a_kill_counts(tmp_path, monkeypatch):
    plans, folder = STUDY.cells(), tmp_path / "state"
    monkeypatch.setattr("eigencode.studies.execution.group.read", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_group(Task(plans, folder=folder))
    monkeypatch.undo()
    (state,) = folder.iterdir()
    tensors, facts = load_tensors(state)
    for row in facts["rows"]:
        row["seconds"] = 500.0
    save_tensors(state, tensors, facts)
    seconds = [record.seconds for record in run_group(Task(plans, folder=folder))]
    assert 1000 < seconds[0] < 1060  # two epochs, though each may have several layers
    assert run_group(Task(plans[:1]))[0].seconds < 60


def test_other_cells_have_another_place_for_their_training(tmp_path):
    def place(*strengths):
        return states_of([with_field(PLAN, "member.beta", strength) for strength in strengths], tmp_path)

    assert place(1.0, 2.0) == place(1.0, 2.0)
    assert len({place(1.0, 2.0), place(1.0, 3.0), place(1.0, 2.0, 3.0)}) == 3


def test_files_changed_after_cells_were_finished_are_told(tmp_path):
    weights, code = tmp_path / "weights.safetensors", tmp_path / "mine.py"
    save_file(models.load("gerum_cnn", image_shape=(1, 8, 8)).state_dict(), weights)
    code.write_text("from eigencode import models\ndef make(): return models.load('gerum_cnn', image_shape=(1, 8, 8))")
    plan = replace(
        PLAN, network=NetworkSpec(f"file:{code}:make", weights=str(weights)), reading=Readout(ranks="jiang", count=100)
    )
    study, store = Study("read", "", (Block(plan),)), Store(tmp_path / "store.sqlite")
    assert plan.files == [weights, code]
    assert run_study(study, store, Local()).outdated == {}
    later = time.time() + 5
    os.utime(weights, (later, later))
    summary = run_study(study, store, Local())
    assert (summary.new, summary.outdated) == (0, {str(weights): 1})


def test_progress_is_told():
    seen = []
    run_group(Task(tuple(STUDY.cells()[:1])), lambda stage, *_: seen.append(stage))
    assert list(dict.fromkeys(seen)) == ["training", "reading", "pgd 0.05", "pgd 0.1"]


def test_more_stimuli_than_there_are_images_are_told_before_training(monkeypatch):
    plan = with_field(PLAN, "reading.stimuli", (60, 500))
    monkeypatch.setattr("eigencode.studies.execution.materials.train_group", None)
    (record,) = run_group(Task((plan,)))
    assert record.error == "`reading.stimuli` asks for 500 test images; there are 120"


def test_states_are_of_the_code_of_a_network_of_ones_own(tmp_path):
    code = tmp_path / "mine.py"
    code.write_text("one")
    plans = [replace(PLAN, network=NetworkSpec(f"file:{code}:network"))]
    first = states_of(plans, tmp_path)
    assert states_of(plans, tmp_path) == first
    code.write_text("two")
    assert states_of(plans, tmp_path) != first
