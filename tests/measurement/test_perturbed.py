import math

import pytest
import torch
from torch import nn

import eigencode as ec
from eigencode.attacks import FGSM, PGD, LayerAttack
from eigencode.datasets import ImageSet
from eigencode.errors import ActivationError, AttackError, DataError, EigencodeError
from eigencode.measurement.perturbed import perturbed_spectra
from eigencode.perturbations import GaussianNoise, PrincipalComponents, PureNoise
from processes import torchrun


def accuracy(model, inputs, labels):
    with torch.no_grad():
        return float((model(inputs).argmax(1) == labels).double().mean())


def test_a_family_gives_what_measure_gives(trained_cnn):
    digits = ec.datasets.load("digits", count=120)
    found = perturbed_spectra(trained_cnn, digits, GaussianNoise, strengths=[0.4, 0.2], seed=3)
    assert [condition.label for condition in found.conditions] == ["unperturbed", "GaussianNoise 0.2", "GaussianNoise 0.4"]
    for condition in found.conditions:
        alone = ec.measure(trained_cnn, digits, layers="all", perturbation=GaussianNoise(condition.strength), seed=3)
        assert list(condition.spectra) == list(alone)
        for layer, spectrum in alone.items():
            assert torch.equal(condition.spectra[layer].eigenvalues, spectrum.eigenvalues)
            assert torch.equal(condition.spectra[layer].half_samples, spectrum.half_samples)
        noisy = GaussianNoise(condition.strength)(digits.inputs, torch.arange(120))
        assert condition.accuracy == dict.fromkeys(alone, accuracy(trained_cnn, noisy, digits.labels))
        assert torch.equal(condition.examples, noisy[:8])


@pytest.mark.parametrize("mode", ["independent", "nested"])
def test_an_attack_gives_its_curve_and_the_spectra_of_its_images(trained_cnn, digits, mode):
    attack, epsilons = PGD(steps=3), [0.0, 0.05, 0.1]
    found = perturbed_spectra(trained_cnn, digits, attack, strengths=epsilons, layers=["relu3"], mode=mode)
    curve = ec.attacks.robustness_curve(
        trained_cnn, digits, attack, epsilons=epsilons, mode=mode, batch_size=128, keep_images=True
    )
    assert [condition.label for condition in found.conditions] == ["unperturbed", "pgd 0.05", "pgd 0.1"]
    for condition, point in zip(found.conditions, curve.points, strict=True):
        assert condition.accuracy == {"relu3": point.accuracy}
        assert condition.flags == point.flags
        alone = ec.measure(trained_cnn, curve.adversarials[point.epsilon], layers="relu3")
        assert torch.equal(condition.spectra["relu3"].eigenvalues, alone["relu3"].eigenvalues)
    assert found.curve.table().equals(curve.table())


def test_an_attack_is_not_read_as_activations(trained_cnn, digits):
    """The attack's own passes through the network, while it is measured, leave no trace in the statistics."""
    attack = FGSM()

    def perturb(inputs, indices):
        return attack(trained_cnn, inputs, digits.labels[indices], epsilon=0.1, indices=indices).images

    found = ec.measure(trained_cnn, digits, layers="all", perturbation=perturb)
    assert {spectrum.n_images for spectrum in found.values()} == {500}


def test_summary_has_a_row_for_each_strength_and_layer(trained_cnn, digits):
    components = PrincipalComponents.fit(digits)
    found = perturbed_spectra(trained_cnn, digits, components.projection, strengths=[2, 8], layers=["relu3", "fc3"], name="pca")
    summary = found.summary("jiang")
    assert list(summary.columns[:6]) == ["condition", "perturbation", "strength", "accuracy", "flags", "layer"]
    assert summary["condition"].to_list() == [c for c in ("unperturbed", "pca 2", "pca 8") for _ in range(2)]
    assert summary["alpha"].notna().sum() >= 4
    accuracies = summary.drop_duplicates("condition")["accuracy"].to_list()
    assert accuracies[0] > accuracies[2] > accuracies[1]
    assert summary["dimension"].iloc[2] < summary["dimension"].iloc[0]


def test_a_baseline_is_measured_once(trained_cnn, digits):
    first = perturbed_spectra(trained_cnn, digits, GaussianNoise, strengths=[0.1], layers="relu3")
    second = perturbed_spectra(trained_cnn, digits, FGSM(), strengths=[0.1], layers="relu3", baseline=first.conditions[0])
    assert second.conditions[0].spectra is first.conditions[0].spectra


def test_a_strength_that_leaves_nothing_loses_no_other(trained_cnn, digits):
    found = perturbed_spectra(trained_cnn, digits, PureNoise, strengths=[0.0, 0.3], layers="relu3")
    assert [condition.label for condition in found.conditions] == ["unperturbed", "PureNoise 0.3"]
    assert list(found.failed) == ["PureNoise 0"]
    assert found.failed["PureNoise 0"].startswith("No layer could be measured. relu3: its output is the same for every input")


def test_unlabelled_images_have_no_accuracy(trained_cnn, digits):
    unlabelled = ImageSet.unlabelled(digits.inputs)
    found = perturbed_spectra(trained_cnn, unlabelled, GaussianNoise, strengths=[0.1], layers="relu3")
    assert all(math.isnan(value) for condition in found.conditions for value in condition.accuracy.values())
    with pytest.raises(AttackError, match="needs labels"):
        perturbed_spectra(trained_cnn, unlabelled, FGSM(), strengths=[0.1], layers="relu3")


