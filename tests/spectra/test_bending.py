"""Falling curves that bend little: lines and steps come back, and likelihoods are lower bounds of their integrals."""

import math

import numpy as np
import pytest
from scipy.integrate import quad

from eigencode.spectra.bending import _SCALES, Bending

PLACES = np.log([1, 2, 3, 4, 5, 6, 7, 9, 12, 16, 21, 28, 37, 50])


def test_a_line_comes_back():
    line = 3 - 1.3 * PLACES
    curve, left_open = Bending(PLACES).fit(np.eye(len(PLACES)) / 0.01, line / 0.01)
    assert curve == pytest.approx(line, abs=1e-3)
    assert np.linalg.eigvalsh(left_open).min() > -1e-9


def test_a_step_comes_back_and_the_rest_is_straight():
    step = -0.5 * PLACES - 2.0 * (PLACES > math.log(6.5))
    noise = 0.05 * np.random.default_rng(0).standard_normal(len(PLACES))
    curve, _ = Bending(PLACES).fit(np.eye(len(PLACES)) / 0.05, (step + noise) / 0.05)
    assert curve == pytest.approx(step, abs=0.12)
    slopes = np.diff(curve) / np.diff(PLACES)
    assert np.abs(slopes[[0, 1, 2, 3, -1, -2, -3]] + 0.5).max() < 0.2


def test_several_sets_of_data_are_fitted_as_each_alone():
    design, random = np.eye(len(PLACES)) / 0.1, np.random.default_rng(1)
    aims = np.stack([-PLACES, -0.5 * PLACES - 2.0 * (PLACES > 2), np.sin(5 * PLACES)]) / 0.1
    aims += random.standard_normal(aims.shape)
    bending = Bending(PLACES)
    alone = [bending.fit(design, aim)[0] for aim in aims]
    assert np.abs(bending.curves(design, aims) - alone).max() < 1e-9


def test_curves_never_rise():
    curve, _ = Bending(PLACES).fit(np.eye(len(PLACES)) / 0.1, (PLACES + np.sin(5 * PLACES)) / 0.1)
    assert np.diff(curve).max() < 1e-12


@pytest.mark.parametrize("bend", [0.0, 1.0, 30.0])
def test_likelihoods_are_lower_bounds(bend):
    """One bend alone: the integral over it of a Gaussian of the datum and of the prior."""
    bending = Bending(np.array([0.0, 1.0, 2.0]))
    design = np.diag([1e4, 1e4, 1.0])  # level and slope are known, the bend with an error of one
    _, found = bending._of_scales(design, np.array([0.0, 0.0, bend]))
    exact = []
    for scale in _SCALES:

        def density(x, scale=scale):
            return math.exp(-((x - bend) ** 2) / 2) / math.sqrt(2 * math.pi) / (math.pi * scale * (1 + (x / scale) ** 2))

        edges = [-60, -scale, 0, scale, bend, 60]
        exact.append(
            math.log(sum(quad(density, low, high)[0] for low, high in zip(sorted(edges)[:-1], sorted(edges)[1:], strict=True)))
        )
    exact = np.array(exact) + bend**2 / 2
    shortfall = (exact - found) - (exact - found).min()
    assert shortfall.max() < 4
    if bend == 30:
        assert shortfall.max() < 0.3
