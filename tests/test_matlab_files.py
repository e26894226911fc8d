"""Our reader of .mat files against SciPy's, on good files of every kind."""

import sys

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.io import loadmat, savemat

import eigencode as ec
from eigencode._readers.arrays import read_arrays
from eigencode.errors import DataError, FileError

DTYPES = ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


def contents(seed):
    draw = np.random.default_rng(seed)
    found = {f"a_{kind}": (100 * draw.random((3, 5))).astype(kind) for kind in DTYPES}
    found |= {"three": draw.random((2, 3, 4)), "row": np.arange(7), "one": np.float64(3.5), "none": np.zeros((0, 3))}
    found |= {"yes": draw.random((2, 3)) < 0.5, "small": np.array([1, 2], np.uint8), "long_name_of_an_array": draw.random((1, 1))}
    return found


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_version_5_is_read_as_scipy_reads_it(tmp_path, compressed, seed):
    path = tmp_path / "a.mat"
    others = {"text": "hello", "cell": np.array([1, "a"], object), "struct": {"x": np.eye(2)}, "complex": np.eye(2) * 1j}
    savemat(path, contents(seed) | others, do_compression=compressed)
    expected, found = loadmat(path), read_arrays(path)
    assert np.array_equal(found.pop("struct.x").numpy(), np.eye(2))
    assert set(found) == set(contents(seed))
    for name, tensor in found.items():
        assert np.array_equal(tensor.numpy(), expected[name]), name
        assert tensor.numpy().dtype.kind == ("b" if name == "yes" else expected[name].dtype.kind)


@pytest.mark.parametrize("compressed", [False, True])
def test_sparse_matrices_are_filled(tmp_path, compressed):
    matrix = scipy.sparse.random(20, 30, 0.2, "csc", random_state=0)
    savemat(tmp_path / "a.mat", {"a": matrix, "empty": scipy.sparse.csc_matrix((3, 4))}, do_compression=compressed)
    found = read_arrays(tmp_path / "a.mat")
    assert np.array_equal(found["a"].numpy(), matrix.toarray())
    assert not found["empty"].any()


def test_version_4(tmp_path):
    given = {"a": np.random.default_rng(0).random((3, 5)), "b": np.arange(6, dtype=np.int16).reshape(2, 3), "text": "hello"}
    savemat(tmp_path / "a.mat", given, format="4")
    expected, found = loadmat(tmp_path / "a.mat"), read_arrays(tmp_path / "a.mat")
    assert set(found) == {"a", "b"}
    for name, tensor in found.items():
        assert np.array_equal(tensor.numpy(), expected[name])


def test_the_other_byte_order(tmp_path):
    """A file as a big-endian machine writes it, by hand: 2 x 3 doubles, written as bytes."""
    import struct

    body = struct.pack(">IIII", 6, 8, 6, 0) + struct.pack(">IIii", 5, 8, 2, 3) + struct.pack(">HHBxxx", 1, 1, ord("a"))
    body += struct.pack(">II", 2, 6) + bytes(range(6)) + bytes(2)
    path = tmp_path / "a.mat"
    path.write_bytes(
        b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H", 0x0100) + b"MI" + struct.pack(">II", 14, len(body)) + body
    )
    found = read_arrays(path)["a"].numpy()
    assert np.array_equal(found, loadmat(path)["a"])
    assert found.tolist() == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.parametrize("compressed", [False, True])
def test_fields_of_structures_are_named(tmp_path, compressed):
    """The layout of Stringer et al.'s recordings: ``stim`` with ``resp`` (presentations x neurons) and ``istim``."""
    responses = np.random.default_rng(0).random((60, 30))
    deep = {"x": np.arange(6.0).reshape(2, 3), "name": "text", "sparse": scipy.sparse.eye(4, format="csc")}
    stim = {"resp": responses, "istim": np.arange(60), "deep": deep, "none": np.zeros((0, 3))}
    listed = np.array([(1.0,), (2.0,)], dtype=[("a", object)])
    savemat(tmp_path / "a.mat", {"stim": stim, "plain": np.eye(2), "listed": listed}, do_compression=compressed)
    found = read_arrays(tmp_path / "a.mat")
    assert set(found) == {"stim.resp", "stim.istim", "stim.deep.x", "stim.deep.sparse", "stim.none", "plain"}
    assert np.array_equal(found["stim.resp"].numpy(), responses)
    assert np.array_equal(found["stim.deep.x"].numpy(), deep["x"])
    assert np.array_equal(found["stim.deep.sparse"].numpy(), np.eye(4))
    recording = ec.datasets.load_recording(tmp_path / "a.mat", variable="stim.resp")
    assert np.array_equal(recording.responses[0].numpy(), responses)


