import pytest
import torch
from torch import nn

from eigencode import models
from eigencode.errors import PenaltyError
from eigencode.penalties import compare_jacobians, jacobian_penalty
from eigencode.penalties.jacobian import random_directions


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 4)).double()


def jacobians(model, inputs):
    rows = [torch.autograd.functional.jacobian(lambda x: model(x[None])[0], row, create_graph=True) for row in inputs]
    return torch.stack(rows).flatten(2)


@pytest.fixture
def inputs(generator):
    return torch.rand(5, 3, 2, 2, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("kind", "reduce"), [("exact", lambda j: j), ("column_sum", lambda j: j.sum(dim=1))])
@pytest.mark.parametrize("squared", [False, True])
def test_equals_the_jacobian_and_its_parameter_gradient(kind, reduce, squared, inputs):
    model = network()
    value = jacobian_penalty(model, inputs, kind=kind, squared=squared)
    norms = reduce(jacobians(model, inputs)).flatten(1).norm(dim=1)
    expected = (norms**2 / 2 if squared else norms).mean()
    assert float(value.detach()) == pytest.approx(float(expected.detach()), rel=1e-10)
    mine = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    theirs = torch.autograd.grad(expected, list(model.parameters()), allow_unused=True)
    for first, second in zip(mine, theirs, strict=True):
        assert (first is None) == (second is None)
        assert first is None or torch.allclose(first, second, atol=1e-10)


def test_projections_are_unbiased_and_exact_gradients_pass_gradcheck(inputs):
    model = network()
    exact = float(jacobian_penalty(model, inputs, squared=True).detach())
    generator = torch.Generator().manual_seed(0)
    drawn = [
        float(jacobian_penalty(model, inputs, kind="projected", squared=True, projections=2, generator=generator).detach())
        for _ in range(400)
    ]
    drawn = torch.tensor(drawn)
    assert abs(float(drawn.mean()) - exact) < 4 * float(drawn.std()) / 20
    weight = model[1].weight.detach().clone().requires_grad_(True)

    def penalty(changed):
        return jacobian_penalty(
            lambda x: torch.func.functional_call(model, {"1.weight": changed}, (x,)), inputs, kind="exact", squared=False
        )

    assert torch.autograd.gradcheck(penalty, weight)


def test_of_a_hidden_layer(inputs):
    model = network()
    hidden = nn.Sequential(*list(model)[:3])
    assert float(jacobian_penalty(hidden, inputs).detach()) == pytest.approx(
        float(jacobians(hidden, inputs).flatten(1).norm(dim=1).mean().detach()), rel=1e-10
    )


@pytest.mark.parametrize("name", ["schaeffer_cnn", "gerum_cnn"])
def test_convolutions_and_pooling(name):
    model = models.load(name, image_shape=(1, 8, 8)).double()
    inputs = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    expected = jacobians(model, inputs).flatten(1).norm(dim=1).mean()
    assert float(jacobian_penalty(model, inputs).detach()) == pytest.approx(float(expected.detach()), rel=1e-9)


def test_side_by_side(digits, trained_mlp):
    table = compare_jacobians(trained_mlp, digits.subset(60), projections=2).set_index("kind")
    assert list(table.index) == ["exact", "projected", "column_sum"]
    assert table.loc["exact", "correlation"] == pytest.approx(1)
    assert table.loc["projected", "root_mean_square"] == pytest.approx(table.loc["exact", "root_mean_square"], rel=0.2)
    assert table.loc["column_sum", "mean"] < 0.9 * table.loc["exact", "mean"] * 10**0.5


def test_side_by_side_says_mean_and_spread(digits, trained_mlp):
    tables = [compare_jacobians(trained_mlp, digits.subset(20), seed=3).set_index("kind") for _ in range(2)]
    assert tables[0].equals(tables[1])
    assert list(tables[0].columns) == ["mean", "std", "root_mean_square", "correlation"]
    expected = (tables[0]["mean"] ** 2 + tables[0]["std"] ** 2 * 19 / 20) ** 0.5
    assert tables[0]["root_mean_square"].tolist() == pytest.approx(expected.tolist(), rel=1e-9)


def test_projections_are_drawn_from_the_generator_alone(inputs):
    model = network()
    before = torch.get_rng_state()
    drawn = [
        float(jacobian_penalty(model, inputs, kind="projected", generator=torch.Generator().manual_seed(seed)).detach())
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(torch.get_rng_state(), before)
    directions = random_directions(torch.zeros(5, 4, dtype=torch.float64), 2, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(directions.norm(dim=-1) ** 2, torch.full((2, 5), 2.0, dtype=torch.float64), rtol=1e-14)


def test_refusals(inputs):
    with pytest.raises(PenaltyError, match=r"`kind` must be one of exact, projected, column_sum; got 'half'\.$"):
        jacobian_penalty(network(), inputs, kind="half")
    with pytest.raises(PenaltyError, match=r"`projections` must be at least 1; got 0\.$"):
        jacobian_penalty(network(), inputs, kind="projected", projections=0)
    with pytest.raises(PenaltyError, match="the outputs do not depend on the inputs"):
        jacobian_penalty(lambda x: torch.ones(5, 3), inputs)
    with pytest.raises(PenaltyError, match="the outputs do not depend on the inputs"):
        jacobian_penalty(lambda x: torch.ones(5, 3, requires_grad=True) * 2, inputs)


@pytest.mark.parametrize("kind", ["exact", "projected", "column_sum"])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e200])
def test_jacobians_that_are_not_finite(kind, squared, value, inputs):
    model = network()
    with torch.no_grad():
        model[1].weight[2, 3] = value
        model[1].bias[2] = -model[1].weight[2].nan_to_num() @ inputs[0].flatten()  # where tanh is steep
    with pytest.raises(PenaltyError) as caught:
        jacobian_penalty(model, inputs[:1], kind=kind, squared=squared, generator=torch.Generator().manual_seed(0))
    assert str(caught.value) == (
        "jacobian_penalty: the Jacobian and its squares must be finite; got NaN or infinite values. Check the inputs, or lower the "
        "learning rate."
    )
