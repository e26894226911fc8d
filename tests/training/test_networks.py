import pytest
import torch
from torch import nn

from eigencode import models
from eigencode.errors import TrainingError
from eigencode.training.networks import Single, Stacked, evaluating, members_of, stackable


def networks(name, count, shape=(1, 8, 8)):
    return [models.load(name, image_shape=shape, seed=seed).double() for seed in range(count)]


@pytest.mark.parametrize("in_turn", [False, True])  # on a GPU convolutions are computed one member after the other
@pytest.mark.parametrize(("name", "layer"), [("gerum_shallow_mlp", "tanh1"), ("schaeffer_cnn", "relu4"), ("gerum_cnn", "conv2")])
def test_a_stack_computes_what_each_network_does(name, layer, in_turn, generator):
    members, inputs = networks(name, 3), torch.rand(3, 5, 1, 8, 8, generator=generator, dtype=torch.float64)
    stacked = members_of(members, inputs[0])
    stacked.in_turn = in_turn
    scores, codes = stacked.forward(inputs, [layer])
    gradients = torch.autograd.grad((scores**2).sum() + codes[layer].sum(), stacked.leaves)
    for number, network in enumerate(members):
        alone = members_of([network], inputs[number])
        expected, code = alone.forward(inputs[number : number + 1], [layer])
        assert torch.allclose(scores[number], expected[0], atol=1e-12)
        assert torch.allclose(codes[layer][number], code[layer][0], atol=1e-12)
        theirs = torch.autograd.grad((expected**2).sum() + code[layer].sum(), alone.leaves)
        for mine, other in zip(gradients, theirs, strict=True):
            assert torch.allclose(mine[number], other, atol=1e-10)


def test_a_flattened_stack_takes_member_after_member(generator):
    members, inputs = networks("gerum_shallow_mlp", 2), torch.rand(2, 4, 1, 8, 8, generator=generator, dtype=torch.float64)
    scores = members_of(members, inputs[0]).flattened()(inputs.flatten(0, 1))
    assert torch.allclose(scores[:4], members[0](inputs[0]), atol=1e-12)
    assert torch.allclose(scores[4:], members[1](inputs[1]), atol=1e-12)


@pytest.mark.parametrize("count", [1, 2])
def test_state_comes_back_and_members_are_networks_of_their_own(count):
    inputs = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    stacked = members_of(networks("gerum_shallow_mlp", count), inputs)
    before = {name: value.clone() for name, value in stacked.state().items()}
    with torch.no_grad():
        for parameters in stacked.parameters:
            for parameter in parameters:
                parameter.add_(1)
    assert not torch.equal(stacked.state()["output.weight"], before["output.weight"])
    changed = stacked.member(count - 1)
    assert torch.allclose(changed.state_dict()["output.bias"], torch.ones(10, dtype=torch.float64))
    stacked.load_state(before)
    assert torch.equal(stacked.state()["output.weight"], before["output.weight"])


def test_an_in_place_layer_does_not_change_a_captured_code():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 3))
    inputs = torch.randn(1, 10, 4)
    _, codes = Single(model, inputs[0]).forward(inputs, ["0"])
    assert torch.equal(codes["0"][0], model[0](inputs[0]))
    assert float(codes["0"].detach().min()) < 0


@pytest.mark.parametrize("in_turn", [False, True])
def test_batch_normalisation_keeps_each_members_own_statistics(in_turn):
    def network(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).double()

    inputs = torch.randn(2, 30, 4, dtype=torch.float64)
    members = [network(0), network(1)]
    stacked = Stacked(members, inputs[0])
    stacked.in_turn = in_turn
    stacked.train(True)
    stacked.forward(inputs)
    for number, member in enumerate(members):
        member.train()
        member(inputs[number])
        assert torch.allclose(stacked.member(number)[1].running_mean, member[1].running_mean, atol=1e-12)


@pytest.mark.parametrize("in_turn", [False, True])
def test_a_function_that_draws_is_refused(in_turn):
    class Drops(nn.Linear):
        def forward(self, inputs):
            return nn.functional.dropout(super().forward(inputs), training=self.training)

    inputs = torch.rand(2, 5, 4)
    stacked = Stacked([Drops(4, 3), Drops(4, 3)], inputs[0])
    stacked.in_turn = in_turn
    stacked.train(True)
    with pytest.raises(RuntimeError, match="random operation"):
        stacked.forward(inputs)


def test_evaluation_mode_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(), nn.Linear(6, 3)).train()
    members = members_of([model], torch.randn(2, 4))
    with evaluating(members):
        assert not model[1].training
    assert model[1].training


def test_refusals():
    sample = torch.randn(2, 4)
    random = [nn.Sequential(nn.Linear(4, 6), nn.Dropout()) for _ in range(2)]
    assert not stackable(random[0])
    with pytest.raises(TrainingError) as caught:
        members_of(random, sample)
    assert str(caught.value) == (
        "Networks with random modules (1) cannot be stacked, since each member must be a function of its own seed alone. "
        "Train them one by one."
    )
    with pytest.raises(TrainingError, match="Only networks of one architecture can be stacked"):
        members_of([nn.Sequential(nn.Linear(4, 6)), nn.Sequential(nn.Linear(4, 5))], sample)
    with pytest.raises(TrainingError, match=r"^There are no networks to train\. Pass at least one\.$"):
        members_of([], sample)
