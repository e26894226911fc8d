import hashlib
import json
import re
from dataclasses import asdict, fields, replace

import pytest

from eigencode import cli
from eigencode.errors import EigencodeError, StudyError
from eigencode.papers.registry import PAPERS, paper
from eigencode.studies import (
    Block,
    CellConfig,
    ImagesSpec,
    NetworkSpec,
    PerturbationSpec,
    Readout,
    Study,
    from_yaml,
    load,
    overridden,
    smoke_version,
    to_yaml,
)
from eigencode.studies.cell import RESULT_VERSION, groups_of, with_field
from eigencode.studies.definition import SCALES
from eigencode.studies.results.settings_table import settings_of
from eigencode.training import MemberSettings, Settings, SpectralSettings


def study(**options):
    grid = {"member.target": (1.0, 2.0), "member.beta": (0.0, 0.1)}
    plan = CellConfig(
        images=ImagesSpec(train_count=100), reading=Readout(perturbations=(PerturbationSpec("fgsm", (0.1,), spectra=False),))
    )
    return Study("mine", "A study", (Block(plan, grid, (0, 1)),), **options)


def test_cells_are_the_grid_and_the_baseline_once():
    cells = study().cells()
    assert [(cell.member.beta, cell.member.target, cell.member.seed) for cell in cells] == [
        (0.0, 1.0, 0),
        (0.0, 1.0, 1),
        (0.1, 1.0, 0),
        (0.1, 1.0, 1),
        (0.1, 2.0, 0),
        (0.1, 2.0, 1),
    ]
    assert [len(group) for group in groups_of(cells)] == [6]


def test_identity_is_the_configuration():
    plan = CellConfig()
    assert plan.identity == CellConfig(member=MemberSettings(target=1)).identity
    changes = {"network.model": "gerum_cnn", "network.options": {"width": 3}, "images.data": "mnist", "training.epochs": 3}
    changes |= {"member.seed": 1, "member.beta": 0.5, "reading.count": 10, "training.spectral.ranks": "jiang"}
    identities = {with_field(plan, name, value).identity for name, value in changes.items()}
    assert len(identities | {plan.identity}) == len(changes) + 1
    groups = {with_field(plan, name, value).group for name, value in changes.items()}
    assert len(groups | {plan.group}) == len(changes) - 2 + 1  # what is the member's own groups with the others


def test_defaults_are_those_of_the_result_version():
    """Identities leave defaults out: raise the result version when a default changes, then this hash."""
    plan = asdict(CellConfig())
    plan["member"]["strength"] = plan["member"].pop("beta")  # the name that the first cells were kept under
    defaults = json.dumps([plan, asdict(PerturbationSpec("pgd", (0.1,)))], sort_keys=True)
    assert (RESULT_VERSION, hashlib.sha256(defaults.encode()).hexdigest()[:16]) == (2, "ae6cda878a3c91d6")


def test_cells_of_another_result_version_have_other_identities(monkeypatch):
    here = CellConfig().identity
    assert CellConfig().identity == here
    monkeypatch.setattr("eigencode.studies.cell.RESULT_VERSION", RESULT_VERSION + 1)
    assert CellConfig().identity != here


def test_a_field_of_one_perturbation_is_overridden():
    changed = overridden(load("gerum2022.fig2"), "reading.perturbations.pgd.steps=7 reading.perturbations.pgd.strengths=[0.2]")
    told = {each.kind: each for each in changed.blocks[0].plan.reading.perturbations}
    assert (told["pgd"].steps, told["pgd"].strengths) == (7, (0.2,))
    assert told["fgsm"] == load("gerum2022.fig2").blocks[0].plan.reading.perturbations[0]
    with pytest.raises(StudyError, match=r"--set: no perturbation is 'zca' here; there are fgsm, pgd\."):
        overridden(load("gerum2022.fig2"), "reading.perturbations.zca.count=3")
    assert overridden(load("jiang2020"), "reading.perturbations.layer_fgsm.count=9").cells()  # not all networks are attacked


