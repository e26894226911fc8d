import pytest
import torch

from eigencode.attacks.geometry import Ball, sizes

IMAGES, SHAPE = 2000, (1, 2, 3)


def test_sizes_are_those_of_each_image():
    change = torch.tensor([[[0.3, -0.4]], [[0.0, -2.0]]])
    assert sizes(change, "linf").tolist() == pytest.approx([0.4, 2.0])
    assert sizes(change, "l2").tolist() == pytest.approx([0.5, 2.0])
    assert sizes(change[:0], "linf").shape == (0,)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_fill_the_ball_evenly(norm):
    """A part r of the radius holds r^d of the points: the d-th powers of their sizes are uniform."""
    ball = Ball(torch.full((IMAGES, *SHAPE), 0.5, dtype=torch.float64), 0.1, norm, (0.0, 1.0))
    change = ball.random_start(torch.arange(IMAGES), seed=0, restart=0) - ball.centre
    powers = (sizes(change, norm) / 0.1) ** 6
    assert float(powers.max()) <= 1 + 1e-9
    assert float(powers.mean()) == pytest.approx(0.5, abs=4 * (1 / 12 / IMAGES) ** 0.5)
    assert float((powers < 0.25).double().mean()) == pytest.approx(0.25, abs=0.04)
    assert float(change.mean(dim=0).abs().max()) < 0.01
