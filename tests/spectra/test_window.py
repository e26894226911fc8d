"""One window is one set of ranks and weights, however it is written and whoever reads it."""

import dataclasses

import pytest
import torch
from torch import nn

import eigencode as ec
from eigencode.datasets import ImageSet
from eigencode.errors import SpectrumError
from eigencode.penalties import SpectralPenalty
from eigencode.spectra import WINDOWS, Eigenspectrum, Window, fit_power_law
from eigencode.spectra.window import as_configured
from eigencode.studies import Local, Store, StudyResults, load, overridden, run_study, smoke_version
from eigencode.studies.cell import RESULT_VERSION, _hash, _told, with_field
from eigencode.training import MemberSettings, Settings, SpectralSettings, train

SIDE = 23
UNITS, IMAGES = SIDE**2, 700
FLOAT32 = 1e-4
"""Of an exponent: the forward pass of a float32 network."""

WRITTEN = [*WINDOWS, "2-100", "2-100, weights inverse_rank"]


@pytest.fixture(scope="module")
def bent():
    """Images whose spectrum is bent, so that every window and every weighting gives an exponent of its own."""
    ranks = torch.arange(1, UNITS + 1, dtype=torch.float64)
    scale = (1 / ranks**0.5 / (1 + (ranks / 40) ** 1.5)).sqrt()
    pixels = torch.randn(IMAGES, UNITS, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * scale
    pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min())
    return ImageSet(pixels.float().reshape(IMAGES, 1, SIDE, SIDE), torch.arange(IMAGES) % 2, "bent")


@pytest.mark.parametrize(
    ("told", "window"),
    [
        ("stringer", Window(11, 500, "inverse_rank")),
        (Window(2, 8), Window(2, 8)),
        ((6, 50), Window(6, 50)),
        (range(6, 13, 6), Window(6, 12)),
        ("6-50", Window(6, 50)),
        (" [6, 50] ", Window(6, 50)),
        ("6–50", Window(6, 50)),
        ("11-500, weights inverse_rank", Window(11, 500, "inverse_rank")),
        ("11-500,weights equal", Window(11, 500)),
    ],
)
def test_one_window_however_it_is_written(told, window):
    assert Window.of(told) == window
    assert Window.of(str(window)) == window
    assert Window.of(told, "inverse_rank") == Window(*window.ranks, "inverse_rank")


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ("gerun", "`ranks` must be first and last rank, such as 6-50, or one of jiang, gerum, schaeffer, schaeffer_output, alpha_req, stringer; "
         "got 'gerun'. Name one of these."),
        ("", "`ranks` must be first and last rank, such as 6-50, or one of jiang, gerum, schaeffer, schaeffer_output, alpha_req, stringer; "
         "got ''. Name one of these."),
        ((5, 6), "`ranks` must start at 1 or above and hold at least 3 ranks; got (5, 6). Widen the window, from the lower rank to "
         "the higher."),
        ("9-2", "`ranks` must start at 1 or above and hold at least 3 ranks; got (9, 2). Widen the window, from the lower rank to "
         "the higher."),
        ((1.5, 6), "`ranks` must be two whole numbers, first and last rank; got (1.5, 6). Pass for example (6, 50)."),
        ((1, 2, 3), "`ranks` must be two whole numbers, first and last rank; got (1, 2, 3). Pass for example (6, 50)."),
        (None, "Window.of: `ranks` must be of class Window or a text or a list, each part a finite number; got None."),
    ],
)  # fmt: skip
def test_what_is_no_window(told, text):
    with pytest.raises(SpectrumError) as caught:
        Window.of(told)
    assert str(caught.value) == text


def test_weights_are_those_there_are():
    with pytest.raises(SpectrumError, match=r"Window.of: `weights` must be one of equal, inverse_rank or None; got 'heavy'\."):
        Window.of((1, 5), "heavy")


def test_a_window_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        WINDOWS["gerum"].first = 1


