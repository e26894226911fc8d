import math

import numpy as np
import pytest
import torch
from torch import nn

from eigencode.attacks import FGSM, FLAGS, PGD, Attacked, robustness_curve
from eigencode.attacks.curves import _Run, attack_images
from eigencode.attacks.reliability import above_chance, fewer
from eigencode.datasets import ImageSet
from eigencode.errors import AttackError

EPSILONS = [0.12, 0.0, 0.03, 0.06, 0.09]


def accuracies(curve):
    return [point.accuracy for point in curve.points]


def flags(curve):
    return {flag for point in curve.points for flag in point.flags}


class TestCurve:
    def test_independent_is_each_budget_on_its_own(self, trained_cnn, digits):
        attack = PGD(steps=5)
        curve = robustness_curve(trained_cnn, digits, attack, epsilons=EPSILONS, keep_images=True)
        assert [point.epsilon for point in curve.points] == sorted(EPSILONS)
        with torch.no_grad():
            clean = trained_cnn(digits.inputs).argmax(1) == digits.labels
            for point in curve.points:
                found = attack(trained_cnn, digits.inputs, digits.labels, epsilon=point.epsilon).images
                assert float((found - curve.adversarials[point.epsilon]).abs().double().mean()) < 1e-4
                still = clean & (trained_cnn(curve.adversarials[point.epsilon]).argmax(1) == digits.labels)
                assert point.accuracy == float(still.double().mean())
                assert point.stderr == pytest.approx(math.sqrt(point.accuracy * (1 - point.accuracy) / 500))
        assert curve.clean_accuracy == curve.points[0].accuracy == float(clean.double().mean())

    def test_images_that_are_wrong_already_stay_wrong(self, trained_cnn, digits):
        labels = digits.labels.clone()
        labels[:100] = (labels[:100] + 1) % 10
        curve = robustness_curve(trained_cnn, ImageSet(digits.inputs, labels), FGSM(), epsilons=[0.0, 0.3], probe=0)
        assert max(accuracies(curve)) <= 0.81

    @pytest.mark.parametrize("attack", [PGD(steps=8), FGSM(), PGD(norm="l2", steps=8)], ids=["pgd", "fgsm", "l2"])
    def test_nested_is_never_above_independent(self, trained_cnn, digits, attack):
        budgets = [e * (8 if attack.norm == "l2" else 1) for e in EPSILONS]
        independent = robustness_curve(trained_cnn, digits, attack, epsilons=budgets, probe=0)
        nested = robustness_curve(trained_cnn, digits, attack, epsilons=budgets, mode="nested", keep_images=True, probe=100)
        assert all(a <= b for a, b in zip(accuracies(nested), accuracies(independent), strict=True))
        assert accuracies(nested) == sorted(accuracies(nested), reverse=True)
        assert "above_independent" not in flags(nested)
        for epsilon, images in nested.adversarials.items():
            lengths = (images - digits.inputs).flatten(1).norm(dim=1, p=math.inf if attack.norm == "linf" else 2)
            assert float(lengths.max()) <= epsilon + 1e-6

    def test_nested_fgsm_takes_one_step(self, trained_cnn, digits):
        epsilons = [0.05, 0.1, 0.2]
        nested = robustness_curve(trained_cnn, digits, FGSM(), epsilons=epsilons, mode="nested", keep_images=True)
        once = [FGSM()(trained_cnn, digits.inputs, digits.labels, epsilon=epsilon).images for epsilon in epsilons]
        for number, epsilon in enumerate(epsilons):
            found = nested.adversarials[epsilon]
            same = torch.stack(
                [(found - images).flatten(1).abs().amax(1) < 1e-6 for images in [digits.inputs, *once[: number + 1]]]
            )
            assert bool(same.any(0).all())

    def test_everything_is_left_as_found(self, trained_cnn, digits):
        trained_cnn.train()
        state = torch.random.get_rng_state()
        robustness_curve(trained_cnn, digits.subset(50), PGD(steps=2, start="random"), epsilons=[0.1])
        assert trained_cnn.training
        assert torch.equal(torch.random.get_rng_state(), state)
        trained_cnn.eval()

    def test_table_and_progress(self, trained_cnn, digits):
        seen, observed = [], []
        curve = robustness_curve(
            trained_cnn,
            digits.subset(60),
            PGD(steps=2),
            epsilons=[0.1, 0.2],
            batch_size=25,
            progress=lambda *now: seen.append(now),
            observe=lambda epsilon, images: observed.append((epsilon, images.shape)),
        )
        assert seen[-1] == ("attacking", 120, 120)
        assert observed == [(0.1, (60, 1, 8, 8)), (0.2, (60, 1, 8, 8))]
        columns = ["epsilon", "accuracy", "stderr", "zero_gradients", "non_finite_gradients", "flags"]
        assert list(curve.table().columns) == columns
        assert curve.table()["accuracy"].to_list() == accuracies(curve)

    def test_batches_change_nothing(self, trained_mlp, digits):
        images, model = digits.subset(80), trained_mlp
        one, two = (
            robustness_curve(model, images, PGD(steps=4), epsilons=[0.05], batch_size=size, keep_images=True, probe=0)
            for size in (80, 13)
        )
        assert float((one.adversarials[0.05] - two.adversarials[0.05]).abs().gt(1e-6).double().mean()) < 1e-3