def test_a_study_as_options_of_a_command_is_refused(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(to_yaml(load("demo")))
    with pytest.raises(SystemExit):
        cli.main(["study", "plan", "--config", str(tmp_path / "mine.yaml")])
    assert "--config: expected options of the command; got a study. Give its file in place of a name" in capsys.readouterr().err


def test_yaml_there_and_back(tmp_path):
    path = tmp_path / "mine.yaml"
    for given in (study(), load("jiang2020")):
        path.write_text(to_yaml(given))
        assert from_yaml(path) == given


def test_fields_are_overridden_in_every_block():
    changed = overridden(
        study(), "training.epochs=3 seeds=3 grid.member.target=1,2.5,3 images.data=mnist network.options.width=50"
    )
    (block,) = changed.blocks
    assert (block.plan.training.epochs, block.plan.images.data, block.plan.network.options) == (3, "mnist", {"width": 50})
    assert (block.seeds, block.grid["member.target"]) == ((0, 1, 2), (1, 2.5, 3))
    assert overridden(study(), "member.beta=0.3").blocks[0].grid == {"member.target": (1.0, 2.0)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("training.epoch=3", "--set: a study has no field 'epoch' here; there are epochs, batch_size"),
        ("training.epochs=many", "plan.training.epochs: expected a whole number; got many"),
        ("epochs", "--set takes field=value, such as training.epochs=3; got 'epochs'."),
        (
            "grid.member.targe=1",
            "--set: blocks[0].grid.member.targe: A study has no field 'targe' here. There are seed, learning_rate, target",
        ),
        ("grid.member.beta=foo", "member.beta: expected a number or layers and their numbers; got foo"),
        ("training.epochs=0", "`epochs` must be at least 1; got 0."),
        ("grid.training.epochs=2,0", "blocks[0].grid.training.epochs: `epochs` must be at least 1; got 0."),
        ("reading.perturbations.fgsm.relative_step=true", "fgsm: it has no `relative_step`; got True. Leave it out."),
        ("grid.training=3", "blocks[0].grid.training: expected fields and their values; got 3. Name each field."),
        ("grid.training.batch_size=null", "grid.training.batch_size: expected a value; got null. Leave it out for the default."),
        ("grid.network.model.x=1", "grid.network.model.x: A study has no field 'x' here. That value has no fields."),
        ("grid.network.options.width=3,x", "each value a whole number or a finite number; got {'width': 'x'}."),
        ("training.epochs=[1", "--set takes field=value"),
        ("training.epochs.x=3", "there is no field 'x' within a value"),
        ("'training.epochs=3", "no closing quotation"),
        ("'member.target={a: 1}'", "A study has one target and one beta for all penalised layers"),
        ("seeds=[4,1,4]", "seeds: 4 is duplicated."),
        *(
            (word, "`member.seed` would be replaced by the seeds of the block. Give `seeds`")
            for word in ("seed=3", "member.seed=3")
        ),
        ("grid.seed=1,2", "`member.seed` would be replaced by the seeds of the block. Give `seeds`"),
        ("grid.member.target=1,2,1", "member.target: 1 is duplicated"),
        ("member.beta=-1", "`beta` is the weight of a penalty and must be at least 0; got -1.0."),
    ],
)
def test_wrong_fields_are_refused(words, message):
    with pytest.raises(EigencodeError) as caught:
        overridden(study(), words)
    assert message in str(caught.value)


