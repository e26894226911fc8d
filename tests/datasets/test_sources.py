import gzip
import struct
import urllib.request

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.io import savemat

from eigencode.datasets import data_root, load
from eigencode.errors import DataError, ReliabilityWarning


def test_digits_have_two_disjoint_splits():
    train, test = load("digits", split="train"), load("digits", split="test")
    assert (len(train), len(test), train.shape) == (1297, 500, (1, 8, 8))
    together = torch.cat([train.inputs, test.inputs])
    assert float(together.max()) == 1.0
    assert sorted(set(test.labels.tolist())) == list(range(10))


@pytest.fixture
def small_mnist(tmp_path):
    """Six images in MNIST's own format."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    pixels = np.arange(6 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(6, 28, 28)
    for part, name in (("train", "train"), ("test", "t10k")):
        del part
        images = struct.pack(">IIII", 0x803, 6, 28, 28) + pixels.tobytes()
        labels = struct.pack(">II", 0x801, 6) + bytes(range(6))
        for kind, body in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{name}-{kind}-ubyte").write_bytes(body)
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(body))
    return tmp_path, pixels


def test_reads_mnist_from_a_root(small_mnist, monkeypatch):
    root, pixels = small_mnist
    images = load("mnist", root=root)
    assert images.inputs[:, 0].numpy() == pytest.approx(pixels / 255)
    assert images.labels.tolist() == list(range(6))
    assert images.name == "mnist/test"
    monkeypatch.setenv("EIGENCODE_DATA", str(root))
    assert data_root() == root
    assert len(load("mnist", split="train", count=4)) == 4


def test_no_network_says_where_to_put_the_files(tmp_path, monkeypatch):
    def no_network(*_args, **_options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    for name in ("mnist", "fashion_mnist", "cifar10"):
        with pytest.raises(DataError) as caught:
            load(name, root=tmp_path / "new")
        assert str(caught.value).startswith(f"{name} is not under {tmp_path}/new and could not be downloaded (")
        assert str(caught.value).endswith(
            "Connect to the network, or put it there in torchvision's layout, or name its folder with --data_root or EIGENCODE_DATA."
        )
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def folder(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for index in range(3):
            shade = 40 * index + (100 if label == "dog" else 0)
            Image.new("RGB", (10 + 2 * index, 12), (shade, shade, shade)).save(tmp_path / label / f"{index}.png")
    return tmp_path


def test_image_folder(folder):
    images = load(f"image_folder:{folder}", image_size=8)
    assert images.inputs.shape == (6, 3, 8, 8)
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.inputs[4, 0, 0, 0].item() == pytest.approx(140 / 255)
    assert load(f"image_folder:{folder}", image_size=8, count=2).inputs.shape[0] == 2


def test_image_folder_errors(folder, tmp_path):
    with pytest.raises(DataError, match=r"images must have one size; got \(12, 10\) and \(12, 12\) .* Pass --image_size."):
        load(f"image_folder:{folder}")
    (folder / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cat/0.png is not a readable image .* Remove it."):
        load(f"image_folder:{folder}", image_size=8)
    with pytest.raises(DataError, match="nowhere is not a folder. Check the path."):
        load(f"image_folder:{tmp_path}/nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="must hold images, or one folder of images for each class. Arrange it so."):
        load(f"image_folder:{tmp_path}/empty")
    (folder / "cat" / "0.png").unlink()
    with pytest.raises(DataError, match=r"/empty has no images\. Remove it, or fill it\."):
        load(f"image_folder:{folder}", image_size=8)


@pytest.mark.parametrize("ending", ["npz", "safetensors", "pt"])
def test_tensor_files(tmp_path, ending, generator):
    inputs, labels = torch.rand(5, 1, 4, 4, generator=generator), torch.arange(5)
    path = tmp_path / f"set.{ending}"
    if ending == "npz":
        np.savez(path, inputs=inputs.numpy(), labels=labels.numpy())
    elif ending == "safetensors":
        save_file({"inputs": inputs, "labels": labels}, path)
    else:
        torch.save({"images": inputs, "targets": labels}, path)
    images = load(f"tensors:{path}")
    assert torch.equal(images.inputs, inputs)
    assert torch.equal(images.labels, labels)


def test_tensor_files_errors(tmp_path):
    np.savez(tmp_path / "a.npz", pictures=np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"a.npz must hold an array `inputs`; got pictures. Rename it."):
        load(f"tensors:{tmp_path}/a.npz")
    np.savez(tmp_path / "b.npz", inputs=np.zeros((2, 1, 4, 4), np.int32))
    with pytest.raises(DataError, match="images must be float32; got int32"):
        load(f"tensors:{tmp_path}/b.npz")
    (tmp_path / "c.pt").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"c.pt is a web page. The download failed; fetch the file itself."):
        load(f"tensors:{tmp_path}/c.pt")
    with pytest.raises(DataError, match="d.npz does not exist. Check the path."):
        load(f"tensors:{tmp_path}/d.npz")
    (tmp_path / "e.txt").write_text("")
    with pytest.raises(
        DataError, match=r"e.txt must end in .npz, .npy, .safetensors, .pt, .pth, .mat, .h5, .hdf5. Change the format."
    ):
        load(f"tensors:{tmp_path}/e.txt")


def test_a_tensor_file_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("owned",))

    torch.save({"inputs": Evil()}, tmp_path / "evil.pt")
    np.savez(tmp_path / "evil.npz", inputs=np.array([Evil()], dtype=object))
    for name, reason in (
        ("evil.pt", "must hold an array `inputs`; got none"),
        ("evil.npz", "Python objects, which are not read"),
    ):
        with pytest.raises(DataError, match=f"{name}.*{reason}"):
            load(f"tensors:{tmp_path}/{name}")


def test_unknown_names():
    with pytest.raises(DataError) as caught:
        load("imagenet")
    assert str(caught.value) == (
        "load: no data set is called 'imagenet'. Use one of digits, mnist, fashion_mnist, cifar10, image_folder:PATH, "
        "tensors:PATH, ilyas:PATH, tokens:PATH (texts)."
    )
    with pytest.raises(DataError) as caught:
        load("digits", split="validation")
    assert str(caught.value) == "load: `split` must be one of train, test; got 'validation'."


def test_paths_without_a_kind_and_texts_are_named_rightly(tmp_path):
    np.savez(tmp_path / "texts.npz", input_ids=np.ones((3, 4), int))
    for path, kind in ((tmp_path, "image_folder"), (tmp_path / "texts.npz", "tensors")):
        with pytest.raises(DataError, match=f"Did you mean {kind}:{path}"):
            load(str(path))
    with pytest.raises(DataError, match=f"got input_ids. Name texts tokens:{tmp_path}"):
        load(f"tensors:{tmp_path}/texts.npz")


@pytest.mark.real_data("mnist", "cifar10")
def test_real_sets():
    mnist, cifar = load("mnist"), load("cifar10", split="train")
    assert (len(mnist), mnist.shape, len(cifar), cifar.shape) == (10000, (1, 28, 28), 50000, (3, 32, 32))
    # the well-known channel means of CIFAR-10's training images
    assert cifar.inputs.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)
    assert mnist.labels[:5].tolist() == [7, 2, 1, 0, 4]


class TestIlyas:
    def release(self, folder, images, labels):
        folder.mkdir(exist_ok=True)
        torch.save(images, folder / "CIFAR_ims")
        torch.save(labels, folder / "CIFAR_lab")
        return f"ilyas:{folder}"

    def test_reads_lists_and_tensors(self, tmp_path):
        images, labels = torch.rand(6, 3, 32, 32), torch.arange(6)
        as_tensors = load(self.release(tmp_path / "a", images, labels))
        as_lists = load(self.release(tmp_path / "b", list(images.split(4)), list(labels)))
        for found in (as_tensors, as_lists):
            assert torch.equal(found.inputs, images)
            assert torch.equal(found.labels, labels)
        assert as_tensors.name == f"ilyas:{tmp_path / 'a'}"

    def test_refuses_what_is_no_release(self, tmp_path):
        with pytest.raises(
            DataError, match="must be a folder with the released files CIFAR_ims and CIFAR_lab; CIFAR_ims is not there"
        ):
            load(f"ilyas:{tmp_path}")
        with pytest.raises(DataError, match="CIFAR_lab must hold a tensor or a list of tensors; got dict. Check the file."):
            load(self.release(tmp_path, torch.rand(2, 3, 8, 8), {"a": 1}))
        (tmp_path / "CIFAR_ims").write_bytes(b"<html>not found</html>")
        with pytest.raises(DataError, match="CIFAR_ims is a web page. The download failed; fetch the file itself."):
            load(f"ilyas:{tmp_path}")

    def test_runs_nothing_that_is_stored(self, tmp_path):
        import pickle

        class Hostile:
            def __reduce__(self):
                return (open, (str(tmp_path / "touched"), "w"))

        self.release(tmp_path, torch.rand(2, 3, 8, 8), torch.arange(2))
        (tmp_path / "CIFAR_ims").write_bytes(pickle.dumps(Hostile()))
        with pytest.raises(DataError, match="CIFAR_ims is a pickle that torch.save did not write"):
            load(f"ilyas:{tmp_path}")
        assert not (tmp_path / "touched").exists()


def test_a_link_to_a_folder_that_it_is_in(folder):
    (folder / "cat" / "again").symlink_to(folder / "cat")
    with pytest.raises(DataError, match=r"cat/again is a link to a folder that it is in\. Remove it\."):
        load(f"image_folder:{folder}", image_size=8)


def test_links_to_other_folders_are_followed(folder, tmp_path_factory):
    others = tmp_path_factory.mktemp("others")
    (folder / "dog").rename(others / "dog")
    (folder / "dog").symlink_to(others / "dog")
    assert len(load(f"image_folder:{folder}", image_size=8)) == 6


@pytest.mark.parametrize(("dtype", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_pictures_without_a_known_range_are_refused(folder, dtype, mode):
    """Converted, all that is above 255 would be white."""
    for path in folder.rglob("*.png"):
        path.unlink()
    for label in ("cat", "dog"):
        Image.fromarray(np.full((9, 9), 200, dtype)).save(folder / label / "0.tif")
    with pytest.raises(
        DataError, match=rf"has numbers without a known range \(mode {mode}.*\)\. Save it as PNG with 8 or 16 bits"
    ):
        load(f"image_folder:{folder}")


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_sixteen_bits(tmp_path, ending):
    levels = np.arange(0, 65_536, 256, dtype=np.uint16).reshape(16, 16)
    for name, pixels in (("a", levels), ("b", levels[::-1].copy())):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / f"0.{ending}")
    images = load(f"image_folder:{tmp_path}")
    assert images.inputs.shape == (2, 3, 16, 16)
    assert torch.equal(images.inputs[0, 1], torch.from_numpy(levels.astype(np.float32) / 65_535))
    small = load(f"image_folder:{tmp_path}", image_size=8)
    assert small.inputs.shape == (2, 3, 8, 8)
    assert float(small.inputs.max()) <= 1


def shades(folder, names):
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (4, 4), (20 * number,) * 3).save(folder / name / "0.png")


def labels_of(images):
    return {round(float(image.mean()) * 255 / 20): int(label) for image, label in zip(images.inputs, images.labels, strict=True)}


def test_hidden_folders_are_no_classes(tmp_path):
    shades(tmp_path, ["a", "b", ".ipynb_checkpoints"])
    assert labels_of(load(f"image_folder:{tmp_path}")) == {0: 0, 1: 1}
    shades(tmp_path / "a", [".ipynb_checkpoints"])
    (tmp_path / "b" / "._0.png").write_bytes(b"of macOS")
    assert labels_of(load(f"image_folder:{tmp_path}")) == {0: 0, 1: 1}


def test_pictures_beside_folders_of_classes_are_refused(tmp_path):
    shades(tmp_path, ["thumbs"])
    Image.new("RGB", (4, 4)).save(tmp_path / "one.png")
    with pytest.raises(DataError, match=r"holds images beside folders of classes, such as one\.png\. Move one of them\."):
        load(f"image_folder:{tmp_path}")


def test_numbered_folders_are_in_the_order_of_their_numbers(tmp_path, recwarn):
    shades(tmp_path / "from_0", [str(number) for number in range(12)])
    assert labels_of(load(f"image_folder:{tmp_path}/from_0")) == {number: number for number in range(12)}
    assert not recwarn.list
    shades(tmp_path / "from_1", [f"{number:03}" for number in range(1, 12)])
    with pytest.warns(ReliabilityWarning, match="are numbered 1 to 11; their labels are 0 to 10 in this order"):
        assert labels_of(load(f"image_folder:{tmp_path}/from_1")) == {number: number for number in range(11)}


def test_pictures_in_no_folder_have_no_labels(tmp_path):
    for number in range(3):
        Image.new("RGB", (4, 4), (20 * number,) * 3).save(tmp_path / f"{number}.png")
    (tmp_path / ".cache").mkdir()
    assert labels_of(load(f"image_folder:{tmp_path}")) == {0: -1, 1: -1, 2: -1}


def test_pictures_stand_as_exif_says(tmp_path):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    for name, options in (("a", {}), ("b", {"exif": exif})):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "0.png", **options)
    with pytest.raises(DataError, match=r"got \(4, 6\) and \(6, 4\)"):
        load(f"image_folder:{tmp_path}")
    (tmp_path / "a" / "0.png").unlink()
    (tmp_path / "a").rmdir()
    (image,) = load(f"image_folder:{tmp_path}").inputs
    assert image[0, :, -1].tolist() == [1.0] * 6  # the upper edge is the right one now


@pytest.mark.parametrize("shape", [(3, 1, 0, 8), (3, 0, 8, 8), (3, 1, 8, 0)])
def test_images_without_pixels(shape, tmp_path):
    save_file({"inputs": torch.zeros(shape)}, tmp_path / "i.safetensors")
    with pytest.raises(DataError, match=r"images must have pixels; got shape"):
        load(f"tensors:{tmp_path / 'i.safetensors'}")


def test_labels_of_a_mat_file_are_a_row_or_a_column(tmp_path):
    images = np.random.default_rng(0).random((6, 1, 8, 8))
    for number, labels in enumerate((np.arange(6), np.arange(6)[:, None], np.arange(6.0)[None])):
        savemat(tmp_path / f"{number}.mat", {"images": images.astype("float32"), "labels": labels})
        assert load(f"tensors:{tmp_path / f'{number}.mat'}").labels.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_single_tensor_is_told_from_damage(tmp_path):
    torch.save(torch.rand(6, 1, 8, 8), tmp_path / "bare.pt")
    with pytest.raises(DataError) as caught:
        load(f"tensors:{tmp_path / 'bare.pt'}")
    wanted = "holds a single tensor, not a dict of tensors. Save them by their names: inputs, and labels."
    assert str(caught.value) == f"tensors: {tmp_path / 'bare.pt'} {wanted}"


@pytest.mark.parametrize("name", ["labels", "targets", "y"])
def test_labels_that_are_texts_are_refused(tmp_path, name):
    np.savez(
        tmp_path / "a.npz",
        inputs=np.random.default_rng(0).random((4, 1, 8, 8), dtype=np.float32),
        **{name: np.array(["cat"] * 4)},
    )
    with pytest.raises(DataError, match=f"{name} must be whole numbers; got something else. Number the classes from 0."):
        load(f"tensors:{tmp_path / 'a.npz'}")


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16, torch.uint8])
def test_tensors_of_any_kind_of_number(tmp_path, kind, generator):
    pixels = torch.randint(256, (5, 1, 4, 6), generator=generator, dtype=torch.uint8)
    stored = pixels if kind == torch.uint8 else (pixels / 255).to(kind)
    save_file({"inputs": stored}, tmp_path / "a.safetensors")
    found = load(f"tensors:{tmp_path / 'a.safetensors'}").inputs
    assert found.dtype == torch.float32
    assert torch.allclose(found, pixels / 255, atol=1e-2 if kind == torch.bfloat16 else 1e-3)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_arrays_as_medmnist_has_them(tmp_path, channels):
    draws = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 7), ("val", 2), ("test", 4)):
        arrays[f"{split}_images"] = draws.integers(0, 256, (count, 8, 6, *channels), dtype=np.uint8)
        arrays[f"{split}_labels"] = draws.integers(0, 3, (count, 1), dtype=np.uint8)
    np.savez(tmp_path / "m.npz", **arrays)
    for split in ("train", "test"):
        images = load(f"tensors:{tmp_path / 'm.npz'}", split=split)
        pixels = arrays[f"{split}_images"].reshape(-1, 8, 6, len(channels) * 2 + 1).transpose(0, 3, 1, 2) / 255
        assert np.allclose(images.inputs.numpy(), pixels, atol=1e-6)
        assert images.labels.tolist() == arrays[f"{split}_labels"].ravel().tolist()


def test_labels_by_their_usual_names(tmp_path):
    for key in ("label", "target", "targets", "y"):
        np.savez(tmp_path / "l.npz", inputs=np.zeros((3, 1, 4, 4), np.float32), **{key: [2, 0, 1]})
        assert load(f"tensors:{tmp_path / 'l.npz'}").labels.tolist() == [2, 0, 1]
    np.savez(tmp_path / "l.npz", inputs=np.zeros((3, 1, 4, 4), np.float32), label=["cat", "dog", "cat"])
    with pytest.raises(DataError, match=r"label must be whole numbers; got something else\. Number the classes from 0\."):
        load(f"tensors:{tmp_path / 'l.npz'}")
