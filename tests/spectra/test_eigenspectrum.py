import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from eigencode.errors import DataError, SpectrumError
from eigencode.spectra import Eigenspectrum, load_spectra, save_spectra
from eigencode.spectra.eigenvalues import eigenpairs


@pytest.fixture
def spectrum(power_law_code):
    return Eigenspectrum.from_activations(power_law_code(1.0, 120, 200), name="layer1.conv")


def test_equals_scikit_learn(power_law_code):
    for shape in ((120, 200), (300, 50)):
        code = power_law_code(1.0, *shape)
        spectrum = Eigenspectrum.from_activations(code)
        reference = PCA(svd_solver="full").fit(code.numpy())
        assert spectrum.eigenvalues.numpy() == pytest.approx(reference.explained_variance_, rel=1e-10, abs=1e-13)
        shares = [spectrum.variance_explained(k) for k in (1, 10)]
        assert shares == pytest.approx([reference.explained_variance_ratio_[:k].sum() for k in (1, 10)])
        assert spectrum.total_variance == pytest.approx(code.var(dim=0).sum().item())


def test_numerical_rank(generator):
    factors = torch.randn(100, 7, generator=generator, dtype=torch.float64)
    low = factors @ torch.randn(7, 40, generator=generator, dtype=torch.float64)
    assert Eigenspectrum.from_activations(low).numerical_rank == 7
    assert Eigenspectrum.from_activations(low[:5]).numerical_rank == 4
    assert Eigenspectrum.from_activations(torch.zeros(9, 4)).numerical_rank == 0


def test_half_precision_raises_the_floor(generator):
    code = torch.randn(500, 60, generator=generator, dtype=torch.float64) * torch.arange(1, 61) ** -2.0
    full, half = (Eigenspectrum.from_activations(code.to(dtype)) for dtype in (torch.float32, torch.bfloat16))
    assert full.numerical_rank == 60
    assert half.numerical_rank < 40
    largest = float(code[0].to(torch.bfloat16).abs().max())
    assert half.floor == pytest.approx((torch.finfo(torch.bfloat16).eps * largest) ** 2)


def test_rounding_far_from_zero_is_below_the_floor(generator):
    low = torch.randn(100, 5, generator=generator) @ torch.randn(5, 120, generator=generator)
    assert Eigenspectrum.from_activations(low + 1000).numerical_rank == 5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_constant_code_has_no_variance_at_all(dtype):
    constant = Eigenspectrum.from_activations(torch.full((50, 7), 0.1, dtype=dtype))
    assert constant.total_variance == 0
    assert constant.numerical_rank == 0


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_saves_and_loads_everything(spectrum, tmp_path, ending):
    path = spectrum.save(tmp_path / f"one.{ending}")
    again = Eigenspectrum.load(path)
    assert torch.equal(again.eigenvalues, spectrum.eigenvalues)
    assert torch.equal(again.half_samples, spectrum.half_samples)
    for field in (
        "n_samples",
        "n_features",
        "n_images",
        "method",
        "dtype",
        "error_bound",
        "name",
        "scale",
        "half_counts",
        "half_groups",
    ):
        assert getattr(again, field) == getattr(spectrum, field)
    assert again.fit((1, 30)) == spectrum.fit((1, 30))
    assert again.alpha_interval((1, 30)) == spectrum.alpha_interval((1, 30))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_saves_and_loads_several(spectrum, power_law_code, tmp_path, ending):
    other = Eigenspectrum.from_activations(power_law_code(2.0, 300, 20), half_samples=0, name="fc")
    path = save_spectra({"a/b": spectrum, "fc": other}, tmp_path / f"all.{ending}")
    again = load_spectra(path)
    assert list(again) == ["a/b", "fc"]
    assert torch.equal(again["fc"].eigenvalues, other.eigenvalues)
    assert again["fc"].half_samples is None
    with pytest.raises(DataError, match=r"holds 2 spectra \(a/b, fc\). Use eigencode.load_spectra"):
        Eigenspectrum.load(path)


