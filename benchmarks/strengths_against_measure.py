"""Spectra of all layers under five strengths of noise: perturbed_spectra against five separate measurements."""

from functools import partial

from benchmarks.timing import compare, write
from eigencode import datasets, measure, models, perturbed_spectra
from eigencode.perturbations import GaussianNoise

STRENGTHS = (0.1, 0.2, 0.3, 0.4, 0.5)


def main():
    images = datasets.load("cifar10", count=600)
    model = models.load("schaeffer_cnn", image_shape=images.shape)

    def separate():
        return [measure(model, images, layers="all", perturbation=GaussianNoise(strength)) for strength in STRENGTHS]

    baseline = perturbed_spectra(model, images, GaussianNoise, strengths=[0.0]).conditions[0]
    together = partial(perturbed_spectra, model, images, GaussianNoise, strengths=STRENGTHS, baseline=baseline)
    times, found = compare(together, separate, repeats=5)
    pairs = zip(found["ours"].conditions[1:], found["theirs"], strict=True)
    same = all((one.spectra[name].eigenvalues == other[name].eigenvalues).all() for one, other in pairs for name in other)
    write("strengths_against_measure", {"schaeffer_cnn, 600 CIFAR-10 images": {**times, "same_eigenvalues": bool(same)}})
