import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import pytest
import torch
from filelock import FileLock
from safetensors.torch import save_file

from eigencode import datasets, measure, models
from eigencode.errors import StudyError
from eigencode.reports.study_figures import draw
from eigencode.spectra import fit_power_law
from eigencode.studies import (
    Block,
    Evidence,
    Images,
    Local,
    Network,
    Perturbed,
    Plan,
    RayEngine,
    Reading,
    Store,
    Study,
    overridden,
    run_study,
    shrunk,
    to_yaml,
)
from eigencode.studies import load as load_study
from eigencode.studies.claims import Claim, Finding, Published
from eigencode.studies.engines import Done, Task
from eigencode.studies.estimating import estimated
from eigencode.studies.judging import claims_of, figures_of
from eigencode.studies.papers import PAPERS
from eigencode.studies.papers.schaeffer2020 import RELEASED
from eigencode.studies.refitting import refitted
from eigencode.studies.running import failed_group, run_group, states_of
from eigencode.studies.scheduling import plan_groups
from eigencode.studies.sharing import FreeTasks
from eigencode.studies.study import MADE, with_field
from eigencode.studies.tables import cells_table, perturbed_tables, results_table
from eigencode.training import Cell, Settings, SpectralSettings, train

JIANG = SpectralSettings(ranks="jiang")
PLAN = Plan(
    network=Network("gerum_cnn"),
    images=Images(train_count=300, test_count=120),
    training=Settings(epochs=2, batch_size=100, spectral=JIANG),
    member=Cell(learning_rate=1e-3),
    reading=Reading(
        ranks="jiang",
        count=100,
        perturbations=(
            Perturbed("gaussian", (0.2,)),
            Perturbed("pgd", (0.05, 0.1), count=60, steps=3, spectra=False),
            Perturbed("fgsm", (0.1,), count=60),
        ),
    ),
)
STUDY = Study("mine", "Small networks", (Block(PLAN, {"member.strength": (0.0, 0.2)}, (0, 1)),))


class Counting(Local):
    """The local engine, which remembers what it was given."""

    def __init__(self):
        self.given = []

    def run(self, tasks, report=None):
        def noted():
            for task in tasks:
                self.given.append(len(task.plans))
                yield task

        yield from super().run(noted(), report)


