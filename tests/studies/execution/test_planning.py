"""What would be run together, and how much time and memory it would take."""

from dataclasses import replace

import pytest
from safetensors.torch import save_file

from eigencode import models
from eigencode.errors import StudyError, TrainingError
from eigencode.studies import (
    Block,
    CellConfig,
    ImagesSpec,
    NetworkSpec,
    PerturbationSpec,
    Readout,
    Store,
    Study,
    load,
    overridden,
    smoke_version,
)
from eigencode.studies.cell import with_field
from eigencode.studies.execution.estimating import estimated
from eigencode.studies.execution.group import stack_size
from eigencode.studies.execution.scheduling import plan_groups
from eigencode.training import JacobianSettings
from eigencode.training.grouping import bytes_of_step
from small_study import PLAN, STUDY


def test_a_plan_says_what_would_run(finished, tmp_path):
    (group,) = estimated(plan_groups(STUDY, finished))
    assert (len(group.plans), len(group.missing), group.seconds) == (4, 0, 0.0)
    (group,) = estimated(plan_groups(STUDY, Store(tmp_path / "new.sqlite")))
    assert len(group.missing) == 4
    assert 0.01 < group.seconds < 60
    assert group.memory > 1e6


def test_a_smoke_run_has_few_images_for_its_ranks():
    wide = overridden(STUDY, "reading.ranks=[10,500] images.test_count=600 reading.count=600")
    assert plan_groups(smoke_version(wide), None)[0].reason is None
    with pytest.raises(StudyError, match="10-500 reach beyond the 399 eigenvalues of a code of 400 images"):
        plan_groups(overridden(wide, "reading.count=400"), None)


def test_networks_that_need_other_images_made_are_not_trained_together():
    made = replace(PLAN, reading=Readout(perturbations=(PerturbationSpec("robust", (0.5,)),)))
    for plan, alike in ((PLAN, True), (made, False)):
        assert (plan.group == with_field(plan, "member.learning_rate", 1e-4).group) is alike
        assert plan.group == with_field(plan, "member.seed", 5).group


def test_the_estimate_of_memory_counts_what_a_step_keeps():
    plan = CellConfig(network=NetworkSpec("gerum_shallow_mlp"), images=ImagesSpec("digits"))
    memory = {}
    for batch in (100, 300):
        study = Study("x", "", (Block(with_field(plan, "training.batch_size", batch), {}, (0, 1)),))
        memory |= {(batch, stack): estimated(plan_groups(study, None, stack=stack))[0].memory for stack in (1, 2)}
    weights, kept = 64 * 2000 + 2000 + 2000 * 10 + 10, 4 * (64 + 2000)
    image = 4 * 64
    assert memory[300, 1] - memory[100, 1] == 200 * (image + 2 * kept)
    assert memory[100, 2] - memory[100, 1] == 6 * 4 * weights + 100 * (image + 2 * kept)


def test_the_estimate_counts_images_that_are_made_once(tmp_path):
    made = replace(PLAN, reading=replace(PLAN.reading, perturbations=(PerturbationSpec("robust", (0.5,)),)))
    plain, two = (Study("x", "", (Block(plan, {}, (0, 1)),)) for plan in (PLAN, made))
    seconds = [sum(group.seconds for group in estimated(plan_groups(study, None, stack=1))) for study in (plain, two)]
    (first, second) = estimated(plan_groups(two, None, stack=1))
    assert seconds[1] > 3 * seconds[0]
    assert first.seconds > 3 * second.seconds


def test_a_stack_is_as_large_as_memory_allows(monkeypatch):
    plan = load("jiang2020.fig5").blocks[0].plan
    plan = replace(plan, images=ImagesSpec("digits"))
    assert stack_size(plan, device="cpu") == 20
    memory = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 40_000}
    monkeypatch.setattr("eigencode.training.grouping.os.sysconf", memory.__getitem__)
    assert 1 < stack_size(plan, device="cpu") < 20
    memory["SC_PHYS_PAGES"] = 1
    assert stack_size(plan, device="cpu") == 1


def test_a_stack_leaves_room_for_the_dearest_penalty(monkeypatch):
    """A grid begins without the penalty, whose gradient is differentiated again."""
    memory = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 40_000}
    monkeypatch.setattr("eigencode.training.grouping.os.sysconf", memory.__getitem__)
    plan = with_field(PLAN, "training.jacobian.kind", "exact")
    plain, penalised = (
        plan_groups(Study("own", "", (Block(plan, {"member.jacobian": values}, tuple(range(20))),)), None, device="cpu")
        for values in ((0.0,), (0.0, 1.0))
    )
    assert penalised[0].stack < plain[0].stack
    alone, dearest = (estimated(groups)[0] for groups in (plain, penalised))
    assert alone.memory / alone.stack < dearest.memory / dearest.stack


def test_each_projection_of_a_jacobian_is_kept():
    one, twenty = (replace(PLAN.training, jacobian=JacobianSettings(kind="projected", projections=count)) for count in (1, 20))
    step = [bytes_of_step(1000, 256, 4000, 100, settings, jacobian=True) for settings in (one, twenty)]
    assert step[1] - step[0] == 100 * 2 * 19 * 4000


def test_a_stack_of_networks_that_are_not_trained_must_be_a_number(tmp_path):
    model = models.load("gerum_cnn", image_shape=(1, 8, 8), seed=0)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    plan = replace(PLAN, network=NetworkSpec("gerum_cnn", weights=str(tmp_path / "weights.safetensors")))
    assert stack_size(plan, asked=3) == 3
    with pytest.raises(TrainingError, match="at least 1; got -1"):
        stack_size(plan, asked=-1)
