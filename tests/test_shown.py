"""What results show of themselves, printed and at the end of a notebook's cell."""

import re
import struct

import pytest
import torch
from matplotlib.figure import Figure

import eigencode as ec
from eigencode._shown import Shown, short
from eigencode.attacks import FGSM
from eigencode.errors import ActivationError
from eigencode.reports import plot_along_layers, plot_spectra
from eigencode.spectra import CrossValidatedSpectrum
from eigencode.spectra.intervals import Interval
from eigencode.training import MemberSettings, Settings, SpectralSettings, train

LONGEST = 300
"""Characters of the line of a result."""


@pytest.fixture(scope="module")
def measured():
    images = ec.datasets.load("digits", count=100)
    model = ec.models.load("gerum_shallow_mlp", image_shape=images.shape)
    return ec.measure(model, images, layers="all"), ec.perturbed_spectra(
        model, images, FGSM(), strengths=[0.1], layers=["tanh1"], half_samples=0
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.81803, "0.818"),
        (1234.56, "1235"),
        (2.5e7, "2.5e+07"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        ((6, 50), "6-50"),
        (12345678, "12345678"),
        (Interval(1.02, 1.0, 1.05), "1.02 [1, 1.05]"),
        ("a\nb\u202e", r"a\nb\u202e"),
    ],
)
def test_values_in_a_few_characters(value, text):
    assert short(value) == text


def test_a_result_is_one_line_without_its_eigenvalues(measured, generator):
    spectrum = measured[0]["tanh1"]
    signal = torch.randn(100, 30, generator=generator) / torch.arange(1, 31) ** 0.5
    repeats = signal + 0.3 * torch.randn(2, 100, 30, generator=generator)
    found = ec.signal_spectrum(repeats)
    results = [spectrum, spectrum.fit("jiang"), spectrum.population_spectrum(), spectrum.population_dimension()]
    results += [found, found.alpha, ec.cvpca(repeats), measured[1].conditions[1], measured[1].curve.points[0]]
    for result in results:
        assert isinstance(result, Shown)
        line = repr(result)
        assert line.startswith(f"{type(result).__name__}(")
        assert "\n" not in line
        assert len(line) < LONGEST
        assert "tensor" not in line
        table = result._repr_html_()
        assert table.count("<tr>") == table.count('<th scope="row">') == line.count("=")
    assert f"alpha={found.alpha.value:.3g} [{found.alpha.low:.3g}, {found.alpha.high:.3g}]" in repr(found)
    assert f"units=2000, rank={spectrum.numerical_rank}, dimension_of_images={spectrum.dimension:.3g}" in repr(spectrum)


def test_a_measurement_is_a_row_for_each_layer_and_says_what_its_numbers_are_of(measured):
    first, *rows = repr(measured[0]).splitlines()
    assert first.startswith("Measurement: 3 layers, accuracy ")
    assert "those of the images; summary() has those of the population" in first
    assert rows[0].split() == ["layer", "images", "units", "rank", "dimension", "alpha", "6-50"]
    assert [row.split()[0] for row in rows[1:]] == list(measured[0])
    assert rows[2].split()[-1] == f"{measured[0]['tanh1'].fit('gerum').alpha:.3g}"
    assert len(rows[3].split()) == 5  # ten units have no exponent over ranks 6-50
    assert re.findall(r"<td>(\w+)</td>\s*<td>100</td>", measured[0]._repr_html_()) == list(measured[0])
    assert repr(type(measured[0])()).startswith("Measurement: 0 layers. ")


@pytest.mark.parametrize("values", [[0.0] * 60, [1.0] + [0.0] * 59, [-1e-3] + [1.0 / rank for rank in range(1, 60)]])
def test_spectra_without_an_exponent_are_shown(measured, values):
    signed = min(values) < 0
    method = "cross-validated" if signed else "covariance"
    found = type(measured[0])()
    found["a"] = ec.Eigenspectrum(torch.tensor(values, dtype=torch.float64), 100, 60, 100, method)
    assert repr(found).splitlines()[2].split()[0] == "a"
    assert repr(found["a"]).startswith("Eigenspectrum(")
    still = CrossValidatedSpectrum(torch.zeros(5).double(), torch.zeros(1, 5).double(), 0.0, 10, 5)
    assert "signal_fraction" not in repr(still)


def test_conditions_and_curves_are_rows(measured):
    first, _, *rows = repr(measured[1]).splitlines()
    assert first.startswith("PerturbedSpectra: 2 conditions. ")
    assert [row.split()[0] for row in rows] == ["unperturbed", "fgsm"]
    assert len(repr(measured[1].curve).splitlines()) == 2 + len(measured[1].curve.points)


def test_a_training_is_a_row_for_each_network():
    images = ec.datasets.load("digits", split="train", count=200)
    networks = [ec.models.load("gerum_shallow_mlp", image_shape=images.shape, seed=seed) for seed in (0, 1)]
    settings = Settings(epochs=2, batch_size=100, spectral=SpectralSettings(ranks="jiang"))
    found = train(networks, images, settings=settings, cells=[MemberSettings(seed=seed) for seed in (0, 1)])
    first, names, *rows = repr(found).splitlines()
    assert first == "Training: 2 networks, 2 epochs; their last epoch:"
    last = found.history[found.history["epoch"] == 2]
    shown = [dict(zip(names.split(), row.split(), strict=False)) for row in rows]
    assert [(row["member"], row["loss"]) for row in shown] == [
        ("0", short(last["loss"].iloc[0])),
        ("1", short(last["loss"].iloc[1])),
    ]


def test_names_are_escaped(measured):
    found = type(measured[0])()
    found["<b>\x1b"] = measured[0]["tanh1"]
    assert "&lt;b&gt;\\x1b" in found._repr_html_()
    assert "\x1b" not in repr(found) + found._repr_html_()


def size(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def test_notebooks_show_figures_though_pyplot_is_not_imported(measured):
    spectra = measured[0]
    for shown in (spectra.plot(ranks="2-10"), spectra["tanh1"].plot(), plot_spectra(spectra, ranks="2-10")):
        width, height = size(shown._repr_png_())
        assert min(width, height) >= 400
    figure = plot_along_layers(spectra, ranks="2-10")
    size(figure._repr_png_())
    assert figure.axes[0].lines[0].get_ydata().tolist() == spectra.summary("2-10")["alpha"].tolist()


def test_a_plot_of_all_layers(measured):
    ax = Figure().add_subplot()
    assert measured[0].plot(ax, ranks="2-10") is ax
    assert not hasattr(ax, "_repr_png_")  # whoever made the figure shows it
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [f"{layer}, α = {spectrum.fit('2-10').alpha:.2f}" for layer, spectrum in measured[0].items()]
    assert len(ax.lines) == 2 * len(labels)
    assert len(measured[0].plot(ranks="2-50").lines) == 2 * len(labels) - 1  # ten units have no rank 50
    with pytest.raises(ActivationError, match="there are no layers to draw"):
        type(measured[0])().plot()
