"""Kept spectra fitted over other ranks."""

import numpy as np
import pandas as pd
import pytest
import torch

from eigencode.errors import StudyError
from eigencode.spectra import Window, fit_power_law
from eigencode.studies import StudyResults
from eigencode.studies.results.claim import Claim, Finding, Part, StatedNumber
from eigencode.studies.results.refitting import refitted
from small_study import STUDY

VALUES = torch.arange(1, 101, dtype=torch.float64) ** -1.5
VALUES[50:] *= 0.3
WHERE = {"layer": "tanh1", "perturbation": "unperturbed", "strength": 0.0}


def results(*more):
    rows = [(0, "unperturbed", "alpha", 9.0), (5, "training", "alpha", 8.0), (5, "unperturbed", "dimension", 3.0), *more]
    table = pd.DataFrame(rows, columns=["epoch", "perturbation", "quantity", "value"])
    return table.assign(cell="a", layer="tanh1", strength=0.0)


def spectra(values=VALUES, floor=1e-12):
    return pd.DataFrame(
        [{"cell": "a", **WHERE, "n_samples": 300, "n_features": 100, "floor": floor, "eigenvalues": values.numpy()}]
    )


def test_exponents_are_those_of_the_spectra():
    found = refitted(results(), spectra(), Window.of((5, 40)))[0].set_index("quantity")
    fit = fit_power_law(VALUES, ranks=(5, 40))
    assert found["value"].to_dict() == {"dimension": 3.0, "alpha": fit.alpha, "r2": fit.r2, "stderr": fit.stderr}
    assert found["value"]["alpha"] == pytest.approx(1.5)
    assert set(found["epoch"]) == {5}
    assert set(found["perturbation"]) == {"unperturbed"}


def test_a_named_window_brings_its_weights():
    long = torch.arange(1, 801, dtype=torch.float64) ** -1.2
    long[100:] *= 0.5
    table = spectra(long).assign(n_samples=2000, n_features=800)
    found = refitted(results(), table, Window.of("stringer"))[0].set_index("quantity")["value"]
    assert found["alpha"] == fit_power_law(long, ranks="stringer").alpha
    assert found["alpha"] != fit_power_law(long, ranks=(11, 500)).alpha


def test_ranks_below_the_floor_are_not_fitted():
    floor = float(VALUES[59])
    refitted(results(), spectra(floor=floor), Window.of((5, 59)))
    with pytest.raises(StudyError, match=r"ranks 5-61: no spectrum of the finished cells reaches so far"):
        refitted(results(), spectra(floor=floor), Window.of((5, 61)))


def test_a_spectrum_that_reaches_the_ranks_does_not_need_the_others():
    both = pd.concat([spectra(), spectra(VALUES[:20]).assign(perturbation="pca")], ignore_index=True)
    found, unreached = refitted(results((5, "pca", "alpha", 7.0)), both, Window.of((5, 40)))
    assert unreached == 1
    alpha = found[found["quantity"] == "alpha"]
    assert list(alpha["perturbation"]) == ["unperturbed"]
    assert np.isfinite(alpha["value"]).all()


def test_without_spectra_there_is_nothing_to_fit():
    with pytest.raises(StudyError, match=r"ranks 5-40: the finished cells have no kept spectrum\."):
        refitted(results(), spectra().head(0), Window.of((5, 40)))


def test_kept_spectra_give_the_numbers_of_the_study(finished):
    found = StudyResults(finished, STUDY.cells())
    assert found.over("jiang") is found  # as it was read
    spectra = finished.spectra()
    refitted_rows, unreached = refitted(finished.results(), spectra, Window.of("jiang"))
    keys = ["cell", "layer", "perturbation", "strength", "quantity"]
    before, after = (
        rows[rows["quantity"].isin(["alpha", "r2", "stderr"])].set_index(keys)["value"]
        for rows in (finished.results(), refitted_rows)
    )
    assert unreached == 0
    assert len(after) == 3 * len(spectra)
    pd.testing.assert_series_equal(after, before[after.index], rtol=1e-10)
    other = found.over((2, 7))
    assert (other.ranks, other.window, other.alpha_condition) == ((2, 7), "2-7", "unperturbed")
    assert (found.ranks, found.window, found.alpha_condition) == (None, None, "training")
    assert set(other.select("alpha")["perturbation"]) == set(spectra["perturbation"])
    one = spectra.iloc[5]
    (row,) = other.select("alpha", **{name: one[name] for name in keys[:-1]}).to_dict("records")
    assert row["value"] == fit_power_law(torch.from_numpy(one["eigenvalues"].copy()), ranks=(2, 7)).alpha


def test_a_claim_is_judged_over_the_ranks_it_may_be(finished):
    found = StudyResults(finished, STUDY.cells())
    holds = lambda evidence: Finding("holds", f"{len(evidence.rows)} rows", "")  # noqa: E731
    verdicts = [
        Claim("X", "fig", "", (Part("", holds),), window=window).judged(evidence).verdict
        for window in ("any", "own", "none")
        for evidence in (found, found.over((2, 7)))
    ]
    assert verdicts == ["holds", "holds", "holds", "not tested", "holds", "holds"]
    stated = StatedNumber("α", "fig", 1.0, None, lambda evidence: evidence.select("alpha")["value"], exponents=True)
    assert stated.compared(found)["here"] != "of other ranks"
    assert stated.compared(found.over((2, 7)))["here"] == "of other ranks"
