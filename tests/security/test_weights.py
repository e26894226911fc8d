"""A wrong weight file can do nothing at all."""

import io
import os
import pickle
import stat
import struct
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from eigencode.datasets import load
from eigencode.errors import DataError, ModelError
from eigencode.models import load_weights, read_state_dict
from hostile_files import changed, state_dict, tar_that_links, torchscript, two_directories


def doors(path):
    """Every way in which a user names a file of tensors."""
    folder = path.parent / "release"
    folder.mkdir(exist_ok=True)
    for name in ("CIFAR_ims", "CIFAR_lab"):
        (folder / name).unlink(missing_ok=True)
        os.link(path, folder / name)
    return [
        (lambda: read_state_dict(path), ModelError),
        (lambda: load(f"tensors:{path}"), DataError),
        (lambda: load(f"ilyas:{folder}"), DataError),
    ]


def refused(path, match):
    for door, error in doors(path):
        with pytest.raises(error, match=match):
            door()


def test_a_zip_file_with_two_directories(tmp_path):
    path, marker = tmp_path / "weights.pt", tmp_path / "marker"
    path.write_bytes(two_directories(marker))
    assert "archive/data.pkl" in zipfile.ZipFile(path).namelist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated in newer versions
        torch.jit.load(path)
    assert marker.exists()  # it is what it claims to be
    marker.unlink()
    refused(path, "is a zip file with two directories, or a part of one")
    assert not marker.exists()


def test_a_program(tmp_path):
    path, marker = tmp_path / "weights.pt", tmp_path / "marker"
    path.write_bytes(torchscript(marker))
    refused(path, "is a TorchScript program, not weights")
    assert not marker.exists()


def test_a_tar_file(tmp_path):
    path, target = tmp_path / "weights.pt", tmp_path / "target"
    target.write_text("precious")
    target.chmod(0o600)
    before = changed(target)
    path.write_bytes(tar_that_links(target))
    refused(path, "is a tar archive, the format of PyTorch 0.1, which cannot be read safely")
    assert changed(target) == before


@pytest.mark.parametrize("ending", ["pt", "safetensors", "npz", "npy", "mat"])
def test_what_is_no_file(tmp_path, ending):
    pipe, folder = tmp_path / f"pipe.{ending}", tmp_path / f"folder.{ending}"
    os.mkfifo(pipe)
    folder.mkdir()
    link = tmp_path / f"device.{ending}"
    link.symlink_to("/dev/zero")
    for path, what in ((pipe, "a pipe"), (folder, "a folder"), (link, "a device")):
        for door, error in ((read_state_dict, ModelError), (lambda p: load(f"tensors:{p}"), DataError)):
            with pytest.raises(error, match=f"{path} is {what}, not a file. Name a file."):
                door(path)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_names_that_no_file_can_have(tmp_path):
    for name in ("a" * 300 + ".pt", "a\0b.pt"):
        with pytest.raises(ModelError, match=r"cannot be opened \(.*\). Check the path."):
            read_state_dict(tmp_path / name)


def in_pt(pickled, path):
    """A zip file of torch.save whose pickle is another."""
    with zipfile.ZipFile(io.BytesIO(state_dict())) as whole, zipfile.ZipFile(path, "w") as made:
        for name in whole.namelist():
            made.writestr(name, pickled if name.endswith("data.pkl") else whole.read(name))


@pytest.mark.parametrize(
    ("pickled", "reason"),
    [
        (b"(" * 200_000 + b"t" * 200_000 + b"}" + b"0.", None),
        (b"\x80\x02}" + b"(" * 50_000 + b"t" * 50_000 + b"NS'x'\n.", None),
        (b"\x80\x02}" + b")\x85" + b"\x85" * 100_000 + b"K\x01s.", "a key of nested tuples"),
        (
            b"\x80\x02(" + b"K\x01K\x01\x86" * 1000 + b"lq\x00" + b"ccollections\nCounter\nh\x00\x85R0" * 1000 + b"}.",
            "copies without end",
        ),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x02]}", "pickle exhausted|without end"),
    ],
    ids=["depth", "marks", "key", "copies", "extension", "end"],
)
def test_pickles_without_measure(tmp_path, pickled, reason):
    path = tmp_path / "weights.pt"
    in_pt(pickled, path)
    with pytest.raises(ModelError, match=reason or "holds no tensors|is not a PyTorch checkpoint"):
        read_state_dict(path)