def test_wrong_files_are_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    with pytest.raises(StudyError, match="mine.yaml does not exist. Check the path."):
        from_yaml(path)
    for text, message in (
        ("name: mine\nblocks: [", "mine.yaml, line [23]: .* Compare with: eigencode study show demo"),
        ("\0", "is not a YAML file"),
        ("3", "holds no study"),
        (to_yaml(study()).replace("epochs: ", "epochs: 3\n      epochs: "), r"mine.yaml, line \d+: epochs is there twice"),
        (re.sub(r"epochs: \d+", "epochs: null", to_yaml(study())), r"blocks.plan.training.epochs: expected a value; got null"),
        (re.sub(r"grid:(\n    .*)*", "grid: null", to_yaml(study())), r"blocks.grid: expected a value; got null"),
        (re.sub(r"seeds:.*(\n  - .*)*", "seeds:", to_yaml(study())), r"blocks.seeds: expected a value; got null"),
        (
            to_yaml(study()).replace("- 2.0", "- .nan"),
            "`target` must be a finite number or a mapping, each value a finite number; got nan",
        ),
        (to_yaml(replace(study(), name="mine")).replace("name: mine", "name: ../mine"), "`name` names the folder of reports"),
        (to_yaml(study()).replace("train_count", "train_cuont"), "images.train_cuont: a study has no such field"),
        (
            to_yaml(study()).replace("kind: fgsm", "kind: fgms"),
            r"perturbation: `kind` must be one of gaussian, .*; got 'fgms'. Did you mean 'fgsm'",
        ),
        (
            to_yaml(study()).replace("- 2.0", "- two"),
            r"blocks\[0\]\.grid\.member\.target: .*expected a number or layers and their numbers; got two",
        ),
    ):
        path.write_text(text)
        with pytest.raises(StudyError, match=message):
            from_yaml(path)


def test_what_a_plan_refuses():
    with pytest.raises(StudyError, match="Images cannot be made for a network with `weights`"):
        CellConfig(network=NetworkSpec(weights="x.pt"), reading=Readout(perturbations=(PerturbationSpec("robust", (0.5,)),)))
    with pytest.raises(StudyError, match="`data` takes the place of images that are made"):
        PerturbationSpec("pgd", (0.1,), data="digits")
    with pytest.raises(StudyError, match="leave out `norm` and `step_size`"):
        PerturbationSpec("robust", (0.5,), norm="l2")


def test_a_grid_without_cells():
    for wrong in ({"grid": {"member.target": ()}}, {"seeds": ()}):
        with pytest.raises(StudyError, match="has no value: the grid has no cells"):
            Block(CellConfig(), **wrong)
    with pytest.raises(StudyError, match="mine has no cells. Give it at least one block"):
        replace(study(), blocks=()).cells()


@pytest.mark.parametrize(
    ("kind", "strength", "message"),
    [
        ("fgsm", -0.05, "fgsm: `strengths` must be in 0..1, the range of pixels; got -0.05"),
        ("pgd", 8.0, "pgd: `strengths` must be in 0..1, the range of pixels; got 8"),
        ("gaussian", -0.1, "gaussian: `strengths` must be at least 0; got -0.1"),
        ("pca", 0.0, "pca: `strengths` must be at least 1; got 0"),
    ],
)
def test_strengths_that_nothing_has(kind, strength, message):
    with pytest.raises(StudyError, match=message):
        PerturbationSpec(kind, (0.1 if kind != "pca" else 2.0, strength))


def test_one_strength_of_a_kind_read_in_two_ways():
    twice = (PerturbationSpec("pgd", (0.05, 0.1)), PerturbationSpec("pgd", (0.1,), steps=3))
    with pytest.raises(StudyError, match="reading: pgd is there twice with strength 0.1, and its results would be one"):
        Readout(perturbations=twice)


def test_what_was_changed_of_a_papers_study(tmp_path):
    """Also to what another scale has, and in fields of which the study does not say where they are from."""
    path, text = tmp_path / "mine.yaml", to_yaml(load("gerum2022.fig2", "paper"))
    path.write_text(text.replace("scale: paper", "scale: own"))
    assert from_yaml(path) == load("gerum2022.fig2", "paper")
    path.write_text(text.replace("epochs: 50", "epochs: 10").replace("weight_decay: 0.0", "weight_decay: 0.1"))
    changed = {row["field"]: row["here"] for row in settings_of(from_yaml(path)) if "changed here" in row["source"]}
    assert changed == {"training.epochs": "10", "training.weight_decay": "0.1"}
    assert not any("changed" in row["source"] for row in settings_of(replace(from_yaml(path), name="mine")))