class TestFlags:
    """Networks that fool an attack in a known way must raise the flag that says so."""

    def curve(self, model, digits, attack=None, epsilons=(0.2,), **options):
        return robustness_curve(model, digits, attack or PGD(steps=10, relative_step=True), epsilons=list(epsilons), **options)

    def test_none_on_a_plain_network(self, trained_mlp, digits):
        assert flags(self.curve(trained_mlp, digits, epsilons=(0.0, 0.05, 0.2))) == set()

    def test_saturated_scores(self, trained_mlp, digits):
        class Sharp(nn.Module):
            def forward(self, inputs):
                return 1e5 * trained_mlp(inputs)

        found = self.curve(Sharp(), digits)
        assert "zero_gradients" in flags(found)
        assert found.points[0].zero_gradients > 0.5

    def test_no_derivative(self, trained_mlp, digits):
        class Rounded(nn.Module):
            def forward(self, inputs):
                return trained_mlp(torch.round(4 * inputs) / 4)

        found = flags(self.curve(Rounded(), digits, epsilons=(0.4,)))
        assert {"zero_gradients", "weaker_than_noise", "not_to_chance"} <= found

    def test_probabilities(self, trained_mlp, digits):
        assert "probabilities" in flags(self.curve(nn.Sequential(trained_mlp, nn.Softmax(dim=1)), digits, probe=0))

    def test_random_outputs(self, trained_mlp, digits):
        class Noisy(nn.Module):
            def forward(self, inputs):
                return trained_mlp(inputs) + 0.1 * torch.randn(len(inputs), 10)

        assert "random_outputs" in flags(self.curve(Noisy(), digits.subset(60)))

    def test_too_few_steps(self, trained_mlp, digits):
        attack = PGD(steps=2, step_size=0.02)
        found = flags(self.curve(trained_mlp, digits, attack, epsilons=(0.2,)))
        assert {"more_steps_needed", "weaker_than_fgsm"} <= found

    def test_steps_shorter_than_the_budget(self, trained_mlp, digits):
        for mode in ("independent", "nested"):
            curve = self.curve(trained_mlp, digits, PGD(steps=10), epsilons=(0.05, 0.3), mode=mode, probe=0)
            assert [point.flags for point in curve.points] == [(), ("budget_out_of_reach",)]

    def test_steps_that_overshoot(self):
        class Wave(nn.Module):
            """One step of 0.1 leads from a crest into a trough, the next one back."""

            def forward(self, inputs):
                crest = torch.cos(torch.pi * (inputs.flatten(1).mean(1) - 0.5) / 0.1 + 0.3)
                return torch.stack([crest, torch.zeros_like(crest)], dim=1)

        images = ImageSet(torch.full((20, 1, 4, 4), 0.5), torch.zeros(20, dtype=torch.int64))
        curve = robustness_curve(Wave(), images, PGD(steps=1, step_size=0.1), epsilons=[0.1, 0.05])
        assert curve.points[1].accuracy == 0
        assert "more_steps_weaker" in curve.points[1].flags

    def test_a_nested_curve_that_attacks_too_little(self, trained_mlp, digits, monkeypatch):
        monkeypatch.setattr(_Run, "nested", lambda run, epsilon: Attacked(run.target.inputs))
        assert "above_independent" in flags(self.curve(trained_mlp, digits, mode="nested"))

    def test_budgets_may_be_an_array(self, trained_mlp, digits):
        curve = robustness_curve(trained_mlp, digits.subset(20), FGSM(), epsilons=np.linspace(0, 0.2, 3), probe=0)
        assert [point.epsilon for point in curve.points] == pytest.approx([0, 0.1, 0.2])

    def test_nonfinite(self, trained_mlp, digits):
        class Root(nn.Module):
            def forward(self, inputs):
                return trained_mlp(inputs) + (0 * inputs.flatten(1)[:, :10]).sqrt()

        assert "non_finite_gradients" in flags(self.curve(Root(), digits, probe=0))

    def test_weaker_than_square(self, trained_mlp, digits):
        class Perfect:
            name, norm, bounds, targeted = "perfect", "linf", (0.0, 1.0), False

            def __call__(self, model, inputs, labels, *, epsilon, indices=None):
                return Attacked(FGSM()(trained_mlp, inputs, labels, epsilon=epsilon).images)

        found = self.curve(trained_mlp, digits, PGD(steps=1, step_size=1e-4), square=Perfect())
        assert "weaker_than_square" in flags(found)

    def test_every_flag_has_a_meaning_and_a_remedy(self):
        assert all(flag.meaning.endswith(".") and flag.remedy.endswith(".") for flag in FLAGS.values())

    def test_chance_raises_none(self):
        few, many = torch.zeros(200, dtype=torch.bool), torch.zeros(200, dtype=torch.bool)
        many[:4] = True
        assert not fewer(few, many)
        many[:6] = True
        assert not fewer(few, many)  # 1 / 2^6 is above 1 %
        many[:7] = True
        assert fewer(few, many)
        assert not fewer(many, few)
        assert not above_chance(torch.arange(200) < 25, 10)
        assert above_chance(torch.arange(200) < 35, 10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epsilons": []}, "robustness_curve: `epsilons` is empty. Name at least one budget."),
        ({"epsilons": 0.1}, "robustness_curve: `epsilons` must be a list, each part a finite number; got 0.1."),
        ({"epsilons": [0.1], "attack": PGD(targeted=True)}, "the attack must not be targeted"),
        ({"epsilons": [0.1], "attack": PGD}, r"`attack` must be an attack; got the class PGD\. Pass an instance: PGD\(\.\.\.\)"),
        ({"epsilons": [0.1], "probe": -1}, "robustness_curve: `probe` must be at least 0; got -1."),
        ({"epsilons": [0.1], "mode": "both"}, "robustness_curve: `mode` must be one of independent, nested; got 'both'."),
        ({"epsilons": [0.1, 1.5]}, "`epsilon` must lie in 0..1, .* got 1.5"),
    ],
)
def test_refusals(trained_mlp, digits, options, words):
    options = {"attack": PGD(), **options}
    with pytest.raises(AttackError, match=words):
        robustness_curve(trained_mlp, digits, **options)


