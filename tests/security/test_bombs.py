"""Small files that would become large: refused before the memory is taken."""

import io
import json
import struct
import subprocess
import sys
import time
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from eigencode import cli, load_spectra
from eigencode._readers.parquet import declared_bytes
from eigencode._readers.yaml import load_yaml
from eigencode.datasets import load, load_recording
from eigencode.errors import DataError, StudyError
from eigencode.studies import from_yaml
from reader_fuzzing import KINDS, _peak, _resident

_TRAP = r"has \d+ bytes and declares that it holds \d+, which looks like a trap. If it is yours, save it without compression."
_BLOCK, _BLOCKS = bytes(2**20), 300


@pytest.fixture(autouse=True)
def _memory():
    """No test takes more than 100 MiB."""
    before = _resident()
    if sys.platform == "linux":
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    yield
    assert _peak() - before < 100 * 2**20


def header(shape, kind="<f8"):
    stored = io.BytesIO()
    np.lib.format.write_array_header_1_0(stored, {"descr": kind, "fortran_order": False, "shape": shape})
    return stored.getvalue()


def test_npz(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made, made.open("inputs.npy", "w") as stream:
        stream.write(header((_BLOCKS * 2**17,)))
        for _ in range(_BLOCKS):
            stream.write(_BLOCK)
    assert path.stat().st_size < 2**19
    with pytest.raises(DataError, match=_TRAP):
        load(f"tensors:{path}")


@pytest.mark.parametrize("shape", [(2**40,), (2**20, 2**20), (10**30,)])
def test_shapes_beyond_the_file(tmp_path, shape):
    path = tmp_path / "a.npy"
    path.write_bytes(header(shape) + bytes(800))
    with pytest.raises(DataError, match=r"800 bytes where shape \(.*\) needs \d+"):
        load_recording(path)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as made:
        made.writestr("resp.npy", path.read_bytes())
    with pytest.raises(DataError, match=r"800 bytes where shape \(.*\) needs \d+"):
        load_recording(tmp_path / "a.npz")


def matrix(name, rows, columns, data):
    """A double array as an element of a .mat file of version 5."""
    flags = struct.pack("<IIII", 6, 8, 6, 0)
    dimensions = struct.pack("<IIii", 5, 8, rows, columns)
    called = struct.pack("<II", 1, len(name)) + name.ljust(8, b"\0")
    body = flags + dimensions + called + struct.pack("<II", 9, len(data)) + data
    return struct.pack("<II", 14, len(body)) + body


def mat(*elements):
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49) + b"".join(elements)


def test_mat(tmp_path):
    path = tmp_path / "a.mat"
    packer = zlib.compressobj()
    declared = struct.pack("<II", 14, _BLOCKS * 2**20 + 1000) + matrix(b"resp", _BLOCKS * 2**17, 1, b"")[8:]
    packed = packer.compress(declared) + b"".join(packer.compress(_BLOCK) for _ in range(_BLOCKS))
    packed += packer.flush()
    path.write_bytes(mat(struct.pack("<II", 15, len(packed)) + packed))
    with pytest.raises(DataError, match=r"has \d+ bytes and declares that it holds \d+, which looks like a trap."):
        load_recording(path)


def test_mat_whose_shape_is_beyond_the_file(tmp_path):
    path = tmp_path / "a.mat"
    path.write_bytes(mat(matrix(b"resp", 10, 10, np.arange(100.0).tobytes())))
    assert load_recording(path).responses.shape == (1, 10, 10)
    path.write_bytes(mat(matrix(b"resp", 2**30, 2**30, bytes(800))))
    with pytest.raises(DataError, match="declares an array of shape .* far more than it holds"):
        load_recording(path)


@pytest.mark.parametrize("side", [10_000, 30_000, 100_000])
def test_png(tmp_path, side):
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "0.png"
    Image.new("RGB", (4, 4)).save(path)
    whole = bytearray(path.read_bytes())
    whole[16:24] = struct.pack(">II", side, side)
    whole[29:33] = struct.pack(">I", zlib.crc32(whole[12:29]))
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"0.png has more than 67108864 pixels. Make it smaller."):
        load(f"image_folder:{tmp_path}")