def test_a_dict_whose_methods_were_replaced(tmp_path):
    path = tmp_path / "weights.pt"
    in_pt(b"\x80\x02ccollections\nOrderedDict\n)R}(X\x05\x00\x00\x00itemsctorch\nSize\nub.", path)
    with pytest.raises(ModelError, match="holds no tensors"):
        read_state_dict(path)


def test_sizes_are_checked_before_memory_is_taken(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(1).expand(2**40)}, path)
    with pytest.raises(ModelError, match="declares a with 1099511627776 numbers, far more than it holds"):
        read_state_dict(path)
    torch.save({f"a{n}": torch.zeros(1).expand(2**25) for n in range(3)}, path)
    with pytest.raises(ModelError, match="declares a2 with 33554432 numbers, far more than it holds"):
        read_state_dict(path)
    torch.save({"a": torch.zeros(1).expand(5)}, path)
    assert read_state_dict(path)["a"].tolist() == [0.0] * 5
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("archive/data.pkl", b"\x80\x02}.")
        with made.open("archive/data/0", "w") as stream:
            for _ in range(300):
                stream.write(bytes(2**20))
    with pytest.raises(ModelError, match=r"has \d+ bytes and declares that it holds 3145\d+, which looks like a trap"):
        read_state_dict(path)


def test_damage_is_found(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.arange(1000.0)}, path)
    whole = bytearray(path.read_bytes())
    at = whole.find(struct.pack("<2f", 500.0, 501.0))
    whole[at] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ModelError, match="is not a PyTorch checkpoint, or is damaged .*CRC"):
        read_state_dict(path)


