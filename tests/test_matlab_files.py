"""Our reader of .mat files against SciPy's, on good files of every kind."""

import numpy as np
import pytest
import scipy.sparse
from scipy.io import loadmat, savemat

from eigencode._readers.arrays import read_arrays
from eigencode.errors import FileError

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


def test_version_73_is_refused(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(500))
    with pytest.raises(FileError, match="is a .mat file of version 7.3, which is not read. Save it with -v7, or as .npz."):
        read_arrays(tmp_path / "a.mat")
