"""Damaged files of every kind that eigencode reads, and what reading them did. A program: the process that reads them may end.

``python reader_fuzzing.py FIRST COUNT FOLDER KIND...`` prints one JSON line for each file: what came of it, how long it took, and by
how much the memory of the process rose.
"""

import argparse
import gzip
import io
import json
import os
import signal
import struct
import sys
import time
import zipfile
from pathlib import Path

import numpy as np

SECONDS, BYTES = 20, 2 * 2**30
"""Most that reading one file may take."""


def _npz(**arrays):
    stored = io.BytesIO()
    np.savez_compressed(stored, **arrays)
    return stored.getvalue()


def _saved(value, **options):
    import torch

    stored = io.BytesIO()
    torch.save(value, stored, **options)
    return stored.getvalue()


def _picture(kind, **options):
    from PIL import Image

    stored = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stored, kind, **options)
    return stored.getvalue()


def _mat(**options):
    from scipy.io import savemat

    stored = io.BytesIO()
    code = np.random.default_rng(0).normal(size=(12, 30))
    savemat(stored, {"resp": code, "note": "text", "cells": {"a": code[:2]}, "count": np.arange(4)}, **options)
    return stored.getvalue()


def _mat73():
    import h5py

    stored = io.BytesIO()
    code = np.random.default_rng(0).normal(size=(12, 30))
    with h5py.File(stored, "w", userblock_size=512) as file:
        file.create_dataset("resp", data=code, chunks=(4, 30), compression="gzip")
        file.create_dataset("stim/istim", data=np.arange(30.0)[None])
    text = b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<H", 0x200) + b"IM"
    return text.ljust(512, b"\0") + stored.getvalue()[512:]


def _nwb():
    from datetime import UTC, datetime

    from pynwb import NWBHDF5IO, NWBFile

    file = NWBFile(session_description="text", identifier="1", session_start_time=datetime(2026, 1, 1, tzinfo=UTC))
    file.add_trial_column(name="image_id", description="image")
    for start in range(12):
        file.add_trial(start_time=float(start), stop_time=start + 0.5, image_id=start % 4)
    for unit in range(3):
        file.add_unit(spike_times=np.sort(np.random.default_rng(unit).uniform(0, 12, 50)), obs_intervals=[[0.0, 20.0]])

    def write(path):
        with NWBHDF5IO(str(path), "w") as opened:
            opened.write(file)

    return _written(write)


