"""Numbers and sentences that a changed line would change, one by one."""

import numpy as np
import pytest
import torch

import eigencode as ec
from eigencode.errors import DataError, SpectrumError
from eigencode.spectra import cvpca, fit_power_law, load_spectra, save_spectra
from eigencode.spectra.leading import Samples, above_floor, dense
from eigencode.spectra.plotting import plot_spectrum
from eigencode.spectra.storage import Code, Form, Memory, exact_form, sketch_dimension
from eigencode.spectra.window import WINDOWS, Window


@pytest.fixture
def spectrum(generator):
    code = torch.randn(600, 80, generator=generator, dtype=torch.float64) * torch.arange(1, 81, dtype=torch.float64) ** -0.5
    return ec.Eigenspectrum.from_activations(code)


@pytest.mark.parametrize(("n_samples", "n_features"), [(30, 12), (12, 30)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dense_eigenpairs_are_those_of_numpy(n_samples, n_features, dtype, generator):
    rows = torch.randn(2, n_samples, n_features, generator=generator, dtype=dtype) + 5
    found = dense(rows, 8, Samples(n_samples))
    for member in range(2):
        centred = rows[member].double().numpy()
        centred = centred - centred.mean(axis=0)
        values, vectors = np.linalg.eigh(centred.T @ centred / (n_samples - 1))
        assert found.eigenvalues.dtype == torch.float64
        assert np.allclose(found.eigenvalues[member].numpy(), values[::-1][:8], rtol=1e-5 if dtype == torch.float32 else 1e-10)
        assert found.vectors.dtype == found.projections.dtype == dtype
        own = found.vectors[member].double().numpy()
        agreement = np.abs((own * vectors[:, ::-1][:, :8].T).sum(axis=1))
        assert np.allclose(agreement, 1, atol=1e-4)
        assert np.allclose(found.projections[member].double().numpy(), own @ centred.T, atol=1e-4)


def test_nothing_at_the_floor_is_above_it():
    zero = torch.zeros(1, 5, 3, dtype=torch.float64)
    assert not above_floor(torch.zeros(1, 3, dtype=torch.float64), zero, total=5).any()


def test_windows_are_tried_over_all_decades(spectrum):
    table = spectrum.window_sensitivity()
    assert sorted(set(table["first"])) == [1, 2, 5, 10, 20, 50]
    assert sorted(set(table["last"])) == [5, 10, 20, 50, 80]
    assert (table["last"] - table["first"] + 1).min() >= 3
    short = ec.spectra.window_sensitivity(spectrum.eigenvalues, first=[1, 2, 3], last=[3, 4])
    assert sorted(zip(short["first"], short["last"], strict=True)) == [(1, 3), (1, 4), (2, 4)]


def test_what_is_said_by_default(spectrum):
    assert spectrum.fit() == spectrum.fit("gerum") == spectrum.fit((6, 50))
    assert (spectrum.error_bound, spectrum.name, ec.SpectrumAccumulator().name) == (0.0, "activations", "activations")
    bare = ec.Eigenspectrum(torch.tensor([2.0, 1.0]), 5, 2, 5, "covariance")
    assert (bare.error_bound, bare.scale, bare.half_counts, bare.dtype) == (0.0, 0.0, (), "float64")
    assert all(window.source for window in WINDOWS.values())
    with pytest.raises(SpectrumError, match="Window: `first` must be at most"):
        Window(10**20, 10**20 + 8)


def test_a_line_is_followed_in_double_precision(spectrum):
    fit = spectrum.fit("gerum")
    for rank in (1, 7, 50.5):
        assert fit.predict(rank) == pytest.approx(np.exp(fit.intercept) * rank**-fit.alpha, rel=1e-14)


def test_half_samples_of_cross_validated_spectra_may_be_negative():
    halves = torch.tensor([[3.0, -0.5, 0.1], [2.0, 0.2, -0.1]])
    made = {"n_samples": 9, "n_features": 3, "n_images": 9, "half_samples": halves, "half_counts": (4, 4)}
    ec.Eigenspectrum(torch.tensor([3.0, 0.1, -0.2]), method="cross-validated", **made)
    with pytest.raises(SpectrumError, match="half-sample"):
        ec.Eigenspectrum(torch.tensor([3.0, 0.1, 0.0]), method="covariance", **made)


@pytest.mark.parametrize("shape", [(20, 8), (8, 20)])
def test_a_fit_of_a_recording_says_what_it_was_made_of(shape, generator):
    signal = torch.randn(*shape, generator=generator, dtype=torch.float64)
    responses = signal + 0.01 * torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    found = cvpca(responses, name="rec")
    fit = found.fit((1, 5))
    assert (found.name, fit.n_samples, fit.n_features, fit.method) == ("rec", *shape, "cross-validated")
    with pytest.raises(SpectrumError, match="^rec: "):
        found.fit((1, 500))
    centred = (signal - signal.mean(dim=0)).numpy()
    expected = np.linalg.svd(centred, compute_uv=False) ** 2 / (shape[0] - 1)
    assert np.allclose(found.eigenvalues[:5].numpy(), expected[:5], rtol=0.02)


@pytest.mark.parametrize("n_features", [2.5, 0, float("inf"), float("nan"), -3, None])
def test_dimensions_are_of_whole_numbers_of_units(n_features):
    with pytest.raises(SpectrumError, match="`n_features` must be"):
        ec.spectra.power_law_dimension(1.0, n_features, form="sum")


def test_a_file_of_something_else_is_named_with_the_reason(tmp_path):
    np.savez(tmp_path / "a.npz", other=np.ones(3))
    with pytest.raises(DataError, match=r"not a file of eigenspectra written by eigencode \(KeyError: "):
        load_spectra(tmp_path / "a.npz")


def test_layers_are_read_back_from_tables_with_their_names(spectrum, tmp_path):
    from dataclasses import replace

    save_spectra({"7": replace(spectrum, name="7"), "conv": replace(spectrum, name="conv")}, tmp_path / "a.parquet")
    assert list(load_spectra(tmp_path / "a.parquet")) == ["7", "conv"]


class TestMemory:
    """The bytes that forms of keeping a code take, by the arithmetic of ``Form``."""

    def test_forms(self):
        code = Code(100, 10, 4, 20)
        assert (code.rows, code.square, code.gram) == (4000, 800, 160_000)
        kept = {form: form.kept(code) for form in (Form(True, 0), Form(False, 1), Form(False, 20))}
        assert list(kept.values()) == [4000, 800, 21 * 800]
        assert Form(True, 0).peak(code) == 4000 + 160_000
        assert (Form(False, 1).peak(code), Form(False, 20).peak(code)) == (2 * 800, 22 * 800)
        assert Form(True, 20).peak(code) == max(22 * 800, 4000 + 20 * 800 + 100)
        assert Form(True, 1).peak(code) == max(2 * 800, 4000 + 800 + 100)

    def test_what_is_taken_comes_off_both(self):
        assert Memory(1000, 800).without(300) == Memory(700, 700)
        assert Memory(1000, 500).without(300) == Memory(700, 500)

    def test_as_many_groups_as_fit(self):
        code = Code(10_000, 10, 8, 20)
        limits = [exact_form(code, Memory(16_000, kept)).groups for kept in (8 * 800 - 1, 8 * 800)]
        assert limits == [6, 7]  # of 800 bytes each, beside samples that wait

    def test_sketches_are_as_wide_as_memory_allows(self):
        code = Code(10_000, 4000, 4, 1)
        free = Memory(10**9, 8 * 500**2)
        assert sketch_dimension(code, free, count_known=False) == 500
        assert sketch_dimension(code, Memory(10**9, 8 * 500**2 - 1), count_known=False) == 499
        few = Code(100, 10**6, 4, 1)
        assert sketch_dimension(few, Memory(10**9, 8 * 100 * 100), count_known=True) == 100
        assert sketch_dimension(few, Memory(10**9, 8 * 100 * 100 - 1), count_known=True) == 99


def test_the_line_of_a_fit_has_the_colour_of_its_spectrum(spectrum):
    ax = plot_spectrum(spectrum, ranks="gerum")
    spectrum_line, fit_line = ax.get_lines()
    assert spectrum_line.get_color() == fit_line.get_color() == ax.texts[0].get_color()
    assert (spectrum_line.get_label(), ax.texts[0].get_text()) == ("activations", f"α = {spectrum.fit('gerum').alpha:.2f}")
    assert list(fit_line.get_xdata()) == [6, 50]
    assert ax.texts[0].get_position() == (4, 4)
    assert ax.texts[0].get_anncoords() == "offset points"


def test_the_rank_is_that_of_the_code(spectrum, generator):
    thin = torch.randn(50, 6, generator=generator, dtype=torch.float64) @ torch.randn(
        6, 40, generator=generator, dtype=torch.float64
    )
    flat = ec.Eigenspectrum.from_activations(thin)
    with pytest.raises(SpectrumError, match="rank"):
        flat.fit((2, 10))
    fit = spectrum.fit("gerum")
    assert (fit.n_samples, fit.n_features, fit.method) == (600, 80, "covariance")
    assert fit_power_law(spectrum.eigenvalues, ranks=(6, 50)).alpha == fit.alpha
