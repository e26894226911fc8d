import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from eigencode import datasets
from eigencode.attacks import Construction, construct
from eigencode.attacks.constructed import model_hash
from eigencode.datasets import ImageSet
from eigencode.errors import AttackError


@pytest.fixture(scope="module")
def images():
    return datasets.load("digits", split="train", count=120)


def codes(model, inputs):
    with torch.no_grad():
        return torch.tanh(model.hidden1(inputs.flatten(1)))


@pytest.mark.parametrize("kind", ["robust", "non_robust"])
def test_codes_are_those_of_the_originals(trained_mlp, images, kind):
    made = construct(trained_mlp, images, Construction(kind, steps=150, step_size=0.05), batch_size=50)
    wanted, start, end = (codes(trained_mlp, x) for x in (images.inputs, images.inputs[made.starts], made.images.inputs))
    begun, ended = ((x - wanted).norm(dim=1).sum() / wanted.norm(dim=1).sum() for x in (start, end))
    assert float(ended) < 0.1 * float(begun)
    assert made.record["code_distance_at_start"] == pytest.approx(float(begun), rel=1e-4)
    assert made.record["code_distance_at_end"] == pytest.approx(float(ended), rel=1e-2)
    assert torch.equal(made.images.labels, images.labels)
    assert made.record["accuracy_new_labels"] > 0.9 > 0.5 > made.record["accuracy_start_labels"]
    assert not (made.starts == made.originals).any()
    assert sorted(made.starts.tolist()) == list(range(120))
    assert made.images.inputs.aminmax() == (made.images.inputs.min().clamp_min(0), made.images.inputs.max().clamp_max(1))


@pytest.mark.parametrize("kind", ["random_target", "deterministic_target"])
def test_targets_are_within_the_budget(trained_mlp, images, kind):
    made = construct(trained_mlp, images, Construction(kind, epsilon=1.5))
    lengths = (made.images.inputs - images.inputs).flatten(1).norm(dim=1)
    assert float(lengths.max()) <= 1.5 + 1e-6
    assert made.record["accuracy_new_labels"] > 0.9
    assert made.record["accuracy_start_labels"] < 0.25
    assert torch.equal(made.start_labels, images.labels)
    if kind == "deterministic_target":
        assert torch.equal(made.images.labels, (images.labels + 1) % 10)
    else:
        counts = torch.bincount(made.images.labels, minlength=10)
        assert len(counts) == 10
        assert int(counts.min()) >= 3


def test_seeds_and_batches(trained_mlp, images):
    def made(seed=0, size=40):
        return construct(trained_mlp, images, Construction("random_target", steps=3, step_size=0.2, seed=seed), batch_size=size)

    assert torch.equal(made().images.labels, made(size=17).images.labels)
    assert torch.allclose(made().images.inputs, made(size=17).images.inputs, atol=1e-5)
    assert not torch.equal(made().images.labels, made(seed=1).images.labels)


def test_record_tells_what_it_was_made_from(trained_mlp, images):
    record = construct(trained_mlp, images, Construction("deterministic_target", steps=5, epsilon=0.7, step_size=0.2)).record
    assert record["construction"] == {
        "kind": "deterministic_target",
        "epsilon": 0.7,
        "steps": 5,
        "step_size": 0.2,
        "layer": "penultimate",
        "seed": 0,
    }
    assert (record["source"], record["images"], record["pgd_epsilon_l2"]) == ("digits/train", 120, 0.7)
    assert record["model_accuracy"] > 0.9
    assert record["model_accuracy_under_pgd"] < record["model_accuracy"]
    assert record["model_sha256"] == model_hash(trained_mlp)


def test_hash_sees_every_weight():
    model = nn.Linear(3, 2)
    before = model_hash(model)
    assert model_hash(model) == before
    with torch.no_grad():
        model.bias[1] += 1e-6
    assert model_hash(model) != before