def test_odd_files_are_no_traceback(tmp_path):
    path = tmp_path / "mine.yaml"
    for text in ("name: {{ name }}", "? [1, 2]\n: 3", "!!map foo", "a: !!map [b]", "[1]: 2"):
        path.write_text(text)
        with pytest.raises(StudyError, match="mine.yaml"):
            from_yaml(path)
    path.write_text(to_yaml(study()) + "more: &a {x: 1}\nother: {<<: *a, x: 2}\nlast: {<<: *a}\n")
    with pytest.raises(StudyError, match="a study has no such field|not expected|more"):
        from_yaml(path)


@pytest.mark.parametrize("name", PAPERS)
def test_every_source_is_marked(name):
    for field, source in paper(name).sources.items():
        assert re.search(r"(^|; )(stated|authors' code|chosen): ", source), field


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", PAPERS)
def test_shipped_studies_say_where_every_setting_is_from(name, scale):
    for figure in paper(name).figures:
        shipped = load(f"{name}.{figure}", scale)
        assert shipped.scale == scale
        cells = shipped.cells()
        defaults = CellConfig()
        for cell in cells[:: max(1, len(cells) // 5)]:
            for section in fields(CellConfig):
                for item in fields(getattr(cell, section.name)):
                    own = f"{section.name}.{item.name}"
                    told = getattr(getattr(cell, section.name), item.name)
                    if told != getattr(getattr(defaults, section.name), item.name) and own != "member.seed":
                        assert any(source.startswith(own) or own.startswith(source) for source in shipped.sources), own


def test_no_such_study():
    with pytest.raises(StudyError, match="No study is called 'jiang2021'"):
        load("jiang2021")
    with pytest.raises(StudyError, match="jiang2020 has no figure 'fig1'. It has fig2, fig3"):
        load("jiang2020.fig1")
    with pytest.raises(StudyError, match="`scale` must be one of"):
        load("jiang2020", "big")


def test_shrunk_keeps_the_shape_of_a_study():
    small = smoke_version(load("jiang2020", "paper"))
    assert small.scale == "smoke"
    assert {cell.images.data for cell in small.cells()} == {"digits"}
    assert len(small.cells()) < 20
    assert Settings().epochs > max(cell.training.epochs for cell in small.cells())
    own = Study("x", "x", (Block(CellConfig(network=NetworkSpec("gerum_cnn")), {}, (3,)),))
    assert smoke_version(own).cells()[0].network.model == "gerum_cnn"


def test_a_number_of_seeds_in_a_file(tmp_path):
    text = to_yaml(replace(study(), blocks=(Block(CellConfig(), {}, (0, 1, 2)),)))
    (tmp_path / "mine.yaml").write_text(text.replace("seeds:\n  - 0\n  - 1\n  - 2\n", "seeds: 3\n"))
    assert "seeds: 3" in (tmp_path / "mine.yaml").read_text()
    assert from_yaml(tmp_path / "mine.yaml").blocks[0].seeds == (0, 1, 2)


@pytest.mark.parametrize(
    ("model", "trained", "read", "renamed"),
    [
        ("gerum_cnn", "penultimate", "penultimate", (False, False)),
        ("torchvision:densenet121", "", "conv1, penultimate", (True, False)),
        ("file:net.py:make", "conv1,head", "conv1", (True, True)),
        ("timm:resnet10t", "layer1", "layer2", (False, False)),
    ],
)
def test_cells_whose_head_is_read_elsewhere_now_have_a_name_of_their_own(model, trained, read, renamed, monkeypatch):
    def names():
        training = Settings(spectral=SpectralSettings(layers=trained))
        plan = CellConfig(NetworkSpec(model), training=training, reading=Readout(layers=read))
        return plan.identity, plan.network_identity

    now = names()
    monkeypatch.setattr(CellConfig, "_renamed", lambda *_: [])
    assert tuple(one != other for one, other in zip(now, names(), strict=True)) == renamed


def test_cells_of_folders_of_images_have_a_name_of_their_own(monkeypatch):
    now = CellConfig(images=ImagesSpec("image_folder:photos")).identity
    monkeypatch.setattr(CellConfig, "_renamed", lambda *_: [])
    assert CellConfig(images=ImagesSpec("image_folder:photos")).identity != now