def test_load_errors(tmp_path, spectrum):
    with pytest.raises(DataError) as caught:
        spectrum.save(tmp_path / "spectrum.pkl")
    assert str(caught.value) == "save: `path` must end in .npz or .parquet; got spectrum.pkl. Change the ending."
    with pytest.raises(DataError, match=r"nothing.npz does not exist. Check the path."):
        load_spectra(tmp_path / "nothing.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "bad.parquet").write_bytes(b"no")
    (tmp_path / "empty.npz").write_bytes(b"")
    whole = spectrum.save(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="there are no spectra to save"):
        save_spectra({}, tmp_path / "none.npz")
    for name in ("other.npz", "bad.parquet", "empty.npz", "half.npz"):
        with pytest.raises(
            DataError, match=f"{name} (is not a file of eigenspectra written by eigencode|cannot be read|is empty|is truncated)"
        ):
            load_spectra(tmp_path / name)


def test_nothing_varies():
    dead = Eigenspectrum.from_activations(torch.ones(10, 5), name="dead")
    with pytest.raises(SpectrumError) as caught:
        dead.fit("jiang")
    assert str(caught.value) == (
        "dead: `ranks` (1, 10) goes beyond the numerical rank 0; no window of 3 ranks is possible. Pass more images or another layer."
    )
    with pytest.raises(SpectrumError, match=r"dead: the share of the variance is undefined, since the eigenvalues sum to 0"):
        dead.variance_explained(3)


def test_one_unit_and_five_images(generator):
    one = Eigenspectrum.from_activations(torch.randn(50, 1, generator=generator), name="unit")
    assert (one.numerical_rank, one.dimension) == (1, 1.0)
    with pytest.raises(SpectrumError, match="no window of 3 ranks is possible"):
        one.fit("gerum")
    five = Eigenspectrum.from_activations(torch.randn(5, 100, generator=generator), name="few")
    with pytest.raises(SpectrumError) as caught:
        five.fit("gerum")
    assert str(caught.value) == (
        "few: `ranks` (6, 50) goes beyond the numerical rank 4; the largest window possible is (1, 4). Lower the last rank, or pass "
        "more images."
    )


def test_window_grid_by_default(spectrum):
    table = spectrum.window_sensitivity()
    assert set(table["first"]) == {1, 2, 5, 10, 20, 50, 100}
    assert set(table["last"]) == {5, 10, 20, 50, 100, 119}
    assert table["last"].max() == spectrum.numerical_rank == 119


def test_plot_draws_what_is_there(spectrum):
    axes = spectrum.plot(ranks=(6, 50))
    line, fit = axes.get_lines()
    assert line.get_xdata()[[0, -1]].tolist() == [1, spectrum.numerical_rank]
    assert line.get_ydata()[0] == float(spectrum.eigenvalues[0])
    assert list(fit.get_xdata()) == [6, 50]
    assert line.get_label() == spectrum.name
    assert axes.get_figure().get_layout_engine() is not None  # labels are not cut off
    assert axes.texts[0].get_text() == f"α = {spectrum.fit((6, 50)).alpha:.2f}"


def test_a_fit_says_of_what_it_is_and_keeps_within_the_floor(generator):
    code = torch.randn(200, 10, generator=generator, dtype=torch.float64)
    found = Eigenspectrum.from_activations(torch.cat([code, code + 1e-13 * code.roll(1, 0)], dim=1), name="twice")
    assert found.numerical_rank == 10 < int((found.eigenvalues > 0).sum())
    fit = found.fit((1, 8))
    assert (fit.n_samples, fit.n_features, fit.method) == (200, 20, found.method)
    with pytest.raises(SpectrumError, match=r"`ranks` \(1, 15\) goes beyond the numerical rank 10"):
        found.fit((1, 15))


def test_eigenpairs_make_the_matrix(generator):
    rows = torch.randn(6, 9, generator=generator, dtype=torch.float64) * 1e-3
    values, vectors = eigenpairs(rows.T @ rows)
    assert bool((values[:-1] >= values[1:]).all())
    assert bool((values >= 0).all())
    assert torch.allclose((vectors * values) @ vectors.T, rows.T @ rows, atol=1e-18)