def table(store, study=STUDY):
    columns = ["cell", "layer", "perturbation", "strength", "epoch", "quantity"]
    return Evidence(store, study.cells()).rows.sort_values(columns).set_index(columns)["value"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store") / "store.sqlite")
    summary = run_study(STUDY, store, Local())
    assert (summary.cells, summary.finished, summary.new, summary.failed) == (4, 4, 4, {})
    return store


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
    assert summary.unstarted == {"nowhere.npz does not exist. Check the path.": 1}


def test_an_unexpected_error_is_recorded(tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise MemoryError("no memory left")

    monkeypatch.setattr("eigencode.studies.engines.run_group", fails)
    store = Store(tmp_path / "store.sqlite")
    summary = run_study(STUDY, store, Local())
    assert set(summary.failed.values()) == {"MemoryError: no memory left"}


def test_training_is_kept_where_reading_came_to_an_unexpected_end(tmp_path, monkeypatch):
    states, trained = tmp_path / "states", []

    def out_of_memory(*_arguments):
        raise MemoryError("none left")

    def report(stage, done, _total):
        trained.extend([done] if stage == "training" else [])

    with monkeypatch.context() as patch:
        patch.setattr("eigencode.studies.running.read", out_of_memory)
        summary = run_study(STUDY, Store(tmp_path / "store.sqlite"), Local(), states=states)
    assert len(summary.failed) == 4
    summary = run_study(STUDY, Store(tmp_path / "store.sqlite"), Local(), states=states, retry=True, report=report)
    assert (summary.finished, trained) == (4, [])
    assert list(states.iterdir()) == []


def test_one_network_read_in_two_ways_and_one_with_a_field_left_out(tmp_path):
    study = overridden(STUDY, "grid.reading.ranks=[[1,10],[2,20]] grid.member.strength=0 seeds=1")
    other = overridden(study, "images.train_count=200").blocks[0]
    whole = Study(
        "mine", "", (replace(study.blocks[0], plan=replace(PLAN, images=replace(PLAN.images, train_count=None))), other)
    )
    store = Store(tmp_path / "store.sqlite")
    run_study(whole, store, Local())
    evidence = Evidence(store, whole.cells())
    cells, perturbed = cells_table(evidence), perturbed_tables(evidence)
    assert sorted(zip(cells["images.train_count"], cells["reading.ranks"], strict=True)) == [
        ("200", "1-10"),
        ("200", "2-20"),
        ("–", "1-10"),
        ("–", "2-20"),
    ]
    assert len(perturbed["Accuracy"]) == len(perturbed["Exponent α"]) == len(results_table(evidence)) == 4
    evidence.rows.to_parquet(tmp_path / "results.parquet")


def test_a_smoke_run_has_few_images_for_its_ranks():
    wide = overridden(STUDY, "reading.ranks=[10,500] images.test_count=600 reading.count=600")
    assert plan_groups(shrunk(wide), None)[0].reason is None
    with pytest.raises(StudyError, match="10-500 reach beyond the 399 eigenvalues of a code of 400 images"):
        plan_groups(overridden(wide, "reading.count=400"), None)


def test_other_cells_have_another_place_for_their_training(tmp_path):
    def place(*strengths):
        return states_of([with_field(PLAN, "member.strength", strength) for strength in strengths], tmp_path)

    assert place(1.0, 2.0) == place(1.0, 2.0)
    assert len({place(1.0, 2.0), place(1.0, 3.0), place(1.0, 2.0, 3.0)}) == 3


def test_networks_that_need_other_images_made_are_not_trained_together():
    made = replace(PLAN, reading=Reading(perturbations=(Perturbed("robust", (0.5,)),)))
    for plan, alike in ((PLAN, True), (made, False)):
        assert (plan.group == with_field(plan, "member.learning_rate", 1e-4).group) is alike
        assert plan.group == with_field(plan, "member.seed", 5).group


def test_a_plan_says_what_would_run(finished, tmp_path):
    (group,) = estimated(plan_groups(STUDY, finished))
    assert (len(group.plans), len(group.missing), group.seconds) == (4, 0, 0.0)
    (group,) = estimated(plan_groups(STUDY, Store(tmp_path / "new.sqlite")))
    assert len(group.missing) == 4
    assert 0.01 < group.seconds < 60
    assert group.memory > 1e6


def test_the_estimate_of_memory_counts_what_a_step_keeps():
    plan = Plan(network=Network("gerum_shallow_mlp"), images=Images("digits"))
    memory = {}
    for batch in (100, 300):
        study = Study("x", "", (Block(with_field(plan, "training.batch_size", batch), {}, (0, 1)),))
        memory |= {(batch, stack): estimated(plan_groups(study, None, stack=stack))[0].memory for stack in (1, 2)}
    weights, kept = 64 * 2000 + 2000 + 2000 * 10 + 10, 4 * (64 + 2000)
    assert memory[300, 1] - memory[100, 1] == 2 * 200 * kept
    assert memory[100, 2] - memory[100, 1] == 6 * 4 * weights + 2 * 100 * kept


def test_kept_spectra_give_the_numbers_of_the_study(finished):
    found = Evidence(finished, STUDY.cells())
    assert found.over("jiang") is found  # as it was read
    spectra = finished.spectra()
    refitted_rows, unreached = refitted(finished.results(), spectra, "jiang")
    keys = ["cell", "layer", "perturbation", "strength", "quantity"]
    before, after = (
        rows[rows["quantity"].isin(["alpha", "r2", "stderr"])].set_index(keys)["value"]
        for rows in (finished.results(), refitted_rows)
    )
    assert unreached == 0
    assert len(after) == 3 * len(spectra)
    pd.testing.assert_series_equal(after, before[after.index], rtol=1e-10)
    other = found.over((2, 7))
    assert (other.ranks, other.window, other.coded_on) == ((2, 7), "2-7", "unperturbed")
    assert (found.ranks, found.window, found.coded_on) == (None, None, "training")
    assert set(other.select("alpha")["perturbation"]) == set(spectra["perturbation"])
    one = spectra.iloc[5]
    (row,) = other.select("alpha", **{name: one[name] for name in keys[:-1]}).to_dict("records")
    assert row["value"] == fit_power_law(torch.from_numpy(one["eigenvalues"].copy()), ranks=(2, 7)).alpha


def test_a_claim_is_judged_over_the_ranks_it_may_be(finished):
    found = Evidence(finished, STUDY.cells())
    holds = lambda evidence: Finding("holds", f"{len(evidence.rows)} rows", "")  # noqa: E731
    verdicts = [
        Claim("X", "fig", "", holds, window=window).judged(evidence).verdict
        for window in ("any", "own", "none")
        for evidence in (found, found.over((2, 7)))
    ]
    assert verdicts == ["holds", "holds", "holds", "not tested", "holds", "holds"]
    stated = Published("α", "fig", 1.0, None, lambda evidence: evidence.select("alpha")["value"], exponents=True)
    assert stated.compared(found)["here"] != "of other ranks"
    assert stated.compared(found.over((2, 7)))["here"] == "of other ranks"


READ = {
    "jiang2020": {"layer_gaussian", "layer_fgsm", "stimuli"},
    "gerum2022": {"fgsm", "pgd"},
    "schaeffer2020": {"gaussian", "pure_noise", "pca", "zca", "pgd", *MADE},
    "demo": {"fgsm", "pgd", "gaussian"},
}


@pytest.mark.parametrize("name", PAPERS)
def test_every_shipped_study_in_its_smallest_size(name, tmp_path):
    study, store = shrunk(load_study(name)), Store(tmp_path / "store.sqlite")
    summary = run_study(study, store, Local(), states=tmp_path / "states")
    assert (summary.failed, summary.unstarted, summary.finished) == ({}, {}, len(study.cells()))
    found = Evidence(store, study.cells())
    assert set(found.rows["perturbation"]) == {"training", "held_out", "unperturbed"} | READ[name]
    needing_files = {"schaeffer2020.fig2"}
    for figure in figures_of(study):
        assert (draw(figure, found) is None) == (figure in needing_files), figure
    assert all(claim.judged(found).found for claim in claims_of(study))
    steeper = found.over((2, 5))
    no_spectrum = {"gerum2022.fig2d", "jiang2020.stimuli"}
    for figure in figures_of(study):
        assert (draw(figure, steeper) is None) == (figure in needing_files | no_spectrum), figure
    assert all(claim.judged(steeper).found for claim in claims_of(study))


def test_images_are_made_once_and_the_same_without_a_place_to_keep_them(tmp_path):
    told = (Perturbed("robust", (0.5,), count=40, steps=5), Perturbed("random_target", (0.0,), count=40, steps=5))
    study = overridden(Study("made", "", (Block(PLAN, {}, (0, 1)),)), "network.model=schaeffer_cnn")
    (block,) = study.blocks
    study = replace(study, blocks=(replace(block, plan=replace(block.plan, reading=Reading("relu4", "jiang", 100, told))),))
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
    found = Evidence(store, study.cells())
    alpha = found.select("alpha", perturbation="robust", model="cifar_resnet50")
    assert set(alpha["trained"]) == {"cifar_nat.pt", "cifar_l2_0_25.pt", "cifar_l2_0_5.pt", "cifar_l2_1_0.pt"}
    assert alpha["value"].nunique() == 1  # one network by four names
    judged = {claim.name: claim.judged(found) for claim in claims_of(study)}
    assert set(judged) == {"S4", "S5"}
    assert judged["S5"].found.startswith("the Robustness library's ResNet-50s")
    assert judged["S4"].verdict != "not tested"
    assert draw("schaeffer2020.released", found) is not None


def test_a_layer_that_does_not_exist_is_told_before_training(tmp_path):
    plan = replace(PLAN, reading=replace(PLAN.reading, layers="nosuch"))
    seen = []
    (record,) = run_group([plan], report=lambda *words: seen.append(words))
    assert record.error.startswith("`layers`: no layer is called 'nosuch'")
    assert seen == []


def test_a_window_beyond_the_data_is_told(tmp_path):
    plan = replace(PLAN, reading=Reading("tanh3,output", (1, 20), 100))
    summary = run_study(Study("x", "", (Block(plan),)), Store(tmp_path / "s.sqlite"), Local())
    assert (summary.finished, summary.without_exponent) == (1, {"output": 1})
    beyond = replace(plan, reading=replace(plan.reading, ranks=(90, 200)))
    with pytest.raises(StudyError, match="`ranks` 90-200 reach beyond the 99 eigenvalues of a code of 100 images"):
        run_study(Study("x", "", (Block(beyond),)), Store(tmp_path / "s.sqlite"), Local())
    fitting = replace(plan, reading=replace(plan.reading, ranks="jiang"))
    assert run_study(Study("x", "", (Block(fitting),)), Store(tmp_path / "s.sqlite"), Local()).without_exponent == {}


def test_a_released_data_set_that_is_not_there_is_told_before_training(tmp_path):
    told = (Perturbed("robust", (0.5,), data="ilyas:nowhere"),)
    plan = replace(PLAN, reading=replace(PLAN.reading, perturbations=told))
    seen = []
    summary = run_study(
        Study("x", "", (Block(plan),)), Store(tmp_path / "s.sqlite"), Local(), report=lambda *words: seen.append(words)
    )
    assert (summary.failed, seen) == ({}, [])
    (reason,) = summary.unstarted
    assert reason.startswith("ilyas: nowhere must be a folder")


def test_the_estimate_counts_images_that_are_made_once(tmp_path):
    made = replace(PLAN, reading=replace(PLAN.reading, perturbations=(Perturbed("robust", (0.5,)),)))
    plain, two = (Study("x", "", (Block(plan, {}, (0, 1)),)) for plan in (PLAN, made))
    seconds = [sum(group.seconds for group in estimated(plan_groups(study, None, stack=1))) for study in (plain, two)]
    (first, second) = estimated(plan_groups(two, None, stack=1))
    assert seconds[1] > 3 * seconds[0]
    assert first.seconds > 3 * second.seconds


def test_a_network_with_weights_is_read_and_not_trained(tmp_path):
    network = models.load("gerum_cnn", image_shape=(1, 8, 8), seed=7)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    plan = replace(PLAN, network=Network("gerum_cnn", weights=str(tmp_path / "weights.safetensors")))
    study, store = Study("read", "", (Block(plan, {}, (3, 4)),)), Store(tmp_path / "store.sqlite")
    (plan,) = study.cells()  # nothing depends on a seed
    assert run_study(study, store, Local()).failed == {}
    assert set(Evidence(store, study.cells()).cells["epochs"]) == {0}
    values = table(store, study)[plan.identity]
    held_out = datasets.load("digits", count=120).subset(100, seed=0)
    assert set(values.index.get_level_values("perturbation")) == {"unperturbed", "gaussian", "pgd", "fgsm"}
    expected = measure(network, held_out, half_samples=0)["tanh3"].fit("jiang").alpha
    assert values["tanh3", "unperturbed", 0.0, 0, "alpha"] == pytest.approx(expected, rel=1e-6)
    (group,) = estimated(plan_groups(study, None))
    (trained,) = estimated(plan_groups(Study("x", "", (Block(PLAN),)), None))
    assert group.seconds < trained.seconds


def test_files_changed_after_cells_were_finished_are_told(tmp_path):
    weights, code = tmp_path / "weights.safetensors", tmp_path / "mine.py"
    save_file(models.load("gerum_cnn", image_shape=(1, 8, 8)).state_dict(), weights)
    code.write_text("from eigencode import models\ndef make(): return models.load('gerum_cnn', image_shape=(1, 8, 8))")
    plan = replace(PLAN, network=Network(f"file:{code}:make", weights=str(weights)), reading=Reading(ranks="jiang", count=100))
    study, store = Study("read", "", (Block(plan),)), Store(tmp_path / "store.sqlite")
    assert plan.files == [weights, code]
    assert run_study(study, store, Local()).outdated == {}
    later = time.time() + 5
    os.utime(weights, (later, later))
    summary = run_study(study, store, Local())
    assert (summary.new, summary.outdated) == (0, {str(weights): 1})


def test_what_is_read_after_greedy_training_is_of_the_last_epoch(tmp_path):
    plan = (
        overridden(STUDY, "network.model=jiang_mlp training.rule=greedy training.optimizer=sgd member.strength=0").blocks[0].plan
    )
    plan = replace(
        plan, network=Network("jiang_mlp", {"depth": 3, "width": 30}), reading=Reading("layers.0,layers.2", "jiang", 100)
    )
    study, store = Study("greedy", "", (Block(plan),)), Store(tmp_path / "store.sqlite")
    assert run_study(study, store, Local()).failed == {}
    found = Evidence(store, study.cells())
    assert set(found.select("alpha", perturbation="unperturbed")["epoch"]) == {6}
    assert set(found.select("accuracy", perturbation="held_out")["epoch"]) == {6}


def test_progress_is_told():
    seen = []
    run_group(STUDY.cells()[:1], report=lambda stage, done, total: seen.append(stage))
    assert list(dict.fromkeys(seen)) == ["training", "reading", "pgd 0.05", "pgd 0.1"]


LONG = overridden(STUDY, "training.epochs=12 seeds=3 reading.perturbations=[]")


@pytest.mark.parametrize(
    ("engine", "kills"),
    [
        ("local", 3),
        pytest.param("local", 20, marks=pytest.mark.slow),
        pytest.param("ray", 20, marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_moment_the_table_is_the_same(engine, kills, tmp_path):
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray: pip install 'eigencode[cluster]'")
    (tmp_path / "mine.yaml").write_text(to_yaml(LONG))
    words = [
        sys.executable,
        "-m",
        "eigencode",
        "study",
        "run",
        str(tmp_path / "mine.yaml"),
        "--stack",
        "2",
        "--engine",
        engine,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

    def start(store):
        return subprocess.Popen(
            [*words, "--store", str(tmp_path / store)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    whole = start("whole.sqlite")
    started = time.monotonic()
    assert whole.wait(timeout=300) == 0, whole.stderr.read()
    length = time.monotonic() - started
    whole.communicate()
    draw, killed = random.Random(engine), 0
    while killed < kills:
        process = start("killed.sqlite")
        try:
            process.wait(timeout=draw.uniform(0.1, 0.9) * length)
            (tmp_path / "killed.sqlite").unlink()  # it came to its end: from the start again, to be killed some more
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate()
    process = start("killed.sqlite")
    assert process.wait(timeout=300) == 0, process.stderr.read()
    process.communicate()
    first, second = (table(Store(tmp_path / name), LONG) for name in ("whole.sqlite", "killed.sqlite"))
    assert len(first) > 100
    pd.testing.assert_series_equal(first, second, rtol=0, atol=0)
    assert not list((tmp_path / "killed.states").iterdir())


def test_two_processes_share_the_groups_of_a_study(tmp_path):
    (tmp_path / "mine.yaml").write_text(to_yaml(LONG))
    words = [sys.executable, "-m", "eigencode", "study", "run", str(tmp_path / "mine.yaml"), "--stack", "1", "--json"]
    words += ["--store", str(tmp_path / "store.sqlite")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    summaries = [json.loads(process.communicate(timeout=300)[0]) for process in both]
    assert [summary["finished"] for summary in summaries] == [6, 6]
    assert sum(summary["new"] for summary in summaries) == 6
    assert min(summary["new"] for summary in summaries) > 0
    assert not list((tmp_path / "store.states").iterdir())


def test_what_others_finished_meanwhile_is_left_out_and_what_they_work_on_is_left_alone(tmp_path):
    store, plans = Store(tmp_path / "store.sqlite"), STUDY.cells()
    tasks = [Task(tuple(plans[:3]), states=tmp_path / "states"), Task(tuple(plans[3:]), states=tmp_path / "states")]
    folder = states_of(plans[3:], tmp_path / "states")
    folder.parent.mkdir()
    before = store.stamps()
    store.save(failed_group(plans[1:2], "of another process"))
    with FileLock(folder.with_suffix(".lock")):
        free = FreeTasks(tasks, store, before)
        (taken,) = free
        assert taken.plans == (plans[0], plans[2])
        assert (free.found, free.taken, free.busy) == (1, 1, tasks[1:])
        (none,) = [list(FreeTasks(tasks[:1], store, before))]  # one that is taken is taken
        assert none == []
        free.release(taken)
    (taken,) = FreeTasks(tasks[1:], store, before)
    assert taken == tasks[1]
    store.save(failed_group(plans, "again"), again=True)
    assert list(FreeTasks(tasks[:1], store, before)) == []


@pytest.mark.slow
def test_ray_gives_the_same(finished, tmp_path):
    pytest.importorskip("ray")
    store = Store(tmp_path / "store.sqlite")
    summary = run_study(STUDY, store, RayEngine(), stack=2)
    assert (summary.finished, summary.failed) == (4, {})
    other = Store(tmp_path / "local.sqlite")
    run_study(STUDY, other, Local(), stack=2)
    pd.testing.assert_series_equal(table(store), table(other), rtol=1e-3, atol=1e-3)


def test_a_ray_cluster_that_is_not_there():
    pytest.importorskip("ray")
    with pytest.raises(StudyError, match=r"--address 127\.0\.0\.1:1: no Ray cluster can be reached there"):
        list(RayEngine("127.0.0.1:1").run([Task(tuple(STUDY.cells()))]))


def test_an_engine_needs_nothing_but_run(tmp_path):
    class Nothing:
        def run(self, tasks, report=None):
            for task in tasks:
                yield Done(task, [], "not today")

    summary = run_study(STUDY, Store(tmp_path / "store.sqlite"), Nothing())
    assert summary.unstarted == {"not today": 4}
