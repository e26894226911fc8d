import builtins

import numpy as np
import pytest
import torch

from eigencode.attacks import ArtAttack, by_name, robustness_curve
from eigencode.errors import AttackError


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_attack_keeps_the_contract(trained_mlp, digits, norm):
    inputs, labels = digits.inputs[:40], digits.labels[:40]
    attack = ArtAttack("SquareAttack", norm=norm, options={"max_iter": 30})
    epsilon = 0.15 if norm == "linf" else 1.0
    random_states = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    trained_mlp.train()
    found = attack(trained_mlp, inputs, labels, epsilon=epsilon).images
    assert trained_mlp.training
    trained_mlp.eval()
    assert torch.equal(torch.random.get_rng_state(), random_states[0])
    assert np.array_equal(np.random.get_state()[1], random_states[1])  # noqa: NPY002
    lengths = (found - inputs).flatten(1).norm(dim=1, p=np.inf if norm == "linf" else 2)
    assert 0 < float(lengths.max()) <= epsilon + 1e-6
    assert 0 <= found.min() <= found.max() <= 1
    if norm == "linf":  # with l2 the toolbox divides by zero at dark pixels, and goes on with what is in memory
        assert torch.equal(found, attack(trained_mlp, inputs, labels, epsilon=epsilon).images)
    assert torch.equal(attack(trained_mlp, inputs, labels, epsilon=0.0).images, inputs)


def test_curve(trained_mlp, digits):
    attack = ArtAttack("FastGradientMethod")
    curve = robustness_curve(trained_mlp, digits.subset(100), attack, epsilons=[0.0, 0.1, 0.2], mode="nested", probe=50)
    assert curve.attack == "art:FastGradientMethod"
    assert [point.accuracy for point in curve.points] == sorted((point.accuracy for point in curve.points), reverse=True)
    assert curve.points[0].accuracy > curve.points[2].accuracy


@pytest.mark.slow
def test_auto_attack(trained_mlp, digits, capfd):
    inputs, labels = digits.inputs[:20], digits.labels[:20]
    found = ArtAttack("AutoAttack")(trained_mlp, inputs, labels, epsilon=0.1).images
    weaker = by_name("fgsm", components=lambda: None)(trained_mlp, inputs, labels, epsilon=0.1).images
    with torch.no_grad():
        hits = [int((trained_mlp(x).argmax(1) == labels).sum()) for x in (found, weaker)]
    assert hits[0] <= hits[1]
    assert float((found - inputs).abs().max()) <= 0.1 + 1e-6
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("NoSuchAttack", {}, "art:NoSuchAttack: the toolbox has no attack of this name. It has AdversarialPatch,"),
        ("DeepFool", {}, "art:DeepFool: this attack has no budget `eps` that could be varied. Use for example art:AutoAttack."),
        (
            "SquareAttack",
            {"eps": 3},
            "art:SquareAttack: `options` must not hold eps, norm, targeted or estimator, which are set here.",
        ),
        ("SquareAttack", {"steps": 3}, "art:SquareAttack: no option is called 'steps'. It has norm, adv_criterion,"),
    ],
)
def test_refusals(name, options, words):
    with pytest.raises(AttackError) as caught:
        ArtAttack(name, options=options)
    assert str(caught.value).startswith(words)


def test_failures_of_the_toolbox_are_named(trained_mlp, digits):
    attack = ArtAttack("ProjectedGradientDescent", options={"eps_step": -1.0})
    with pytest.raises(AttackError, match=r"art:ProjectedGradientDescent: the toolbox failed \(.*\). Check its options"):
        attack(trained_mlp, digits.inputs[:5], digits.labels[:5], epsilon=0.1)


def test_gradients_of_the_weights_are_left(trained_mlp, digits):
    trained_mlp.zero_grad()
    torch.nn.functional.cross_entropy(trained_mlp(digits.inputs), digits.labels).backward()
    before = [p.grad.clone() for p in trained_mlp.parameters()]
    ArtAttack("ProjectedGradientDescent", options={"max_iter": 2})(trained_mlp, digits.inputs[:9], digits.labels[:9], epsilon=0.1)
    assert all(torch.equal(a, p.grad) for a, p in zip(before, trained_mlp.parameters(), strict=True))
    trained_mlp.zero_grad()


def test_says_how_to_install_the_toolbox(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("art."):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(AttackError) as caught:
        ArtAttack("AutoAttack")
    assert str(caught.value) == (
        "art:AutoAttack needs the adversarial-robustness-toolbox. Install it with: pip install 'eigencode[attacks]'."
    )


def test_names():
    with pytest.raises(AttackError) as caught:
        by_name("blur", components=lambda: None)
    assert str(caught.value) == (
        "`perturbation`: no perturbation is called 'blur'. Use one of gaussian, pure_noise, grey_noise, pca, zca, fgsm, pgd, "
        "layer_gaussian, layer_fgsm, art:NAME."
    )


@pytest.mark.parametrize(("error", "reason"), [(ValueError("first line\nsecond"), "first line"), (KeyError(), "KeyError")])
def test_reason_of_a_failure(trained_mlp, digits, monkeypatch, error, reason):
    def fails(*_arguments, **_options):
        raise error

    monkeypatch.setattr(ArtAttack, "_generate", fails)
    with pytest.raises(AttackError) as caught:
        ArtAttack("FastGradientMethod")(trained_mlp, digits.inputs[:5], digits.labels[:5], epsilon=0.1)
    assert str(caught.value) == (
        f"art:FastGradientMethod: the toolbox failed ({reason}). Check its options, or use another attack."
    )