def test_pictures_that_start_programs(tmp_path):
    """PostScript is drawn by a program of its own, whatever the file is called."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match="0.png is not a readable image"):
        load(f"image_folder:{tmp_path}")


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (LAUGHS, "aliases make more than 200000 values of it"),
        ("name: &a [*a]\n", r"\*a contains itself"),
        ("name: &a {b: {c: *a}}\n", r"\*a contains itself"),
        ("name: " + "[" * 50_000, "values are nested deeper than 40 levels"),
        ("name: " + "{a: " * 50_000, "values are nested deeper than 40 levels"),
        ("- " * 50_000, "values are nested deeper than 40 levels"),
        (f"name: {'9' * 10_000}\n", None),
        ("name: 2001-99-99\n", None),
    ],
    ids=["laughs", "itself", "deep itself", "lists", "dicts", "blocks", "digits", "date"],
)
def test_yaml(tmp_path, text, problem, capsys):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    started = time.perf_counter()
    with pytest.raises(StudyError, match=problem or "is not a YAML file"):
        from_yaml(path)
    assert cli.main(["measure", f"--config={path}"]) == 2
    assert capsys.readouterr().err.startswith("eigencode: ")
    assert time.perf_counter() - started < 5


def test_ordinary_aliases_are_read():
    assert load_yaml("a: &a [1, 2]\nb: [*a, *a]\n<<: {c: 3}\n") == {"a": [1, 2], "b": [[1, 2], [1, 2]], "c": 3}
    with pytest.raises(yaml.YAMLError, match="a is there twice"):
        load_yaml("a: 1\na: 2\n")


def test_a_long_yaml_file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"#" * 2**21)
    with pytest.raises(StudyError, match="is longer than the 1048576 bytes that such a file may have"):
        from_yaml(path)


def test_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    batch = pa.table({"layer": pa.array(["a"] * 2**16).dictionary_encode(), "rank": pa.array(np.zeros(2**16, np.int32))})
    with pq.ParquetWriter(path, batch.schema.with_metadata({"eigencode": json.dumps({})})) as writer:
        for _ in range(600):
            writer.write_table(batch)
    with pytest.raises(DataError, match="which looks like a trap"):
        load_spectra(path)


def test_arrays_of_a_mat_file_count_as_they_become(tmp_path, monkeypatch):
    """Bytes in the file, doubles in memory."""
    monkeypatch.setattr("eigencode._readers.matlab.allowed_bytes", lambda _size: 2**20)
    path, count = tmp_path / "a.mat", 80_000
    stored = b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8) + struct.pack("<H", 0x0100) + b"IM"
    for number in range(4):
        body = struct.pack("<IIII", 6, 8, 6, 0) + struct.pack("<IIii", 5, 8, 1, count) + struct.pack("<HH", 1, 4)
        body += f"a{number:03d}".encode() + struct.pack("<II", 1, count) + b"\1" * count
        packed = zlib.compress(struct.pack("<II", 14, len(body)) + body)
        stored += struct.pack("<II", 15, len(packed)) + packed
    path.write_bytes(stored)
    with pytest.raises(DataError, match="far more than it holds|looks like a trap"):
        load(f"tensors:{path}")


def test_repeated_values_of_parquet_count(tmp_path):
    """A list of 40 million zeros takes 1 KB in a file."""
    path = tmp_path / "a.parquet"
    zeros = pa.ListArray.from_arrays([0, 3_000_000], pa.array(np.zeros(3_000_000)))
    with pq.ParquetWriter(path, pa.schema({"half_samples": zeros.type})) as writer:
        for _ in range(13):
            writer.write_table(pa.table({"half_samples": zeros}))
    assert path.stat().st_size < 20_000
    with pytest.raises(DataError, match=_TRAP):
        load_spectra(path)


_ALIASES = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 10)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--model", "gerum_cnn", "--spectral", "bomb.yaml"], "--spectral stands for several options. Name them, such as --spectral.layers, or a file of all options with --config."),
        (["train", "--model", "gerum_cnn", "--adversarial=bomb.yaml"], "--adversarial stands for several options."),
        (["measure", "--conf", "bomb.yaml"], "--conf"),
        (["measure", "--config", "nested.yaml"], "--config: nested.yaml names another file of options. Write its options into this one."),
        (["measure", "--config", "tagged.yaml"], "--config: tagged.yaml is not a YAML file (the tag tag:yaml.org,2002:int is not read; write the value alone)."),
        (["train", "--model", "gerum_cnn", "--beta", '!!int ""'], '!!int "" has a YAML tag, which options do not take. Write the value alone.'),
        (["measure", "--model", "gerum_cnn", "--mod", "x"], "--mod"),
        (["measure", "--model", "gerum_cnn", "--memory_limit", "9" * 400], "`memory_limit` must be a number of bytes"),
        (["attack", "--model", "gerum_cnn", "--perturbation", "gaussian", "--strengths", "1e9_9_9_9_9_9_9_9_9"], "--strengths must be"),
    ],
)  # fmt: skip
def test_options_that_stand_for_files_or_have_no_end(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bomb.yaml").write_text(_ALIASES)
    (tmp_path / "nested.yaml").write_text("config: bomb.yaml\n")
    (tmp_path / "tagged.yaml").write_text('seed: !!int ""\n')
    started = time.perf_counter()
    try:
        status = cli.main(words)
    except SystemExit as ended:
        status = ended.code
    out, err = capsys.readouterr()
    assert status in (1, 2)
    assert (out, len(err.splitlines())) == ("", 1)
    assert message in err
    assert time.perf_counter() - started < 20


def test_a_number_of_seeds_of_5000_digits(tmp_path):
    (tmp_path / "s.yaml").write_text(f"name: s\ntitle: s\nblocks:\n- seeds: 0x{'f' * 5000}\n")
    with pytest.raises(StudyError, match=r"seeds: expected a list; got 0xf{98}…$"):
        from_yaml(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    "options", [{}, {"row_group_size": 7}, {"compression": "gzip"}, {"use_dictionary": False}, {"version": "1.0"}]
)
def test_what_parquet_declares_is_what_pyarrow_reads_of_it(tmp_path, options):
    table = pa.table({"a": ["x", "yy", None] * 20, "b": [1.0] * 60, "c": [[1, 2]] * 60, "d": [True] * 60})
    pq.write_table(table, tmp_path / "a.parquet", **options)
    about = pq.read_metadata(tmp_path / "a.parquet")
    columns = [
        about.row_group(number).column(place) for number in range(about.num_row_groups) for place in range(about.num_columns)
    ]
    with open(tmp_path / "a.parquet", "rb") as file:
        file.seek(3)
        assert declared_bytes(file) == sum(max(8 * each.num_values, each.total_uncompressed_size) for each in columns)
        assert file.tell() == 3


def test_parquet_whose_footer_ends_pyarrow_is_refused(tmp_path):
    good = KINDS["spectra in Parquet"][1]()
    length = int.from_bytes(good[-8:-4], "little")
    code = "import sys\nfrom eigencode import load_spectra\nfor path in sys.argv[1:]:\n    try: load_spectra(path)\n    except ValueError as error: print(error)"
    paths = []
    for number in range(0, length, 24):  # one bit of every 24th byte of the footer
        body = bytearray(good)
        body[len(good) - 8 - length + number] ^= 1 << number % 8
        paths.append(tmp_path / f"{number}.parquet")
        paths[-1].write_bytes(body)
    done = subprocess.run([sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert len(done.stdout.splitlines()) > len(paths) / 4


def test_one_long_name_in_parquet_counts(tmp_path, monkeypatch):
    monkeypatch.setattr("eigencode._readers.files.allowed_bytes", lambda _size: 2**20)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"layer": ["x" * 2**22], "rank": [1], "eigenvalue": [1.0], "half_samples": [[1.0]]}), path)
    with pytest.raises(DataError, match=_TRAP):
        load_spectra(path)
