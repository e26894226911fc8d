"""What is written once is read alike, wherever it stands."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from command_line import run
from eigencode import measure, models
from eigencode._grammar import MOST_NUMBERS, names_in, number_in, numbers_in
from eigencode._readers.yaml import dump_yaml, load_yaml
from eigencode.datasets import load
from eigencode.errors import ActivationError, EigencodeError, StudyError, TrainingError
from eigencode.papers.registry import load as shipped
from eigencode.studies import Readout, Store, overridden, run_study
from eigencode.studies.definition import smoke_version
from eigencode.studies.execution.engines import Local
from eigencode.training import SpectralSettings


@pytest.mark.parametrize(
    ("text", "names"),
    [("a", ["a"]), (" a , b*", ["a", "b*"]), ("b,a,b", ["b", "a"]), ("", []), ("  ", []), ("a.0,a#2", ["a.0", "a#2"])],
)
def test_names(text, names):
    assert names_in(text) == names


@pytest.mark.parametrize("text", ["a,", ",a", "a,,b", ","])
def test_a_name_that_is_missing(text):
    with pytest.raises(ValueError, match="a name is missing"):
        names_in(text)


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        ("0.5", [0.5]),
        (0.5, [0.5]),
        ([0, "1/4", "1:2:1"], [0, 0.25, 1, 2]),
        ("0,2/255, 4/255", [0, 2 / 255, 4 / 255]),
        ("0:0.3:0.1", [0, 0.1, 0.2, 0.3]),
        ("0:1:0.3,5", [0, 0.3, 0.6, 0.9, 5]),
        ("-1e-3", [-0.001]),
    ],
)
def test_numbers(given, numbers):
    assert numbers_in(given) == numbers


@pytest.mark.parametrize(
    "text", ["", "a", "1,,2", "1/0", "0:1:0", "1:0:1", "0:1", "0:1:1:1", f"0:{MOST_NUMBERS}:1", "1e99999", "nan", "inf", "1e400"]
)
def test_what_is_no_number(text):
    with pytest.raises(ValueError):  # noqa: PT011 - each caller words it
        numbers_in(text)


def test_numbers_of_yaml_are_decimal_and_fractions_numbers():
    text = "[8/255, 1:30, 010, 0x10, 1e-3, .5, 1_000, -2, '1/2', 1/0, 2020/01/02, 2-10]"
    read = [8 / 255, "1:30", "010", "0x10", 1e-3, 0.5, 1000, -2, "1/2", "1/0", "2020/01/02", "2-10"]
    assert load_yaml(text) == read
    assert load_yaml(dump_yaml(read)) == read


@given(st.text("aefnoNyY_./-12:", min_size=1, max_size=5) | st.sampled_from(["Null", "yes", "OFF", "true", "inf", ".inf", "~"]))
def test_words_are_what_yaml_takes_them_for(text):
    try:
        (expected,) = load_yaml(f"- {text}")
    except yaml.YAMLError:
        return
    found = load_yaml(text)
    assert (type(found), str(found)) == (type(expected), str(expected))


@pytest.mark.parametrize("value", ["1/2", "010", "1e-3", "1:30", 0.5, 1e-7, 3, True, None, "yes", float("inf")])
def test_what_is_dumped_is_read(value):
    assert load_yaml(dump_yaml({"a": value})) == {"a": value}
    assert yaml.safe_load(dump_yaml({"a": "text"})) == {"a": "text"}


@pytest.mark.parametrize("written", ["tanh1,output", "tanh1, output", ["tanh1", "output"]])
def test_layers_are_written_alike_in_python(written):
    images = load("digits", split="test", count=50)
    network = models.load("gerum_shallow_mlp", image_shape=images.shape)
    found = measure(network, images, layers=written, half_samples=0)
    assert sorted(found) == ["output", "tanh1"]


def test_layers_are_written_alike_in_studies(tmp_path):
    study = smoke_version(shipped("demo"))
    words = "reading.layers='tanh1, output' training.epochs=1 seeds=1 grid.member.target=1 grid.member.beta=0"
    spaced, plain = overridden(study, words), overridden(study, words.replace(", ", ","))
    assert [plan.identity for plan in spaced.cells()] == [plan.identity for plan in plain.cells()]
    store = Store(tmp_path / "store.sqlite")
    assert not run_study(spaced, store, Local()).failed
    assert set(store.spectra()["layer"]) == {"tanh1", "output"}


def test_settings_hold_names_as_they_are_read():
    assert SpectralSettings(layers="tanh1, output").layers == Readout(layers=" tanh1 ,output").layers == "tanh1,output"
    assert SpectralSettings(layers=" ").layers == ""
    for make, error in ((SpectralSettings, TrainingError), (Readout, StudyError)):
        with pytest.raises(error, match="`layers`: a name is missing next to a comma; got 'a,,b'"):
            make(layers="a,,b")
    with pytest.raises(StudyError, match="`layers` names none"):
        Readout(layers="")
    images = load("digits", split="test", count=20)
    network = models.load("gerum_shallow_mlp", image_shape=images.shape)
    with pytest.raises(ActivationError, match="a name is missing"):
        measure(network, images, layers="tanh1,")


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        ("grid.member.target=1/2,1", (0.5, 1)),
        ("grid.member.target=0.5:1.5:0.5", (0.5, 1, 1.5)),
        ("grid.member.target=1/4", (0.25,)),
    ],
)
def test_numbers_of_a_study_are_those_of_options(words, targets):
    assert overridden(shipped("demo"), words).blocks[0].grid["member.target"] == targets


def test_single_numbers_and_lists_of_a_study():
    changed = overridden(
        shipped("demo"),
        "training.adversarial.epsilon=8/255 reading.perturbations.pgd.strengths=0:0.1:0.05 grid.training.epochs=1:3:1",
    )
    block = changed.blocks[0]
    assert block.plan.training.adversarial.epsilon == number_in("8/255")
    assert [each.strengths for each in block.plan.reading.perturbations if each.kind == "pgd"] == [(0.0, 0.05, 0.1)]
    assert block.grid["training.epochs"] == (1, 2, 3)
    for text, ranks in (
        ("jiang", "jiang"),
        ("3-9", (3, 9)),
        ("[3,9]", (3, 9)),
        ("'3-9, weights inverse_rank'", "3-9, weights inverse_rank"),
    ):
        assert overridden(shipped("demo"), f"reading.ranks={text}").blocks[0].plan.reading.ranks == ranks


@pytest.mark.parametrize(
    "words", ["member.target=1:30", "grid.member.target=1,1:30", "training.epochs=0x10", "training.batch_size=0b11"]
)
def test_other_notations_of_a_study_are_refused(words):
    with pytest.raises(EigencodeError, match=r"expected a (decimal|whole) number; got (1:30|0x10|0b11)"):
        overridden(shipped("demo"), words)


def test_options_take_fractions(capsys, tmp_path):
    (tmp_path / "options.yaml").write_text("adversarial:\n  epsilon: 8/255\n  step_size: 1/255\n")
    words = [
        "train",
        "--config",
        str(tmp_path / "options.yaml"),
        "--adversarial.step-size",
        "2/255",
        "--clip=1/2",
        "--print_config",
    ]
    status, out, err = run(capsys, *words)
    assert status == 0, err
    read = load_yaml(out)
    assert (read["adversarial"]["epsilon"], read["adversarial"]["step_size"], read["clip"]) == (8 / 255, 2 / 255, 0.5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["attack", "--step_size", "1:30"], "--step_size: expected a decimal number; got 1:30."),
        (["attack", "--step_size=0x10"], "--step_size: expected a decimal number; got 0x10."),
        (["measure", "--count", "1:30"], "--count: expected a decimal number; got 1:30."),
        (["train", "--adversarial.epsilon", "1:30"], "--adversarial.epsilon: expected a decimal number; got 1:30."),
        (["train", "--adversarial.epsilon", "1/0"], "--adversarial.epsilon: expected a number; got 1/0."),
        (
            ["attack", "--layers", "a,,b", "--model", "gerum_cnn"],
            "--layers must be a name, or several separated by commas; got 'a,,b'.",
        ),
        (["train", "--robustness.attacks", ","], "--robustness.attacks must be a name, or several separated by commas; got ','."),
    ],
)
def test_options_that_are_written_otherwise(capsys, words, said):
    status, _, err = run(capsys, *words)
    assert status == 2
    assert said in err


def test_a_file_of_options_that_is_written_otherwise(capsys, tmp_path):
    (tmp_path / "options.yaml").write_text("step_size: 1:30\n")
    status, _, err = run(capsys, "attack", "--config", tmp_path / "options.yaml")
    assert status == 2
    assert "--step_size: expected a decimal number; got 1:30." in err
