"""The contract of gradient attacks, for every attack, norm, range and type."""

import math
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

import eigencode as ec
from eigencode.attacks import FGSM, PGD, fgsm, pgd, robustness_curve
from eigencode.errors import AttackError, ReliabilityWarning

BUDGETS = {"linf": 0.1, "l2": 0.8}
ATTACKS = {
    "fgsm": FGSM(),
    "pgd": PGD(steps=7),
    "pgd-gradient": PGD(steps=7, direction="gradient"),
    "pgd-random": PGD(steps=5, start="random", seed=3),
    "pgd-restarts": PGD(steps=3, start="random", restarts=3),
    "pgd-best": PGD(steps=7, keep="best"),
    "pgd-early": PGD(steps=7, stop_early=True),
    "pgd-targeted": PGD(steps=7, targeted=True),
}


class Scaled(nn.Module):
    """A network for images in another range."""

    def __init__(self, model, low, high):
        super().__init__()
        self.model, self.low, self.high = model, low, high

    def forward(self, inputs):
        return self.model((inputs - self.low) / (self.high - self.low))


@pytest.fixture(params=["linf", "l2"])
def norm(request):
    return request.param


def batch(digits, count=40):
    return digits.inputs[:count], digits.labels[:count]


def size(change, norm):
    return change.flatten(1).norm(dim=1, p=math.inf if norm == "linf" else 2)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 3.0)])
def test_budget_and_bounds(trained_mlp, digits, name, norm, dtype, bounds):
    low, high = bounds
    inputs, labels = batch(digits)
    inputs = (low + (high - low) * inputs.to(dtype)).clamp(low, high)
    model = Scaled(trained_mlp, low, high).to(dtype)
    attack = replace(ATTACKS[name], norm=norm, bounds=bounds)
    epsilon = BUDGETS[norm] * (high - low)
    found = attack(model, inputs, labels, epsilon=epsilon).images
    trained_mlp.float()
    assert found.dtype == dtype
    assert not torch.equal(found, inputs)
    assert float(size(found - inputs, norm).max()) <= epsilon + 1e-6
    assert low <= found.min()
    assert found.max() <= high


@pytest.mark.parametrize("name", ATTACKS)
def test_no_budget_returns_the_input(trained_mlp, digits, name, norm):
    inputs, labels = batch(digits)
    found = replace(ATTACKS[name], norm=norm)(trained_mlp, inputs, labels, epsilon=0.0).images
    assert torch.equal(found, inputs)


@pytest.mark.parametrize("name", ATTACKS)
def test_batches_change_nothing(trained_mlp, digits, name, norm):
    # in float64, where a gradient that another summation order turns around would have to be below 1e-16
    inputs, labels = digits.inputs[:30].double(), digits.labels[:30]
    model = trained_mlp.double()
    attack = replace(ATTACKS[name], norm=norm)
    indices = torch.arange(100, 130)
    whole = attack(model, inputs, labels, epsilon=BUDGETS[norm], indices=indices).images
    parts = [
        attack(model, inputs[part], labels[part], epsilon=BUDGETS[norm], indices=indices[part]).images
        for part in torch.arange(30).split(7)
    ]
    model.float()
    assert torch.allclose(torch.cat(parts), whole, atol=1e-9)


class TestClosedForm:
    """On a linear network with two classes the gradient is known: its direction is the difference of the weights."""

    weights = torch.tensor([[1.0, -2.0, 0.5], [-1.0, 1.0, 1.5]], dtype=torch.float64)
    inputs = torch.full((2, 3), 0.5, dtype=torch.float64)
    labels = torch.tensor([0, 1])

    @pytest.fixture
    def model(self):
        model = nn.Linear(3, 2, bias=False).double()
        model.weight.data = self.weights.clone()
        return model

    def away(self):
        difference = self.weights[1] - self.weights[0]
        return torch.stack([difference, -difference])

    @pytest.mark.parametrize("attack", [FGSM(), PGD(steps=40)], ids=["fgsm", "pgd"])
    def test_linf(self, model, attack):
        found = attack(model, self.inputs, self.labels, epsilon=0.2).images
        assert torch.allclose(found, self.inputs + 0.2 * self.away().sign())

    @pytest.mark.parametrize("attack", [FGSM(norm="l2"), PGD(norm="l2", steps=40)], ids=["fgsm", "pgd"])
    def test_l2(self, model, attack):
        found = attack(model, self.inputs, self.labels, epsilon=0.2).images
        assert torch.allclose(found, self.inputs + 0.2 * self.away() / self.away().norm(dim=1, keepdim=True))

    def test_targets_are_approached(self, model):
        found = fgsm(model, self.inputs, 1 - self.labels, epsilon=0.2, targeted=True)
        assert torch.allclose(found, self.inputs + 0.2 * self.away().sign())

    def test_printed_equation(self, model):
        attack = PGD(direction="gradient", steps=1, step_size=0.01)
        probability = torch.softmax(self.inputs @ self.weights.T, dim=1)[[0, 1], [1, 0]]
        expected = self.inputs + 0.01 * probability[:, None] * self.away()
        assert torch.allclose(attack(model, self.inputs, self.labels, epsilon=0.2).images, expected)


