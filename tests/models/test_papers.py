import pytest
import torch
from torch import nn

from eigencode import models
from eigencode.errors import ModelError


def test_initial_weights_of_jiangs_layers_have_the_spread_that_is_asked():
    """The default is He's, drawn as PyTorch's own initialisation draws it."""
    default, small = (
        models.load("jiang_mlp", image_shape=(1, 28, 28), seed=3, **options) for options in ({}, {"initial_gain": 0.577})
    )
    for number, inputs in enumerate((784, 200)):
        he, less = (network.layers[number][0].weight for network in (default, small))
        assert he.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.02)
        torch.testing.assert_close(less, he * 0.577 / 2**0.5)
    assert torch.equal(default.classifiers[0].weight, small.classifiers[0].weight)


def layers(model):
    return [
        (type(m).__name__, *((m.in_features, m.out_features) if isinstance(m, nn.Linear) else ()))
        for m in model.modules()
        if not any(True for _ in m.children())
    ]


def test_gerum_shallow():
    assert layers(models.gerum_shallow_mlp()) == [("Flatten",), ("Linear", 784, 2000), ("Tanh",), ("Linear", 2000, 10)]


def test_gerum_deep():
    sizes = [entry[1:] for entry in layers(models.gerum_deep_mlp()) if entry[0] == "Linear"]
    assert sizes == [(784, 1000), (1000, 1000), (1000, 1000), (1000, 10)]


def test_gerum_cnn():
    model = models.gerum_cnn((3, 32, 32))
    assert (model.conv1.out_channels, model.conv2.out_channels, model.conv1.kernel_size) == (16, 32, (3, 3))
    assert [entry for entry in layers(model) if entry[0] == "Linear"] == [("Linear", 32 * 6 * 6, 1000), ("Linear", 1000, 10)]


def test_gerum_starts_as_keras_does():
    model = models.gerum_shallow_mlp()
    limit = (6 / (784 + 2000)) ** 0.5
    weight = model.hidden1.weight.detach()
    assert float(weight.abs().max()) <= limit
    assert float(weight.std()) == pytest.approx(limit / 3**0.5, rel=0.01)
    assert not model.hidden1.bias.any()


def test_schaeffer_is_the_printed_network():
    model = models.schaeffer_cnn()
    assert (model.conv1.weight.shape, model.conv2.weight.shape) == ((6, 3, 5, 5), (16, 6, 5, 5))
    sizes = [entry[1:] for entry in layers(model) if entry[0] == "Linear"]
    assert sizes == [(400, 2000), (2000, 1000), (1000, 10)]


class TestJiang:
    def test_equation_1(self, generator):
        model = models.JiangNetwork((1, 4, 4), 3, width=5, depth=3)
        x = torch.rand(7, 1, 4, 4, generator=generator)
        code, expected = x.flatten(1), []
        for layer, classifier in zip(model.layers, model.classifiers, strict=True):
            code = (code @ layer[0].weight.T).clamp_min(0)
            expected.append(code @ classifier.weight.T)
        for found, score in zip(model.local_scores(x), expected, strict=True):
            assert torch.allclose(found, score, atol=1e-6)
        assert torch.equal(model(x), model.local_scores(x)[-1])

    def test_sizes_and_initial_weights(self):
        model = models.JiangNetwork()
        assert [tuple(layer[0].weight.shape) for layer in model.layers] == [(200, 784)] + [(200, 200)] * 7
        assert all(layer[0].bias is None for layer in model.layers)
        assert not any(classifier.weight.requires_grad for classifier in model.classifiers)
        spread = torch.cat([classifier.weight.flatten() for classifier in model.classifiers]).std().detach()
        assert float(spread) == pytest.approx(0.3, rel=0.03)
        assert float(model.layers[1][0].weight.detach().std()) == pytest.approx((2 / 200) ** 0.5, rel=0.02)

    def test_errors(self):
        with pytest.raises(ModelError) as caught:
            models.JiangNetwork(width=0)
        assert str(caught.value) == "jiang_mlp: `width` and `depth` must be at least 1; got 0 and 8."


@pytest.mark.parametrize("name", models.PAPER_MODELS)
@pytest.mark.parametrize("image_shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_every_network_takes_every_image(name, image_shape, generator):
    model = models.load(name, image_shape=image_shape, classes=7)
    assert not model.training
    with torch.no_grad():
        assert model(torch.rand(2, *image_shape, generator=generator)).shape == (2, 7)


def test_cifar_resnet50_reads_the_robustness_librarys_files(tmp_path, generator):
    model = models.CifarResNet50()
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {"conv1.weight", "linear.weight", "linear.bias", *(f"bn1.{name}" for name in norm)}
    for layer, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            names |= {f"layer{layer}.{block}.conv{number}.weight" for number in (1, 2, 3)}
            names |= {f"layer{layer}.{block}.bn{number}.{name}" for number in (1, 2, 3) for name in norm}
        names |= {f"layer{layer}.0.shortcut.0.weight", *(f"layer{layer}.0.shortcut.1.{name}" for name in norm)}
    assert set(model.state_dict()) == names
    assert sum(parameter.numel() for parameter in model.parameters()) == 23_520_842  # as the library's
    stored = {f"module.model.{name}": value for name, value in model.state_dict().items()}
    stored |= {"module.normalizer.new_mean": torch.zeros(3, 1, 1), "module.attacker.model.conv1.weight": torch.zeros(1)}
    torch.save({"model": stored, "epoch": 1}, tmp_path / "cifar_nat.pt")
    loaded = models.load("cifar_resnet50", weights=tmp_path / "cifar_nat.pt", seed=5)
    images = torch.rand(2, 3, 32, 32, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), model.eval()(images))


@pytest.mark.parametrize("name", ["gerum_cnn", "schaeffer_cnn"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (1, 2, 2), (3, 1, 1)])
def test_images_that_leave_nothing(name, shape):
    with pytest.raises(ModelError, match="are too small for this network: its convolutions leave nothing of them"):
        models.load(name, image_shape=shape)


def test_images_without_pixels():
    with pytest.raises(ModelError, match=r"`image_shape` must be at least 1; got 0\."):
        models.load("jiang_mlp", image_shape=(1, 0, 0))