def test_memory_in_several_passes(trained_cnn, digits):
    """Accuracy is counted once although a small memory limit takes the images through the network several times."""
    limit = {"memory_limit": "6MB", "half_samples": 0}
    small = perturbed_spectra(trained_cnn, digits, GaussianNoise, strengths=[0.3], **limit)
    assert small.conditions[1].spectra.n_passes > 1
    large = perturbed_spectra(trained_cnn, digits, GaussianNoise, strengths=[0.3], half_samples=0)
    assert small.conditions[1].accuracy == large.conditions[1].accuracy


def test_refusals(trained_cnn, digits):
    with pytest.raises(AttackError, match=r"`strengths` must be a list of at least one finite number; got \[\]"):
        perturbed_spectra(trained_cnn, digits, GaussianNoise, strengths=[])
    with pytest.raises(AttackError, match="must be an ImageSet.inputs, labels.; got Tensor"):
        perturbed_spectra(trained_cnn, digits.inputs, GaussianNoise, strengths=[0.1])
    components = PrincipalComponents.fit(ImageSet.unlabelled(torch.rand(30, 3, 4, 4)))
    with pytest.raises(DataError, match=r"they were fitted on images \(3, 4, 4\) from images; got images \(1, 8, 8\)"):
        perturbed_spectra(trained_cnn, digits, components.projection, strengths=[3])

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, inputs):
            scores = self.layer(inputs.flatten(1))
            return scores, scores

    with pytest.raises(AttackError, match="must return one tensor of scores"):
        perturbed_spectra(Two(), digits, FGSM(), strengths=[0.1])


WORKER = """
import sys, torch, torch.distributed as dist, eigencode as ec
from eigencode.perturbations import GaussianNoise
dist.init_process_group("gloo")
images = ec.datasets.load("digits", count=100)
model = ec.models.load("jiang_mlp", image_shape=images.shape)
for family, layers in ((GaussianNoise, "layers.0"), (ec.attacks.LayerAttack("gaussian"), "layers.1")):
    found = ec.perturbed_spectra(model, images, family, strengths=[0.3], layers=layers, batch_size=16)
    print([condition.accuracy for condition in found.conditions], flush=True)
"""


def test_processes_agree_on_the_accuracy(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    told = torchrun(tmp_path / "worker.py")
    images = ec.datasets.load("digits", count=100)
    model = ec.models.load("jiang_mlp", image_shape=images.shape)
    for family, layers in ((GaussianNoise, "layers.0"), (LayerAttack("gaussian"), "layers.1")):
        alone = perturbed_spectra(model, images, family, strengths=[0.3], layers=layers)
        assert told.count(str([condition.accuracy for condition in alone.conditions])) == 2


def test_a_failure_inside_a_strength_loses_no_other(trained_cnn, digits):
    found = perturbed_spectra(trained_cnn, digits.subset(60), GaussianNoise, strengths=[0.1, 3e38], layers="relu3")
    assert [condition.label for condition in found.conditions] == ["unperturbed", "GaussianNoise 0.1"]
    assert "activations must be finite" in found.failed["GaussianNoise 3e+38"]


def test_everything_is_tried_before_anything_is_measured(trained_cnn, digits):
    seen = []
    components = PrincipalComponents.fit(digits)
    for perturbation, strengths in ((PGD(), [0.1, 3.0]), (components.projection, [3, 0])):
        with pytest.raises(EigencodeError):
            perturbed_spectra(trained_cnn, digits, perturbation, strengths=strengths, progress=lambda *now: seen.append(now))
    assert seen == []


@pytest.mark.parametrize(
    ("perturbation", "strengths", "words"),
    [
        (PGD, [0.1], r"pass an instance of the attack, PGD\(...\), and not the class"),
        (lambda strength: strength, [0.1], "give a callable for each strength; .* Pass for example GaussianNoise, not"),
        (GaussianNoise(0.1), [0.1], r"got GaussianNoise\(sigma=0.1, .* not GaussianNoise\(0.1\)"),
        ("gaussian", [0.1], "`perturbation` must be a callable or an attack or a LayerAttack; got 'gaussian'."),
        (GaussianNoise, 0.1, "`strengths` must be a list, each part a finite number; got 0.1."),
        (GaussianNoise, [0.3, 0.30000001], "`strengths` must differ within their first six digits"),
    ],
)
def test_slips_are_named(trained_cnn, digits, perturbation, strengths, words):
    with pytest.raises(AttackError, match=words):
        perturbed_spectra(trained_cnn, digits, perturbation, strengths=strengths)


def test_a_compiled_network(trained_cnn, digits):
    class Compiled(nn.Module):
        """What torch.compile returns, without the compiler."""

        def __init__(self, model):
            super().__init__()
            self._orig_mod = model

        def forward(self, inputs):
            return self._orig_mod(inputs)

    found = perturbed_spectra(Compiled(trained_cnn), digits.subset(60), LayerAttack("gaussian"), strengths=[0.1], layers="relu3")
    assert list(found.conditions[1].spectra) == ["relu3"]


def test_dead_layers_are_an_error(digits):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.ReLU(), nn.Linear(10, 10))
    nn.init.constant_(model[1].bias, -100.0)
    with pytest.raises(
        ActivationError, match="layer_fgsm: no layer could be measured. No layer could be measured. 2: its output is the same"
    ):
        perturbed_spectra(model, digits, LayerAttack("fgsm"), strengths=[0.1], layers="2")