def accuracy(model, inputs, labels):
    with torch.no_grad():
        return float((model(inputs).argmax(1) == labels).double().mean())


def test_more_steps_are_stronger(trained_cnn, digits):
    inputs, labels = digits.inputs, digits.labels
    results = [
        accuracy(trained_cnn, PGD(steps=steps)(trained_cnn, inputs, labels, epsilon=0.08).images, labels) for steps in (1, 4, 20)
    ]
    assert results[0] > results[1] > results[2]


def test_options_make_it_stronger(trained_cnn, digits):
    def result(**options):
        attack = PGD(steps=6, step_size=0.02, **options)
        return accuracy(trained_cnn, attack(trained_cnn, digits.inputs, digits.labels, epsilon=0.06).images, digits.labels)

    assert result(keep="best") <= result()
    assert result(start="random", restarts=4) <= result(start="random")
    assert result(stop_early=True) <= result()


def test_targets_are_reached(trained_cnn, digits):
    targets = (digits.labels + 1) % 10
    found = pgd(trained_cnn, digits.inputs, targets, epsilon=0.4, targeted=True)
    assert accuracy(trained_cnn, found, targets) > 0.9 > 0.2 > accuracy(trained_cnn, digits.inputs, targets)


@pytest.mark.parametrize("scale", [1e-22, 1e12])
def test_size_of_the_gradient_does_not_matter(trained_mlp, digits, norm, scale):
    class ScaledScores(nn.Module):
        def forward(self, inputs):
            return scale * trained_mlp(inputs)

    def loss(scores, labels):
        return -scores[torch.arange(len(labels)), labels]

    inputs, labels = batch(digits)
    attack = PGD(norm=norm, steps=5, loss=loss)
    changed = attack(ScaledScores(), inputs, labels, epsilon=BUDGETS[norm])
    assert torch.allclose(changed.images, attack(trained_mlp, inputs, labels, epsilon=BUDGETS[norm]).images, atol=1e-4)
    assert changed.zero_gradients == 0


def test_steps_along_a_huge_gradient_stay_in_the_ball(trained_mlp, digits):
    class ScaledScores(nn.Module):
        def forward(self, inputs):
            return 1e21 * trained_mlp(inputs)

    inputs, labels = batch(digits)
    attack = PGD(norm="l2", steps=2, direction="gradient", loss=lambda scores, labels: -scores[torch.arange(len(labels)), labels])
    found = attack(ScaledScores(), inputs, labels, epsilon=0.8).images
    assert float(size(found - inputs, "l2").min()) > 0.1
    assert float(size(found - inputs, "l2").max()) <= 0.8 + 1e-6


def test_draws_of_a_random_network_are_not_replayed(digits):
    class Drawn(nn.Module):
        def forward(self, inputs):
            draws.append(torch.rand(1).item())
            return inputs.flatten(1)[:, :10] * draws[-1]

    draws = []
    robustness_curve(Drawn(), digits.subset(20), FGSM(), epsilons=[0.1, 0.2], probe=0)
    assert len(set(draws)) == len(draws)


def test_random_starts_depend_on_seed_and_image_alone(trained_mlp, digits):
    inputs, labels = batch(digits, 10)
    attack = PGD(steps=1, step_size=1e-9, start="random")
    a = attack(trained_mlp, inputs, labels, epsilon=0.1, indices=torch.arange(10)).images
    assert torch.equal(a, attack(trained_mlp, inputs, labels, epsilon=0.1).images)
    b = attack(trained_mlp, inputs, labels, epsilon=0.1, indices=torch.arange(5, 15)).images
    c = replace(attack, seed=1)(trained_mlp, inputs, labels, epsilon=0.1).images
    assert not torch.allclose(a, b)
    assert not torch.allclose(a, c)