class TestStillRead:
    """What torch.load(weights_only=True) reads."""

    @pytest.mark.parametrize("legacy", [False, True])
    def test_all_types_and_views(self, tmp_path, legacy):
        path = tmp_path / "weights.pt"
        base = torch.arange(24.0)
        dtypes = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]
        stored = {str(dtype): torch.arange(5).to(dtype) for dtype in dtypes}
        stored |= {
            "bool": torch.tensor([True, False]),
            "complex": torch.tensor([1 + 2j]),
            "conjugate": torch.tensor([1 + 2j]).conj(),
            "negative": torch.tensor([1 + 2j]).conj().imag,
            "transposed": base.view(4, 6).T,
            "part": base[3:9],
            "none": torch.zeros(0, 3),
            "scalar": torch.tensor(3.0),
            "parameter": nn.Parameter(torch.ones(2)),
            "buffer": torch.nn.Buffer(torch.ones(2)) if hasattr(torch.nn, "Buffer") else torch.ones(2),
        }
        if not legacy:
            stored |= {"float8": torch.ones(3).to(torch.float8_e4m3fn), "uint16": torch.tensor([7], dtype=torch.uint16)}
        torch.save(stored, path, _use_new_zipfile_serialization=not legacy)
        expected = torch.load(path, weights_only=True)
        found = read_state_dict(path)
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert found[name].dtype == tensor.dtype, name
            assert torch.equal(found[name].to(torch.complex128), tensor.detach().to(torch.complex128)), name

    def test_shared_storage_is_shared(self, tmp_path):
        path, weight = tmp_path / "weights.pt", torch.ones(3)
        torch.save({"a": weight, "b": weight}, path)
        found = read_state_dict(path)
        assert found["a"].data_ptr() == found["b"].data_ptr()

    def test_parameters_with_attributes(self, tmp_path):
        path, parameter = tmp_path / "weights.pt", nn.Parameter(torch.ones(2))
        parameter.no_weight_decay = True
        torch.save({"a": parameter}, path)
        assert read_state_dict(path)["a"].tolist() == [1.0, 1.0]

    @pytest.mark.parametrize("checked", [False, True])
    def test_without_digests(self, tmp_path, checked):
        path, before = tmp_path / "weights.pt", torch.serialization.get_crc32_options()
        torch.serialization.set_crc32_options(checked)
        try:
            torch.save({"a": torch.arange(10)}, path)
        finally:
            torch.serialization.set_crc32_options(before)
        assert read_state_dict(path)["a"].tolist() == list(range(10))

    def test_other_byte_order(self, tmp_path):
        path = tmp_path / "weights.pt"
        torch.save({"a": torch.arange(3.0), "b": torch.tensor([1 + 2j])}, path)
        with zipfile.ZipFile(path) as whole:
            entries = {name: whole.read(name) for name in whole.namelist()}
        with zipfile.ZipFile(path, "w") as made:
            for name, content in entries.items():
                if "/data/" in name:
                    content = b"".join(content[at : at + 4][::-1] for at in range(0, len(content), 4))
                made.writestr(name, b"big" if name.endswith("byteorder") else content)
        assert read_state_dict(path)["a"].tolist() == [0.0, 1.0, 2.0]
        assert read_state_dict(path)["b"].tolist() == [1 + 2j]

    def test_torch_03(self, tmp_path):
        """A stream as PyTorch 0.3 wrote it: ``_rebuild_tensor``, and a storage that is a view of another."""
        path = tmp_path / "weights.pth"

        def short(text):
            return b"X" + struct.pack("<I", len(text)) + text.encode()

        def tensor(key, view, shape):
            identifier = b"(" + short("storage") + b"ctorch\nFloatStorage\n" + short(key) + short("cpu") + b"K\x06" + view + b"tQ"
            return b"ctorch._utils\n_rebuild_tensor\n(" + identifier + b"K\x00(" + shape + b"t(K\x01ttR"

        body = b"\x80\x02ccollections\nOrderedDict\n)R(" + short("a") + tensor("7", b"N", b"K\x06")
        body += short("b") + tensor("7", b"(" + short("8") + b"K\x02K\x03t", b"K\x03") + b"u."
        numbers = struct.pack("<q6f", 6, *range(6))
        parts = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
        path.write_bytes(b"".join(pickle.dumps(p, protocol=2) for p in parts) + body + pickle.dumps(["7"], protocol=2) + numbers)
        expected = torch.load(path, weights_only=True)
        found = read_state_dict(path)
        assert found["a"].tolist() == expected["a"].tolist() == [0, 1, 2, 3, 4, 5]
        assert found["b"].tolist() == expected["b"].tolist() == [2, 3, 4]

    def test_ordinary_metadata_is_no_alarm(self, tmp_path):
        path = tmp_path / "weights.pt"
        beside = [
            pd.DataFrame({"loss": [1.0, 2.0], "phase": ["a", "b"]}),
            slice(1, 5),
            range(3),
            complex(1, 2),
            bytearray(b"xy"),
            {1, 2},
            frozenset({3}),
            path,
            "".upper,
        ]
        torch.save({"state_dict": {"weight": torch.ones(2, 2), "bias": torch.ones(2)}, "beside": beside}, path)
        model = nn.Linear(2, 2)
        load_weights(model, path)
        assert model.weight.tolist() == [[1.0, 1.0], [1.0, 1.0]]

    def test_quantised_tensors_are_named(self, tmp_path):
        path = tmp_path / "weights.pt"
        torch.save({"a": torch.sparse_coo_tensor([[0]], [1.0], (2,), check_invariants=False)}, path)
        with pytest.raises(ModelError, match="a is a sparse tensor, which is not read. Store it as an ordinary one."):
            read_state_dict(path)


