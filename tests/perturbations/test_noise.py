import math

import pytest
import torch

from eigencode.errors import DataError
from eigencode.perturbations import GaussianNoise, PureNoise, standard_normal, uniform

IMAGES = torch.rand(60, 3, 16, 16, generator=torch.Generator().manual_seed(1))
INDICES = torch.arange(60)


@pytest.mark.parametrize("kind", [GaussianNoise, PureNoise])
def test_batches_and_order_change_nothing(kind, generator):
    whole = kind(0.3, seed=5)(IMAGES, INDICES)
    shuffled = torch.randperm(60, generator=generator)
    parts = [kind(0.3, seed=5)(IMAGES[part], part) for part in shuffled.split(7)]
    assert torch.equal(torch.cat(parts), whole[shuffled])


def test_noise_is_gaussian_and_independent():
    noise = GaussianNoise(0.3)(IMAGES, INDICES) - IMAGES
    count = noise.numel()
    assert abs(float(noise.mean())) < 4 * 0.3 / math.sqrt(count)
    assert float(noise.std()) == pytest.approx(0.3, rel=4 / math.sqrt(2 * count))
    kurtosis = float((noise / 0.3).double().pow(4).mean())
    assert kurtosis == pytest.approx(3, abs=4 * math.sqrt(96 / count))
    correlations = torch.corrcoef(noise.flatten(1))[~torch.eye(60, dtype=torch.bool)]
    assert float(correlations.abs().max()) < 5.5 / math.sqrt(noise[0].numel())


def test_seeds_streams_and_images_differ():
    draws = [
        standard_normal(torch.tensor([index]), (500,), seed=seed, stream=stream, like=IMAGES)
        for index, seed, stream in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    for i, first in enumerate(draws):
        for second in draws[:i]:
            assert abs(float(torch.corrcoef(torch.cat([first, second]))[0, 1])) < 0.2


def test_scale_alone_depends_on_the_strength():
    weak, strong = (GaussianNoise(sigma)(torch.zeros(60, 8, dtype=torch.float64), INDICES) for sigma in (0.1, 0.4))
    assert torch.allclose(4 * weak, strong)


def test_clipping():
    assert GaussianNoise(1.0)(IMAGES, INDICES).min() < -1
    clipped = GaussianNoise(1.0, clip=True)(IMAGES, INDICES)
    assert (clipped.min(), clipped.max()) == (0, 1)
    assert PureNoise(1.0, clip=True, bounds=(-0.5, 0.5))(IMAGES, INDICES).abs().max() == 0.5


def test_pure_noise_is_the_noise_alone():
    assert torch.allclose(IMAGES + PureNoise(0.2)(IMAGES, INDICES), GaussianNoise(0.2)(IMAGES, INDICES))


def test_no_noise_is_the_input_itself():
    assert GaussianNoise(0.0)(IMAGES, INDICES) is IMAGES


def test_uniform_draws():
    draws = uniform(INDICES, (500,), seed=3, like=IMAGES)
    assert 0 <= draws.min()
    assert draws.max() < 1
    assert float(draws.mean()) == pytest.approx(0.5, abs=0.01)


def test_global_random_state_is_left():
    before = torch.random.get_rng_state()
    GaussianNoise(0.3)(IMAGES, INDICES)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_refusals():
    with pytest.raises(DataError) as caught:
        GaussianNoise(-0.1)
    assert str(caught.value) == (
        "GaussianNoise: `sigma` must be a number of at least 0; got -0.1. It is a standard deviation in input units."
    )
    for sigma in (math.nan, math.inf):
        with pytest.raises(DataError, match=f"^GaussianNoise: `sigma` must be a finite number; got {sigma}.$"):
            GaussianNoise(sigma)
    with pytest.raises(DataError, match="^PureNoise: `seed` must be at least 0; got -1.$"):
        PureNoise(0.1, seed=-1)(IMAGES, INDICES)
