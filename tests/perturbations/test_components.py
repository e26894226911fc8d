import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.decomposition import PCA

from eigencode.datasets import ImageSet, load
from eigencode.errors import DataError
from eigencode.perturbations import PrincipalComponents

NO_INDICES = torch.arange(0)


@pytest.fixture(scope="module")
def images():
    return load("digits", split="train")


@pytest.fixture(scope="module")
def components(images):
    return PrincipalComponents.fit(images)


def test_agrees_with_scikit_learn(images, components):
    pca = PCA(svd_solver="full").fit(images.inputs.flatten(1).double().numpy())
    assert np.allclose(components.eigenvalues[:60], pca.explained_variance_[:60], rtol=1e-10)
    for k in (1, 5, 40):
        pca = PCA(k, svd_solver="full").fit(images.inputs.flatten(1).double().numpy())
        theirs = pca.inverse_transform(pca.transform(images.inputs.flatten(1).double().numpy()))
        ours = components.projection(k)(images.inputs.double(), NO_INDICES).flatten(1)
        assert np.abs(ours.numpy() - theirs).max() < 1e-10


@pytest.mark.parametrize("k", [1, 2, 20, 40, 63])
def test_projection_has_rank_k(images, components, k):
    projected = components.projection(k)(images.inputs.double(), NO_INDICES).flatten(1)
    expected = min(k, components.rank)
    values = torch.linalg.svdvals(projected - projected.mean(0))
    assert int((values > 1e-9 * values[0]).sum()) == expected
    again = components.projection(k)(projected.view_as(images.inputs), NO_INDICES).flatten(1)
    assert torch.allclose(again, projected, atol=1e-10)


def test_all_components_give_the_images_back(images, components):
    back = components.projection(64)(images.inputs, NO_INDICES)
    assert back.dtype == torch.float32
    assert float((back - images.inputs).abs().max()) < 1e-6


def test_whitened_images_have_identity_covariance(images, components):
    white = components.whitening()(images.inputs, NO_INDICES).flatten(1).double()
    assert components.rank < 64  # some pixels of the digits are always dark
    vectors = components.vectors[:, : components.rank]
    assert torch.allclose(torch.cov(white.T), vectors @ vectors.T, atol=1e-4)
    assert float(white.mean(0).abs().max()) < 1e-6


def test_whitening_is_not_a_rotation(components):
    matrix = components.whitening(0.01).matrix
    assert torch.allclose(matrix, matrix.T)
    expected = components.vectors @ torch.diag((components.eigenvalues + 0.01).rsqrt()) @ components.vectors.T
    assert torch.allclose(matrix, expected)


def test_file(tmp_path, images, components):
    components.save(tmp_path / "components.safetensors")
    again = PrincipalComponents.load(tmp_path / "components.safetensors")
    assert repr(again) == repr(components) == "PrincipalComponents of 1297 images (1, 8, 8) from digits/train, rank 61"
    first, second = (c.projection(7)(images.inputs, NO_INDICES) for c in (components, again))
    assert torch.equal(first, second)


def test_fitting_streams(images, components, monkeypatch):
    monkeypatch.setattr("eigencode.perturbations.components._BATCH", 100)
    again = PrincipalComponents.fit(images)
    assert torch.allclose(again.eigenvalues, components.eigenvalues, rtol=1e-10, atol=1e-14)


@pytest.mark.real_data("mnist")
def test_whitening_mnist():
    images = load("mnist", split="train", count=5000)
    components = PrincipalComponents.fit(images)
    white = components.whitening()(images.inputs.double(), NO_INDICES).flatten(1)
    vectors = components.vectors[:, : components.rank]
    assert float((torch.cov(white.T) - vectors @ vectors.T).abs().max()) < 1e-4


@pytest.mark.real_data("cifar10")
@pytest.mark.slow
def test_whitening_cifar10():
    images = load("cifar10", split="train")
    components = PrincipalComponents.fit(images)
    assert components.rank == 3072
    assert float((components.projection(3072)(images.inputs[:1000], NO_INDICES) - images.inputs[:1000]).abs().max()) < 1e-6
    white = components.whitening()(images.inputs, NO_INDICES).flatten(1).double()
    assert float((torch.cov(white.T) - torch.eye(3072, dtype=torch.float64)).abs().max()) < 1e-4


class TestRefusals:
    @pytest.mark.parametrize("k", [0, 65, 2.5])
    def test_components(self, components, k):
        with pytest.raises(DataError) as caught:
            components.projection(k)
        assert str(caught.value) == f"projection: `k` must be a whole number from 1 to 64, the pixels; got {k:g}."

    def test_epsilon(self, components):
        with pytest.raises(DataError, match="whitening: `epsilon` must be a number of at least 0; got -1."):
            components.whitening(-1)

    def test_another_shape(self, components):
        with pytest.raises(DataError) as caught:
            components.projection(3)(torch.rand(2, 3, 32, 32), NO_INDICES)
        assert str(caught.value) == (
            "PrincipalComponents: they were fitted on images (1, 8, 8) from digits/train; got images (3, 32, 32). Fit them on images "
            "of this shape."
        )

    def test_too_few_or_too_large(self):
        with pytest.raises(DataError, match="at least 2 images are needed; got 1"):
            PrincipalComponents.fit(ImageSet.unlabelled(torch.rand(1, 1, 4, 4)))
        with pytest.raises(DataError, match="images must have at most 16384 numbers; got 49152"):
            PrincipalComponents.fit(ImageSet.unlabelled(torch.rand(2, 3, 128, 128)))

    def test_files(self, tmp_path):
        with pytest.raises(DataError, match="does not exist. Check the path."):
            PrincipalComponents.load(tmp_path / "none")
        (tmp_path / "text").write_text("hello")
        with pytest.raises(DataError, match="text is truncated or no safetensors file"):
            PrincipalComponents.load(tmp_path / "text")
        save_file({"mean": torch.zeros(2)}, tmp_path / "text")
        with pytest.raises(DataError, match="was not written by PrincipalComponents.save. Fit and save again."):
            PrincipalComponents.load(tmp_path / "text")