def test_no_reader_of_torch_is_used():
    """Neither torch.load nor torch.jit.load nor pickle.load is called anywhere in the package."""
    script = (
        "import sys, torch, pickle\n"
        "def forbidden(*a, **k): raise SystemExit('called')\n"
        "torch.load = torch.jit.load = pickle.load = pickle.loads = forbidden\n"
        "from eigencode.models import read_state_dict\n"
        "print(len(read_state_dict(sys.argv[1])))\n"
    )
    path = "weights_for_no_reader.pt"
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/weights.pt"
        torch.save({"a": torch.ones(1)}, path)
        done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1", done.stderr


def stream(body):
    """What torch.save wrote before archives, around the bytes of a pickle."""
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    return head + b"\x80\x02" + body + b"." + pickle.dumps([], 2)


def doubled(levels):
    """A list of two references to a list of two references, and so on: written out it has no end."""
    parts = (b"]q" + bytes([level]) + b"(" + 2 * (b"h" + bytes([level - 1])) + b"e" for level in range(1, levels))
    return b"]q\x00" + b"".join(parts)


def wide_key():
    """A dict whose key is a tuple of sixty tuples of sixty tuples, and so on."""
    parts = (b"(" + 60 * (b"h" + bytes([level - 1])) + b"tq" + bytes([level]) for level in range(1, 6))
    return b"K\x01q\x00" + b"".join(parts) + b"}h\x05K\x01s"


def wrapped_in_itself():
    found = dict.fromkeys(range(3000))
    for name in ("state_dict", "model_state_dict", "model", "net", "module", "weights"):
        found[name] = found
    return pickle.dumps(found, 2)[2:-1]


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (doubled(60) + b"(X\x07\0\0\0storageh\x3bX\x01\0\0\0kX\x03\0\0\0cpuK\x01tQ", r"a storage of kind a list"),
        (doubled(60) + b"h\x3b)R", r"a call of a list"),
        (doubled(60) + b"c__main__\nThing\n)R)R", r"a Made, not tensors by name|is a pickled"),
        (b"(X\x07\0\0\0storagec__main__\nFloatStorage\n" + doubled(60) + b"X\x03\0\0\0cpuK\x01tQ", r"a list where a text is expected"),
        (wide_key(), r"a key of nested tuples"),
        (wrapped_in_itself(), r"holds no tensors"),
    ],
    ids=["storage", "call", "made", "key of storage", "key", "wrappers"],
)  # fmt: skip
def test_parts_that_are_shared_without_end(tmp_path, body, match):
    path = tmp_path / "weights.pt"
    path.write_bytes(stream(body))
    with pytest.raises(ModelError, match=match):
        read_state_dict(path)


def test_an_archive_of_two_folders(tmp_path):
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as both:
        for name, value in (("a", 0.0), ("b", 1.0)):
            torch.save({"w": torch.full((2,), value)}, tmp_path / f"{name}.pt")
            with zipfile.ZipFile(tmp_path / f"{name}.pt") as one:
                for entry in one.namelist():
                    both.writestr(f"{name}/{entry.partition('/')[2]}", one.read(entry))
    with pytest.raises(ModelError, match=r"has several folders in it, which torch\.save does not write\. Do not use this file\."):
        read_state_dict(path)


def test_a_header_that_begins_like_a_web_page_is_none(tmp_path):
    """The length of a safetensors header comes first: 15392 is a blank and a less-than sign."""
    path = tmp_path / "weights.safetensors"
    save_file({"w": torch.ones(3)}, path, metadata={"note": "x" * 15_000})
    length = int.from_bytes(path.read_bytes()[:8], "little")
    save_file({"w": torch.ones(3)}, path, metadata={"note": "x" * (15_000 + 15_392 - length)})
    assert path.read_bytes()[:2] == b" <"
    assert read_state_dict(path)["w"].tolist() == [1, 1, 1]


def test_an_npz_file_says_so_in_its_name(tmp_path):
    with (tmp_path / "a.pt").open("wb") as file:
        np.savez(file, inputs=np.zeros(3), labels=np.zeros(3))
    with pytest.raises(ModelError, match=r"a\.pt is an \.npz file of arrays\. Name it so, with \.npz at its end\."):
        read_state_dict(tmp_path / "a.pt")
