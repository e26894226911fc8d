"""Old names are read for one version more, with a note, and do what the new ones do."""

import pytest

from command_line import run
from eigencode.errors import RenamedWarning, StudyError
from eigencode.studies.cell import CellConfig, full_name
from eigencode.studies.definition import Block, Study
from eigencode.studies.yaml import overridden, read_study

SMALL = ["train", "--count", 60, "--epochs", 1, "--batch_size", 30]
OLD = [
    "--penalty.ranks",
    "2-10",
    "--penalty.strength=0,0.1",
    "--penalty.target",
    2,
    "--jacobian.strength",
    0.1,
    "--jacobian.squared",
]
NEW = ["--spectral.ranks", "2-10", "--beta=0,0.1", "--target", 2, "--jacobian", 0.1, "--jacobian_squared"]


def notes(told):
    return [line for line in told.splitlines() if line.startswith("Note: ")]


def test_old_options_do_what_the_new_ones_do(capsys):
    status, old, said = run(capsys, *SMALL, *OLD)
    assert status == 0
    assert notes(said) == [
        f"Note: --{before} is now --{now}; the old name will be removed in the next version."
        for before, now in (
            ("penalty.ranks", "spectral.ranks"),
            ("penalty.strength", "beta"),
            ("penalty.target", "target"),
            ("jacobian.strength", "jacobian"),
            ("jacobian.squared", "jacobian_squared"),
        )
    ]
    status, new, said = run(capsys, *SMALL, *NEW)
    assert (status, notes(said)) == (0, [])
    assert new == old


def test_files_of_old_options(capsys, tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text("count: 60\nepochs: 1\nbatch_size: 30\npenalty: {ranks: 2-10, strength: '0,0.1', target: 2}\n")
    status, old, said = run(capsys, "train", "--config", path, *OLD[-3:])
    assert status == 0
    assert "Note: penalty.strength is now beta; the old name will be removed in the next version." in notes(said)
    assert run(capsys, *SMALL, *NEW) == (0, old, "")
    path.write_text("penalty: {strength: 1}\nbeta: 2\n")
    status, _, said = run(capsys, "train", f"--config={path}")
    assert (status, said.splitlines()[-1]) == (
        2,
        "eigencode: --config: penalty.strength is now beta, which is there too. Leave out penalty.strength.",
    )


def test_a_file_whose_name_is_part_of_the_option(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c").write_text("count: 60\nepochs: 1\nbatch_size: 30\npenalty: {ranks: 2-10, strength: 0.1}\n")
    status, found, _ = run(capsys, "train", "--config=c")
    assert (status, found) == run(capsys, *SMALL, "--spectral.ranks", "2-10", "--beta", 0.1)[:2]


@pytest.mark.parametrize("given", ["3", "[1]", "null"])
def test_a_group_that_is_none_beside_an_old_one(capsys, tmp_path, given):
    (tmp_path / "o.yaml").write_text(f"spectral: {given}\npenalty: {{ranks: 2-10}}\n")
    status, _, said = run(capsys, "train", "--config", tmp_path / "o.yaml")
    assert status == 2
    assert "--config: spectral stands for several options; got" in said.splitlines()[-1]


def test_a_note_is_said_once(capsys):
    _, _, said = run(capsys, "study", "plan", "gerum2022", "--smoke", "--set", "member.strength=0.1")
    assert len(notes(said)) == 1


def test_old_names_are_not_offered(capsys):
    status, told, _ = run(capsys, "train", "--help")
    assert status == 0
    assert "--beta" in told
    assert "--penalty" not in told


def test_a_file_of_a_study(tmp_path):
    path = tmp_path / "mine.yaml"
    text = (
        "name: mine\ntitle: t\nblocks:\n- plan: {member: {strength: 0.1}}\n  grid: {target: [1, 2], member.covariance: [0, 1]}\n"
    )
    path.write_text(text)
    with pytest.warns(RenamedWarning, match="member.strength is now member.beta"):
        cells = read_study(path).cells()
    assert {cell.member.beta for cell in cells} == {0.1}
    assert {(cell.member.target, cell.member.covariance) for cell in cells} == {(1, 0), (1, 1), (2, 0), (2, 1)}
    path.write_text(text.replace("member.covariance", "member.target"))
    with pytest.raises(StudyError, match=r"member.target and .*target are one field|target and member.target are one field"):
        read_study(path)


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("beta", "member.beta"),
        ("learning_rate", "member.learning_rate"),
        ("jacobian", "member.jacobian"),
        ("jacobian.kind", "training.jacobian.kind"),
        ("jacobian_kind", "training.jacobian.kind"),
        ("spectral.ranks", "training.spectral.ranks"),
        ("data", "images.data"),
        ("reading.layers", "reading.layers"),
        ("network.options.width", "network.options.width"),
        ("nosuch", "nosuch"),
    ],
)
def test_short_names_of_fields(short, full):
    assert full_name(short) == full


def test_set_takes_the_names_of_options_and_of_results():
    study = Study("mine", "t", (Block(CellConfig(), {"member.target": (1.0, 2.0)}),))
    changed = overridden(study, "beta=0.3 epochs=7 spectral.ranks=2-9 grid.target=3,4 data=mnist jacobian_kind=projected")
    assert changed == overridden(
        study,
        "member.beta=0.3 training.epochs=7 training.spectral.ranks=2-9 grid.member.target=3,4 images.data=mnist "
        "training.jacobian.kind=projected",
    )
    assert {(cell.member.beta, cell.member.target, cell.training.epochs) for cell in changed.cells()} == {
        (0.3, 3, 7),
        (0.3, 4, 7),
    }