def _written(write):
    """Bytes that a writer of eigencode leaves in a file whose path it is given."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path = write(path) or path
        return path.read_bytes()


def _spectra(ending):
    import torch

    from eigencode import Eigenspectrum, save_spectra

    generator = torch.Generator().manual_seed(0)
    spectrum = Eigenspectrum.from_activations(torch.randn(40, 8, generator=generator))
    return _written(lambda path: save_spectra({"a": spectrum, "b": spectrum}, path.with_suffix(ending)))


def _components():
    from eigencode.datasets import load
    from eigencode.perturbations import PrincipalComponents

    return _written(PrincipalComponents.fit(load("digits", count=80)).save)


def _training():
    from eigencode.datasets import load
    from eigencode.training import Settings

    return _written(lambda path: _trained(path, load("digits", count=60), Settings(epochs=1, batch_size=60)))


def _trained(path, images, settings):
    from eigencode import models
    from eigencode.training import MemberSettings, train

    networks = [models.load("gerum_shallow_mlp", image_shape=images.shape)]
    train(networks, images, settings=settings, cells=[MemberSettings()], checkpoint=path)


def _store():
    from eigencode.studies import Local, Store, load, overridden, run_study, smoke_version

    def write(path):
        store = Store(path)
        run_study(overridden(smoke_version(load("demo")), "seeds=1 training.epochs=1 images.train_count=100"), store, Local())
        import sqlite3

        with sqlite3.connect(path) as connection:
            connection.execute("pragma journal_mode=delete")

    return _written(write)


def _study():
    from eigencode.studies import load, smoke_version, to_yaml

    return to_yaml(smoke_version(load("gerum2022.fig2"))).encode()


def _read_spectra(path):
    from eigencode import load_spectra

    for spectrum in load_spectra(path).values():
        spectrum.fit((2, 6))


def _read_store(path):
    from eigencode.papers import listing
    from eigencode.studies import Store, StudyResults, load, overridden, smoke_version

    listing.PAPERS = {
        "demo": listing.PAPERS["demo"]
    }  # to count the cells of all papers takes a second, and reads nothing of the file
    store, study = Store(path), overridden(smoke_version(load("demo")), "seeds=1 training.epochs=1 images.train_count=100")
    listing.listed(store)
    StudyResults(store, study.cells())
    store.stamps(), store.spectra()


def _tensors(path):
    from eigencode.datasets import load

    load(f"tensors:{path}")


def _pictures(path):
    from eigencode.datasets import load

    load(f"image_folder:{path.parent.parent}")


def _root(name, depth):
    def read(path):
        from eigencode.datasets import load

        load(name, root=path.parents[depth])

    return read


def _release(path):
    from eigencode.datasets import load

    load(f"ilyas:{path.parent}")


def _recording(path):
    from eigencode.datasets import load_recording

    load_recording(path, variable="array" if path.suffix == ".npy" else "resp")


def _session(path):
    from eigencode.datasets import load_nwb

    load_nwb(path)


def _weights(path):
    from eigencode.models import read_state_dict

    read_state_dict(path)


def _config(path):
    from eigencode.cli import _files_read as check_files
    from eigencode.cli import build_parser

    words = ["measure", "--config", str(path)]
    check_files(words)
    try:
        build_parser().parse_args(words)
    except SystemExit:
        from eigencode.errors import UsageError

        raise UsageError("refused by the parser") from None


def _study_file(path):
    from eigencode.studies import from_yaml

    from_yaml(path)


def _state_dict():
    import torch

    generator = torch.Generator().manual_seed(0)
    return {f"layer{n}.weight": torch.randn(6, 5, generator=generator) for n in range(4)} | {"count": torch.tensor(3)}


def _safetensors():
    from safetensors.torch import save

    return save(_state_dict(), metadata={"format": "pt"})


def _idx():
    pixels = np.random.default_rng(0).integers(0, 255, (6, 28, 28), dtype=np.uint8)
    return struct.pack(">IIII", 0x803, 6, 28, 28) + pixels.tobytes()


def _beside_idx(path):
    labels = struct.pack(">II", 0x801, 6) + bytes(range(6))
    for name, content in (("t10k-labels-idx1", labels), ("train-labels-idx1", labels), ("train-images-idx3", _idx())):
        (path.parent / f"{name}-ubyte").write_bytes(content)


def _beside_release(path):
    import torch

    torch.save(torch.arange(6), path.parent / "CIFAR_lab")


_IMAGES = np.random.default_rng(0).random((6, 1, 8, 8), dtype=np.float32)

KINDS = {
    "weights in a zip file": ("w.pt", lambda: _saved({"state_dict": _state_dict(), "epoch": 3, "args": io.StringIO}), _weights),
    "weights in a stream": ("w.pth", lambda: _saved(_state_dict(), _use_new_zipfile_serialization=False), _weights),
    "weights in safetensors": ("w.safetensors", _safetensors, _weights),
    "images in .npz": ("i.npz", lambda: _npz(inputs=_IMAGES, labels=np.arange(6)), _tensors),
    "images in .pt": ("i.pt", lambda: _saved(_torch({"inputs": _IMAGES, "labels": np.arange(6)})), _tensors),
    "images in .npy": ("i.npy", lambda: _written_npy(_IMAGES), _tensors),
    "images of Ilyas et al.": ("CIFAR_ims", lambda: _saved(list(_torch({"a": _IMAGES})["a"].split(2))), _release),
    "recording in .npy": ("r.npy", lambda: _written_npy(_IMAGES[:, 0, 0]), _recording),
    "recording in .npz": ("r.npz", lambda: _npz(resp=_IMAGES[:, 0, 0], more=np.arange(3)), _recording),
    "recording in .mat, compressed": ("r.mat", lambda: _mat(do_compression=True), _recording),
    "recording in .mat, version 5": ("r.mat", _mat, _recording),
    "recording in .mat, version 7.3": ("r.mat", _mat73, _recording),
    "recording in HDF5": ("r.h5", lambda: _mat73()[512:], _recording),
    "recording in NWB": ("r.nwb", _nwb, _session),
    "recording in .mat, version 4": ("r.mat", lambda: _mat4(), _recording),
    "PNG": ("folder/a/0.png", lambda: _picture("PNG"), _pictures),
    "JPEG": ("folder/a/0.jpg", lambda: _picture("JPEG"), _pictures),
    "TIFF": ("folder/a/0.tif", lambda: _picture("TIFF", compression="tiff_lzw"), _pictures),
    "WebP": ("folder/a/0.webp", lambda: _picture("WEBP"), _pictures),
    "MNIST": ("root/MNIST/raw/t10k-images-idx3-ubyte", _idx, _root("mnist", 2)),
    "CIFAR-10": ("root/cifar-10-batches-py/test_batch", lambda: _pickled(), _root("cifar10", 1)),
    "study in YAML": ("s.yaml", _study, _study_file),
    "options in YAML": ("o.yaml", lambda: b"model: schaeffer_cnn\ncount: 50\nranks: 2-10\nlayers: all\n", _config),
    "store": ("store.sqlite", _store, _read_store),
    "spectra in .npz": ("s.npz", lambda: _spectra(".npz"), _read_spectra),
    "spectra in Parquet": ("s.parquet", lambda: _spectra(".parquet"), _read_spectra),
    "components": ("c.safetensors", _components, lambda path: _load_components(path)),
    "state of a training": ("group.safetensors", _training, lambda path: _go_on(path)),
}
"""Kind -> name of its file, a good one, and how it is read."""

_BESIDE = {"MNIST": _beside_idx, "images of Ilyas et al.": _beside_release}


def _torch(arrays):
    import torch

    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _written_npy(array):
    stored = io.BytesIO()
    np.save(stored, array)
    return stored.getvalue()


def _mat4():
    from scipy.io import savemat

    stored = io.BytesIO()
    savemat(stored, {"resp": np.random.default_rng(0).normal(size=(12, 30))}, format="4")
    return stored.getvalue()


def _pickled():
    import pickle

    return pickle.dumps({"data": _IMAGES, "labels": list(range(6))})


def _load_components(path):
    from eigencode.perturbations import PrincipalComponents

    PrincipalComponents.load(path)


def _go_on(path):
    from eigencode.datasets import load
    from eigencode.training import Settings

    _trained(path, load("digits", count=60), Settings(epochs=1, batch_size=60))


def damaged(good, number, others):
    """A good file with damage that its number decides: the first few by hand, the others drawn."""
    draw = np.random.default_rng(number)
    body = bytearray(good)
    by_hand = [
        b"",
        b"\0",
        b"<html></html>",
        good[:1],
        good[: len(good) // 2],
        good[:-1],
        good + good,
        b"\xff" * 1000,
        b"[" * 100_000,
    ]
    if number < len(by_hand):
        return bytes(by_hand[number])
    kind = draw.integers(7)
    if kind == 0:  # truncated
        return bytes(body[: draw.integers(len(body))])
    if kind == 1:  # the header of another kind
        other, cut = others[draw.integers(len(others))], int(draw.integers(1, 200))
        return bytes(other[:cut] + body[cut:])
    if kind == 2:  # a block of one value
        at, length = int(draw.integers(len(body))), int(draw.integers(1, 64))
        body[at : at + length] = bytes([int(draw.choice([0, 255, 0x7F, ord("9")]))]) * len(body[at : at + length])
        return bytes(body)
    if kind == 3:  # a part twice, or in another place
        at, to, length = (int(value) for value in draw.integers(len(body), size=3))
        body[to:to] = body[at : at + length]
        return bytes(body)
    if kind == 4:  # large numbers where small ones were
        at = int(draw.integers(max(1, len(body) - 8)))
        body[at : at + 8] = struct.pack("<Q", int(draw.choice([2**31 - 1, 2**32 - 1, 2**62, 10**12])))
        return bytes(body)
    if kind == 5 and zipfile.is_zipfile(io.BytesIO(good)):  # damage within an archive whose checksums are right
        stored = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(good)) as whole, zipfile.ZipFile(stored, "w") as made:
            for name in whole.namelist():
                content = bytearray(whole.read(name))
                if content and draw.random() < 0.5:
                    content[int(draw.integers(len(content)))] ^= 1 << int(draw.integers(8))
                made.writestr(name, bytes(content))
        return stored.getvalue()
    for _ in range(int(draw.integers(1, 6))):  # single bits
        body[int(draw.integers(len(body)))] ^= 1 << int(draw.integers(8))
    return bytes(body)


def _peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def _resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def _watch(folder, seen):
    """Notes processes that are started and files elsewhere that are changed, as far as Python sees them."""
    starting = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn", "os.spawn")
    changing = ("os.chmod", "os.chown", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink")

    def hook(event, arguments):
        if not seen["on"]:
            return
        if event.startswith(starting):
            seen["events"].append(event)
        path = str(arguments[0]) if arguments else ""
        is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (event in changing or is_write) and not path.startswith(str(folder)) and not path.isdigit() and path != os.devnull:
            seen["events"].append(f"{event} {path}")

    sys.addaudithook(hook)


def read_all(kind, first, count, folder, seen):
    """Reads damaged files one after the other; yields what came of each."""
    import h5py  # noqa: F401 - which starts a process when it is imported

    from eigencode.errors import EigencodeError

    name, make, read = KINDS[kind]
    good = make()
    others = [
        _picture("PNG"),
        _saved({"a": 1}),
        _npz(a=np.zeros(3)),
        _mat(),
        gzip.compress(b"x" * 100),
        b"SQLite format 3\0" * 20,
    ]
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind in _BESIDE:
        _BESIDE[kind](path)
    path.write_bytes(good)
    try:
        read(path)  # it is good, and everything is imported
    except EigencodeError:
        if kind not in ("CIFAR-10", "images in .npy"):  # which must be the released files; or have a name
            raise
    for number in range(first, first + count):
        for leftover in path.parent.glob(f"{path.name}?*"):
            leftover.unlink()
        path.write_bytes(damaged(good, number, others))
        Path("/proc/self/clear_refs").write_text("5")
        before, started, outcome = _resident(), time.process_time(), "read"
        seen["on"] = True
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of computing; machines are stopped at times
        signal.alarm(10 * SECONDS)
        try:
            read(path)
        except EigencodeError as error:
            text = str(error)
            outcome = "refused" if text and "\n" not in text and len(text) < 2000 else f"no sentence: {text[:300]!r}"
        except BaseException as error:
            import traceback

            outcome = f"{type(error).__name__}: {error} {traceback.format_tb(error.__traceback__)[-1]}"[:1500]
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
            seen["on"] = False
        events, seen["events"] = seen["events"], []
        yield {
            "kind": kind,
            "number": number,
            "outcome": outcome,
            "seconds": round(time.process_time() - started, 3),
            "memory": max(0, _peak() - before),
            "events": events,
        }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("kinds", nargs="+", choices=list(KINDS))
    told = parser.parse_args()
    import warnings

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.environ["http_proxy"] = os.environ["https_proxy"] = "http://127.0.0.1:1"

    def late(_signal, _frame):
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.signal(signal.SIGPROF, late)
    seen = {"on": False, "events": []}
    _watch(told.folder, seen)
    for number, kind in enumerate(told.kinds):
        for found in read_all(kind, told.first, told.count, told.folder / str(number), seen):
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