class TestNothingIsLeftBehind:
    @pytest.fixture
    def model(self):
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(256, 10),
        )
        model.train()
        model[1].eval()  # frozen
        return model

    def state(self, model):
        return [m.training for m in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}

    @pytest.mark.parametrize("fails", [False, True])
    def test_modes_statistics_gradients_and_randomness(self, model, digits, fails):
        inputs, labels = batch(digits)
        model(inputs).sum().backward()
        gradients = [p.grad.clone() for p in model.parameters()]
        modes, tensors = self.state(model)
        random_state = torch.random.get_rng_state()
        calls = []

        def loss(scores, labels):
            calls.append(1)
            if fails and len(calls) == 3:
                raise RuntimeError("stop")
            return nn.functional.cross_entropy(scores, labels, reduction="none")

        attack = PGD(steps=5, start="random", loss=loss)
        if fails:
            with pytest.raises(RuntimeError, match="stop"):
                attack(model, inputs, labels, epsilon=0.1)
        else:
            attack(model, inputs, labels, epsilon=0.1)
        after, tensors_after = self.state(model)
        assert after == modes
        assert all(torch.equal(tensors[k], tensors_after[k]) for k in tensors)
        assert all(torch.equal(g, p.grad) for g, p in zip(gradients, model.parameters(), strict=True))
        assert torch.equal(torch.random.get_rng_state(), random_state)
        assert all(p.requires_grad for p in model.parameters())
        assert not inputs.requires_grad

    def test_inside_no_grad(self, trained_mlp, digits):
        inputs, labels = batch(digits)
        with torch.no_grad():
            found = fgsm(trained_mlp, inputs, labels, epsilon=0.1)
            assert not torch.is_grad_enabled()
        assert torch.equal(found, fgsm(trained_mlp, inputs, labels, epsilon=0.1))

    def test_inside_inference_mode(self, trained_mlp, digits):
        inputs, labels = batch(digits)
        with torch.inference_mode():
            found = pgd(trained_mlp, inputs.clone(), labels.clone(), epsilon=0.1, steps=10)
        assert torch.equal(found, pgd(trained_mlp, inputs, labels, epsilon=0.1, steps=10))

    def test_arguments_are_not_changed(self, trained_mlp, digits):
        inputs, labels = batch(digits)
        before = inputs.clone()
        pgd(trained_mlp, inputs, labels, epsilon=0.1)
        assert torch.equal(inputs, before)


class TestRefusals:
    def message(self, call):
        with pytest.raises(AttackError) as caught:
            call()
        return str(caught.value)

    def test_budget(self, trained_mlp, digits):
        inputs, labels = batch(digits)
        assert self.message(lambda: fgsm(trained_mlp, inputs, labels, epsilon=math.nan)) == (
            "fgsm: `epsilon` must be a finite number; got nan."
        )
        for epsilon in (-0.1, 8.0):
            assert self.message(lambda e=epsilon: fgsm(trained_mlp, inputs, labels, epsilon=e)) == (
                f"fgsm: `epsilon` must lie in 0..1, the distance between two images in linf within bounds 0..1; got {epsilon:g}. "
                "It is in input units: write 8/255, not 8."
            )
        assert "must lie in 0..8" in self.message(lambda: pgd(trained_mlp, inputs, labels, epsilon=9.0, norm="l2"))

    def test_images(self, trained_mlp, digits):
        inputs, labels = batch(digits)
        assert self.message(lambda: fgsm(trained_mlp, 255 * inputs, labels, epsilon=0.1)) == (
            "fgsm: images must lie within bounds 0..1; got values from 0 to 255. Scale them, put their normalisation into the model "
            "(eigencode.models.normalize_inputs), or pass other bounds."
        )
        broken = inputs.clone()
        broken[3, 0, 0, 0] = math.nan
        assert self.message(lambda: fgsm(trained_mlp, broken, labels, epsilon=0.1)) == (
            "fgsm: images must be finite; image 3 has NaN or infinite values. Replace them."
        )
        assert self.message(lambda: fgsm(trained_mlp, inputs.half(), labels, epsilon=0.1)) == (
            "fgsm: images must be float32 or float64; got float16. Convert them."
        )

    def test_labels(self, trained_mlp, digits):
        inputs, labels = batch(digits)
        missing = labels.clone()
        missing[:4] = -1
        assert self.message(lambda: fgsm(trained_mlp, inputs, missing, epsilon=0.1)) == (
            "fgsm: an attack needs labels, and 4 of them are missing. Add them."
        )
        wrong = labels.clone()
        wrong[7] = 10
        assert self.message(lambda: pgd(trained_mlp, inputs, wrong, epsilon=0.1)) == (
            "attack: `labels` must lie in 0..9, the network's classes; got 10 at image 7. Correct the labels or use a network with "
            "these classes."
        )
        assert "`labels` must be int64 of shape (40,); got float32 of shape (40,)" in self.message(
            lambda: pgd(trained_mlp, inputs, labels.float(), epsilon=0.1)
        )

    def test_network(self, digits):
        class Two(nn.Module):
            def forward(self, inputs):
                return inputs, inputs

        inputs, labels = batch(digits)
        assert self.message(lambda: fgsm(Two(), inputs, labels, epsilon=0.1)) == (
            "The network must return one tensor of scores (n, classes); got tuple. Wrap it in a module that returns the scores alone."
        )
        assert "must return scores of shape (n, classes); got (40, 1, 8, 8) for 40 images" in self.message(
            lambda: fgsm(nn.Identity(), inputs, labels, epsilon=0.1)
        )

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"norm": "l1"}, "`norm` must be one of linf, l2; got 'l1'"),
            ({"steps": 0}, "pgd: `steps` must be at least 1; got 0."),
            ({"restarts": 2}, '`restarts` of 2 need start="random"'),
            ({"step_size": -1.0}, "`step_size` must be above 0; got -1.0"),
            ({"bounds": (1.0, 0.0)}, "`bounds` must be (lowest, highest); got (1.0, 0.0)"),
            ({"keep": "worst"}, "`keep` must be one of final, best; got 'worst'"),
        ],
    )
    def test_arguments(self, options, words):
        assert words in self.message(lambda: PGD(**options))

    def test_loss_that_averages(self, trained_mlp, digits):
        inputs, labels = batch(digits)
        assert self.message(lambda: fgsm(trained_mlp, inputs, labels, epsilon=0.1, loss=nn.functional.cross_entropy)) == (
            'attack: `loss` must return one loss for each image, shape (40,); got (). Use reduction="none".'
        )

    def test_fgsm_has_one_step(self):
        assert "fgsm: it takes one step of length epsilon; got steps=3" in self.message(lambda: FGSM(steps=3))