def test_file_is_a_data_set(tmp_path, trained_mlp, images):
    made = construct(trained_mlp, images, Construction("random_target", steps=2, step_size=0.5))
    made.save(tmp_path / "set.safetensors")
    again = datasets.load(f"tensors:{tmp_path / 'set.safetensors'}")
    assert torch.equal(again.inputs, made.images.inputs)
    assert torch.equal(again.labels, made.images.labels)


def test_network_is_left_as_found(images):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.BatchNorm1d(30), nn.ReLU(inplace=True), nn.Linear(30, 10)).train()
    before = model_hash(model)
    construct(model, images, Construction("robust", steps=2, layer="3"))
    assert model.training
    assert model_hash(model) == before
    assert not any(module._forward_hooks for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"kind": "useful"},
            "construct: `kind` must be one of robust, non_robust, random_target, deterministic_target; got 'useful'.",
        ),
        ({"kind": "robust", "steps": 0}, "construct: `steps` must be at least 1; got 0."),
        ({"kind": "robust", "step_size": 0.0}, "construct: `step_size` must be above 0; got 0.0."),
    ],
)
def test_refusals(options, words):
    with pytest.raises(AttackError) as caught:
        Construction(**options)
    assert str(caught.value) == words


def test_refuses_images_it_cannot_use(trained_mlp, images):
    with pytest.raises(AttackError, match="construct: an attack needs labels, and 120 of them are missing"):
        construct(trained_mlp, ImageSet.unlabelled(images.inputs), Construction("robust"))
    wrong = ImageSet(images.inputs, images.labels + 50 * (torch.arange(120) == 110))
    with pytest.raises(AttackError, match=r"`labels` must lie in 0..9, .* at image 110"):
        construct(trained_mlp, wrong, Construction("deterministic_target"))
    dead = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.ReLU(), nn.Linear(10, 10))
    nn.init.zeros_(dead[1].weight)
    nn.init.zeros_(dead[1].bias)
    with pytest.raises(AttackError, match="construct: the code at 'penultimate' is zero for every image. Name another layer."):
        construct(dead, images, Construction("robust", steps=2))
    with pytest.raises(AttackError, match="construct: at least 2 images are needed; got 1"):
        construct(trained_mlp, images.subset(1), Construction("robust"))
    with pytest.raises(AttackError, match=r"`layer` must name one layer; '\*' matches 4 \(flatten, hidden1, tanh1, output\)"):
        construct(trained_mlp, images, Construction("robust", layer="*"))


def test_robustness_is_of_the_first_five_hundred_images():
    labels = torch.arange(510) % 2
    inputs = labels.float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2) * 0.8 + 0.1
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[-1.0] * 4, [1.0] * 4]))
        model[1].bias.copy_(torch.tensor([2.0, -2.0]))
    labels[500:] = 1 - labels[500:]
    images = ImageSet(inputs.contiguous(), labels)
    kind = Construction("deterministic_target", steps=1, epsilon=0.1, step_size=0.1)
    assert construct(model, images, kind).record["model_accuracy"] == 1.0
    assert len(construct(model, images.subset(2), kind).images) == 2


@pytest.mark.parametrize("kind", ["robust", "random_target"])
def test_progress_and_what_is_saved(trained_mlp, images, tmp_path, kind):
    seen = []
    few = images.subset(20)
    made = construct(
        trained_mlp, few, Construction(kind, steps=1, epsilon=0.1), batch_size=8, progress=lambda *now: seen.append(now)
    )
    assert seen == [(kind, 8, 20), (kind, 16, 20), (kind, 20, 20)]
    assert made.record["construction"]["step_size"] == 0.1
    made.save(tmp_path / "set.safetensors")
    kept = load_file(tmp_path / "set.safetensors")
    assert torch.equal(kept["starts"], made.starts)
    assert torch.equal(kept["start_labels"], few.labels[made.starts])