def test_configurations_hold_two_ranks_as_numbers():
    assert [as_configured(told) for told in ("2-20", (2, 20), "gerum", "2-20, weights inverse_rank")] == [
        (2, 20),
        (2, 20),
        "gerum",
        "2-20, weights inverse_rank",
    ]
    assert SpectralSettings(ranks="2-20") == SpectralSettings(ranks=(2, 20))


@pytest.mark.parametrize("ranks", WRITTEN)
def test_every_window_means_the_same_to_all_who_fit(ranks, bent):
    """Plain fit, population exponent, penalty, measure, and training's own look at held-out images."""
    code = bent.inputs.flatten(1).double()
    plain = Eigenspectrum.from_activations(code, half_samples=0)
    fit, window = plain.fit(ranks), Window.of(ranks)
    assert (fit.ranks, fit.weights) == (window.ranks, window.weights)

    penalty = SpectralPenalty(target=0.0, ranks=ranks)
    assert float(penalty(code)) == pytest.approx(fit.alpha, rel=1e-6)
    assert float(penalty.last.alpha) == pytest.approx(fit.alpha, rel=1e-6)

    population = plain.population_spectrum()
    values = population.eigenvalues[: window.last]
    assert population.exponent(ranks) == population.exponent(window) == pytest.approx(fit_power_law(values, ranks=window).alpha)

    network = nn.Sequential(nn.Flatten(), nn.Linear(UNITS, UNITS), nn.Tanh(), nn.Linear(UNITS, 2))
    settings = Settings(epochs=1, batch_size=350, spectral=SpectralSettings(layers="2", ranks=ranks), held_out_count=IMAGES)
    run = train(network, bent, settings=settings, cells=MemberSettings(learning_rate=1e-6), held_out=bent)
    measured = ec.measure(run.models[0], bent, layers="2", half_samples=0)
    row = measured.summary(ranks).iloc[0]
    assert (row["first_rank"], row["last_rank"], row["weights"]) == (*window.ranks, window.weights)
    assert run.history["held_out_alpha"].iloc[-1] == pytest.approx(row["alpha"], rel=FLOAT32)


@pytest.mark.parametrize("ranks", ["jiang", "2-20", "2-20, weights inverse_rank"])
def test_studies_read_what_measure_reads(ranks, tmp_path):
    words = f"seeds=1 training.epochs=1 grid.member.beta=0 reading.perturbations=[] 'reading.ranks={ranks}'"
    study = overridden(smoke_version(load("demo")), words)
    store = Store(tmp_path / "s.sqlite")
    assert not run_study(study, store, Local()).failed
    found = StudyResults(store, study.cells())
    kept = next(row for row in store.spectra().to_dict("records") if row["perturbation"] == "unperturbed")
    alpha = found.select("alpha", perturbation="unperturbed", layer=kept["layer"])["value"].item()
    assert alpha == pytest.approx(ec.fit_power_law(kept["eigenvalues"].copy(), ranks=ranks).alpha, rel=1e-6)
    assert found.studied == str(Window.of(ranks))
    assert found.over(ranks) is found  # as it was read


def test_cells_trained_over_a_weighted_window_have_a_name_of_their_own():
    """Their weights were left out of training before; what is only read over such a window was right."""

    def name_of(field, ranks):
        return with_field(load("demo").blocks[0].plan, field, ranks).identity

    plain = load("demo").blocks[0].plan
    assert name_of("training.spectral.ranks", "stringer") != _hash(
        [RESULT_VERSION, _told(with_field(plain, "training.spectral.ranks", "stringer"))]
    )
    for field, ranks in (
        ("training.spectral.ranks", "gerum"),
        ("training.spectral.ranks", (2, 9)),
        ("reading.ranks", "stringer"),
    ):
        assert name_of(field, ranks) == _hash([RESULT_VERSION, _told(with_field(plain, field, ranks))])