class TestWarnings:
    def test_probabilities(self, trained_mlp, digits):
        inputs, labels = batch(digits)
        with pytest.warns(ReliabilityWarning, match="returns probabilities: the loss applies a second softmax"):
            fgsm(nn.Sequential(trained_mlp, nn.Softmax(dim=1)), inputs, labels, epsilon=0.1)

    def test_no_gradient(self, digits):
        class Step(nn.Module):
            def forward(self, inputs):
                return torch.round(inputs.flatten(1)[:, :10]) * inputs.sum() * 0 + 3 * inputs.flatten(1)[:, :10].round()

        inputs, labels = batch(digits)
        with pytest.warns(ReliabilityWarning, match="There is no gradient at 1 % or more of the images"):
            pgd(Step(), inputs, labels, epsilon=0.1)

    def test_no_way_back_to_the_input(self, trained_mlp, digits):
        class Cut(nn.Module):
            def forward(self, inputs):
                return trained_mlp((4 * inputs).long().float())

        inputs, labels = batch(digits)
        for model in (Cut(), nn.Sequential(Cut(), nn.Linear(10, 10))):
            with pytest.warns(ReliabilityWarning, match="There is no gradient"):
                assert torch.equal(pgd(model, inputs, labels, epsilon=0.1), inputs)

    def test_nan_gradients_leave_images_in_place(self, digits):
        class Root(nn.Module):
            def forward(self, inputs):
                return (inputs.flatten(1)[:, :10] * 0).sqrt() + 3 * inputs.flatten(1)[:, 20:30]

        inputs, labels = batch(digits)
        for norm in ("linf", "l2"):
            with pytest.warns(ReliabilityWarning, match="NaN or infinite values at some images"):
                found = pgd(Root(), inputs, labels, epsilon=0.1, norm=norm)
            assert bool(found.isfinite().all())

    def test_none_for_a_plain_network(self, trained_mlp, digits):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pgd(trained_mlp, *batch(digits), epsilon=0.1)


def test_public_names():
    assert ec.attacks.fgsm is fgsm
    assert ec.attacks.pgd is pgd


class Crests(nn.Module):
    """The loss rises over the first steps of 0.1 and falls at the next, by the mean of the pixels."""

    def forward(self, inputs):
        wave = torch.cos(torch.pi * (inputs.flatten(1).mean(1) - 0.5) / 0.1 + 0.3)
        return torch.stack([wave, torch.zeros_like(wave)], dim=1)


def test_the_best_iterate_is_kept():
    images, labels = torch.full((3, 1, 4, 4), 0.5), torch.zeros(3, dtype=torch.int64)
    last, best = (PGD(steps=2, step_size=0.1, keep=keep)(Crests(), images, labels, epsilon=0.2) for keep in ("final", "best"))
    losses = [torch.nn.functional.cross_entropy(Crests()(found.images), labels) for found in (last, best)]
    assert float(losses[1]) > float(losses[0]) + 0.5


@pytest.mark.parametrize(("start", "epsilon", "short"), [("input", 0.15, True), ("input", 0.1, False), ("random", 0.15, False)])
def test_steps_that_cannot_reach_the_budget(trained_mlp, digits, start, epsilon, short):
    found = PGD(steps=10, step_size=0.01, start=start)(trained_mlp, *batch(digits, 3), epsilon=epsilon)
    assert found.out_of_reach is short