def test_missing_labels(trained_mlp, digits):
    with pytest.raises(AttackError, match="pgd: an attack needs labels, and 500 of them are missing. Add them."):
        robustness_curve(trained_mlp, ImageSet.unlabelled(digits.inputs), PGD(), epsilons=[0.1])


class Still:
    """An attack that does nothing, and says on which images."""

    name, norm, bounds, targeted = "still", "linf", (0.0, 1.0), False

    def __init__(self):
        self.seen = []

    def __call__(self, model, inputs, labels, *, epsilon, indices=None):
        self.seen.append(indices.tolist())
        return Attacked(inputs)


def test_probes_are_spread_over_all_images(trained_mlp, digits):
    attack = Still()
    robustness_curve(trained_mlp, digits.subset(41), attack, epsilons=[0.1], probe=5, batch_size=100)
    assert attack.seen == [[0, 10, 20, 30, 40], list(range(41))]


def test_comparisons_use_the_loss_of_the_attack(trained_mlp, digits):
    def less(scores, labels):
        return -torch.nn.functional.cross_entropy(scores, labels, reduction="none")

    curve = robustness_curve(trained_mlp, digits, PGD(steps=3, relative_step=True, loss=less), epsilons=[0.2])
    assert "weaker_than_fgsm" not in flags(curve)


def test_random_starts_do_not_depend_on_batches(trained_mlp, digits):
    attack = PGD(steps=1, step_size=0.001, start="random")
    one, two = (
        attack_images(trained_mlp, digits.inputs[:20], digits.labels[:20], attack, epsilon=0.2, batch_size=size).images
        for size in (20, 7)
    )
    assert torch.allclose(one, two, atol=2e-3)


def test_batches_start_where_they_are_told_to(trained_mlp, digits):
    inputs, labels = digits.inputs[:9], digits.labels[:9]
    there = (inputs + 0.1).clamp(0, 1)
    found = attack_images(
        trained_mlp, inputs, labels, PGD(steps=1, step_size=0.001), epsilon=0.2, batch_size=4, warm_start=there
    ).images
    assert float((found - there).abs().max()) <= 0.001 + 1e-6
    for count in (0, 1):
        few = attack_images(trained_mlp, inputs[:count], labels[:count], FGSM(), epsilon=0.2)
        assert few.images.shape == (count, 1, 8, 8)
        assert bool((few.images != inputs[:count]).flatten(1).any(dim=1).all())


def test_a_nested_curve_tells_what_it_did(trained_mlp, digits):
    seen = []
    attack = PGD(steps=2, step_size=0.04)
    curve = robustness_curve(
        trained_mlp,
        digits.subset(100),
        attack,
        epsilons=[0.02, 0.3],
        mode="nested",
        progress=lambda *now: seen.append(now),
    )
    assert seen[-1] == ("attacking", 200, 200)
    assert curve.n_images == 100
    assert "more_steps_needed" in curve.points[1].flags
    assert "not_to_chance" not in flags(curve)