def test_structures_within_structures_have_an_end(tmp_path):
    inner = {"x": np.eye(2)}
    for _ in range(30):
        inner = {"a": inner}
    savemat(tmp_path / "a.mat", {"s": inner})
    with pytest.raises(FileError, match="more than 16 structures within each other"):
        read_arrays(tmp_path / "a.mat")


class TestVersion73:
    def written(self, path, **arrays):
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array.T, compression="gzip")
            text = file.create_dataset("title", data=np.array([[72, 105]], dtype=np.uint16))
            text.attrs["MATLAB_class"] = np.bytes_("char")
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
        return h5py

    def test_arrays_and_fields(self, tmp_path):
        cube, plain = np.random.default_rng(0).random((5, 4, 3)), np.arange(6, dtype=np.int32).reshape(2, 3)
        self.written(tmp_path / "a.mat", **{"s/cube": cube, "plain": plain})
        found = read_arrays(tmp_path / "a.mat")
        assert set(found) == {"s.cube", "plain"}
        assert np.array_equal(found["s.cube"].numpy(), cube)
        assert np.array_equal(found["plain"].numpy(), plain)
        assert found["plain"].dtype == torch.int32

    def test_what_is_far_larger_than_its_file_is_refused(self, tmp_path):
        h5py = self.written(tmp_path / "a.mat")
        with h5py.File(tmp_path / "a.mat", "r+") as file:
            file.create_dataset("bomb", shape=(2**20, 2**20), dtype="f8", chunks=(64, 64), compression="gzip")
        with pytest.raises(FileError, match="declares an array of shape"):
            read_arrays(tmp_path / "a.mat")

    def test_other_files_are_not_read(self, tmp_path):
        (tmp_path / "secret").write_bytes(bytes(64))
        h5py = self.written(tmp_path / "a.mat")
        with h5py.File(tmp_path / "a.mat", "r+") as file:
            file.create_dataset("x", shape=(2, 4), dtype="f8", external=[(str(tmp_path / "secret"), 0, 64)])
        with pytest.raises(FileError, match="refers to other files"):
            read_arrays(tmp_path / "a.mat")

    def test_without_h5py_it_is_named(self, tmp_path, monkeypatch):
        self.written(tmp_path / "a.mat", a=np.eye(2))
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(FileError, match=r"pip install 'eigencode\[recordings\]'"):
            read_arrays(tmp_path / "a.mat")

    def test_damaged_ones_are_refused(self, tmp_path):
        (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(500))
        with pytest.raises(FileError, match="cannot be read as .mat"):
            read_arrays(tmp_path / "a.mat")

    @pytest.mark.real_data
    def test_a_real_one(self):
        file = ec.datasets.data_root() / "recordings" / "v1_ay4_u001_image_sequences.mat"
        if not file.exists():
            pytest.skip("no recording")
        responses = read_arrays(file)["naturalStruct.sortedResponses"]
        assert responses.shape == (2, 3, 10, 11, 13, 50)
        read = {"variable": "naturalStruct.sortedResponses", "axes": ["stimuli"] * 4 + ["neurons", "repeats"]}
        with pytest.raises(DataError, match="Leave them out with --recording_missing neurons or presentations"):
            ec.datasets.load_recording(file, **read)
        found = ec.datasets.load_recording(file, **read, missing="presentations")
        shown = responses.permute(5, 0, 1, 2, 3, 4).reshape(50, 660, 13)
        complete = (~shown.isnan()).all(2).sum(0)
        assert torch.equal(found.counts, complete[complete > 0])
        assert torch.equal(found.responses[0, 7], next(each for each in shown[:, 7].double() if not each.isnan().any()))
