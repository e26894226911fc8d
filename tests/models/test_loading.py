import importlib.util
import subprocess
import sys

import pytest
import torch
from torch import nn

from eigencode import models
from eigencode._torchvision import import_torchvision
from eigencode.errors import ModelError


def test_seed_decides_and_global_randomness_is_left_alone():
    before = torch.random.get_rng_state()
    first, again, other = (models.load("gerum_cnn", seed=seed).conv1.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_torchvision_normalises_by_itself(generator):
    model = models.load("torchvision:resnet18", seed=3)
    images = torch.rand(2, 3, 32, 32, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        bare = import_torchvision("models").resnet18().eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = bare((images - mean.view(3, 1, 1)) / std.view(3, 1, 1))
        assert torch.allclose(model(images), expected, atol=1e-5)
    assert model.state_dict().keys() == bare.state_dict().keys()


def test_torchvision_imports_twice_in_one_process():
    assert import_torchvision("models") is import_torchvision("models")
    assert import_torchvision("datasets").MNIST is sys.modules["torchvision.datasets"].MNIST


def test_the_group_of_schaeffer():
    group = models.expand("schaeffer2020")
    assert len(group) == 11
    families = {name.removeprefix("torchvision:").rstrip("0123456789_").removesuffix("_") for name in group}
    assert families == {"alexnet", "googlenet", "mnasnet", "resnet", "vgg"}
    known = import_torchvision("models").list_models()
    assert all(name.removeprefix("torchvision:") in known for name in group)


def test_timm():
    if importlib.util.find_spec("timm") is None:  # not imported here: it needs torchvision, which the loader mends
        pytest.skip("needs timm")
    model = models.load("timm:resnet10t", classes=5)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 5)
    with pytest.raises(ModelError, match="timm has no network 'resnet10x'. Close names:"):
        models.load("timm:resnet10x")


@pytest.mark.parametrize("line", ["from layers import WIDTH", "from .layers import WIDTH", "import layers; WIDTH = layers.WIDTH"])
def test_a_file_may_import_its_neighbours(tmp_path, line):
    """Each its own, though they have one name; also when the network is made."""
    modules = set(sys.modules)
    for width in (3, 5):
        folder = tmp_path / str(width)
        folder.mkdir()
        (folder / "layers.py").write_text(f"WIDTH = {width}\n")
        (folder / "late.py").write_text("CLASSES = 2\n")
        body = "from torch import nn\n\ndef make():\n    from late import CLASSES\n    return nn.Linear(WIDTH, CLASSES)\n"
        (folder / "net.py").write_text(f"{line}\n{body}")
        assert models.load(f"file:{folder / 'net.py'}:make").in_features == width
    assert not {name for name in set(sys.modules) - modules if not name.startswith("eigencode_user_")}
    assert str(folder) not in sys.path


def test_own_network_from_a_file(tmp_path, generator):
    path = tmp_path / "mine.py"
    path.write_text(
        "from torch import nn\n"
        "def make(image_shape, classes=4):\n    return nn.Sequential(nn.Flatten(), nn.Linear(image_shape[1] ** 2, classes))\n"
        "def fail():\n    raise RuntimeError('no')\n"
        "def other():\n    return 3\n"
        "number = 3\n"
    )
    model = models.load(f"file:{path}:make", image_shape=(1, 8, 8))
    assert model(torch.rand(2, 1, 8, 8, generator=generator)).shape == (2, 4)
    for factory, text in [
        ("fail", f"load: fail in {path} failed (RuntimeError: no). Fix the factory."),
        ("other", f"load: other in {path} must return a torch.nn.Module; got int."),
        ("number", f"load: {path} has no callable 'number'. Check the name."),
        ("1x", f"load: file:{path}:1x names no factory. Write file:PATH.py:FACTORY."),
    ]:
        with pytest.raises(ModelError) as caught:
            models.load(f"file:{path}:{factory}")
        assert str(caught.value) == text
    path.write_text("import nothing_like_this")
    with pytest.raises(ModelError, match="could not be run .* Fix the file."):
        models.load(f"file:{path}:make")
    with pytest.raises(ModelError, match="gone.py does not exist. Check the path."):
        models.load(f"file:{tmp_path}/gone.py:make")


def test_own_network_from_a_module():
    assert isinstance(models.load("module:eigencode.models.papers:gerum_cnn"), nn.Sequential)
    with pytest.raises(ModelError, match=r"load: no_such_package.x could not be imported .* Install it"):
        models.load("module:no_such_package.x:make")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            "resnet50",
            "load: no network is called 'resnet50'. Use one of gerum_shallow_mlp, gerum_deep_mlp, gerum_cnn, schaeffer_cnn, "
            "cifar_resnet50, jiang_mlp, torchvision:NAME, timm:NAME, hf:NAME_OR_FOLDER, file:PATH.py:FACTORY, "
            "module:PACKAGE.MODULE:FACTORY.",
        ),
        ("torchvision:resnet7", "load: torchvision has no classification network 'resnet7'. It has alexnet, "),
    ],
)
def test_unknown_names(spec, text):
    with pytest.raises(ModelError) as caught:
        models.load(spec)
    assert str(caught.value).startswith(text)


def test_weights_by_name_without_network(monkeypatch):
    import urllib.request

    def no_network(*_args, **_options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    monkeypatch.setenv("TORCH_HOME", "/nonexistent")
    with pytest.raises(ModelError, match=r"load: weights 'DEFAULT' of resnet18 could not be downloaded \(.* pass a file with"):
        models.load("torchvision:resnet18", weights="DEFAULT")


def test_normalisation_errors():
    with pytest.raises(ModelError, match="`mean` and `std` must have one length, `std` positive"):
        models.normalize_inputs(nn.Identity(), (0.5,), (0.0,))


def test_a_factory_that_needs_classes_says_so(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef make(image_shape, classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    )
    with pytest.raises(ModelError) as caught:
        models.load(f"file:{tmp_path / 'net.py'}:make", image_shape=(1, 8, 8))
    assert str(caught.value).endswith("needs `classes`, which was not given. Pass --classes, or give the argument a default.")
    assert models.load(f"file:{tmp_path / 'net.py'}:make", image_shape=(1, 8, 8), classes=3)[1].out_features == 3


def test_networks_of_transformers_can_be_taken_where_torchvision_was_built_for_another_pytorch():
    """In a process of its own, since torchvision is loaded here."""
    pytest.importorskip("transformers")
    code = (
        "import eigencode as ec\nec.models.import_torchvision()\nimport transformers\n"
        "print(transformers.BertModel.__name__, ec.models.import_torchvision('models').__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "BertModel torchvision.models\n", done.stderr[-2000:]
