"""Files that would do something if they were opened carelessly. What they do is harmless: they make a file of one byte."""

import io
import os
import struct
import tarfile
import warnings
import zipfile

import torch
from torch import nn


class Program(nn.Module):
    """A network whose program makes a file as it is loaded."""

    def __init__(self, marker):
        super().__init__()
        self.marker = marker
        self.made = torch.zeros(1, dtype=torch.uint8)

    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self):
        return self.marker, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.marker, self.training = state
        self.made = torch.from_file(self.marker, shared=True, size=1, dtype=torch.uint8)


def torchscript(marker):
    """A TorchScript program that makes the marker."""
    stored = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Program(str(marker))), stored)
    marker.unlink(missing_ok=True)
    return stored.getvalue()


def state_dict():
    stored = io.BytesIO()
    torch.save({"weight": torch.ones(2, 2)}, stored)
    return stored.getvalue()


def _directory(archive):
    """Place, length and number of entries of a small zip file's directory."""
    at = archive.rfind(b"PK\x05\x06")
    count, length, offset = struct.unpack_from("<HLL", archive, at + 10)
    return offset, length, count


def two_directories(marker):
    """The bytes of a program, then those of a state dict; the end record declares the directory of the program, and that of the state
    dict lies before it. Python's zipfile sees the second, PyTorch's reader the first."""
    program, weights = torchscript(marker), state_dict()
    with zipfile.ZipFile(io.BytesIO(program)) as whole:
        entries = len(whole.infolist())
    first_at, first_length, first_count = _directory(program)
    padded = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(weights)) as whole, zipfile.ZipFile(padded, "w") as more:
        for name in whole.namelist():
            more.writestr(name, whole.read(name))
        for number in range(entries - len(whole.namelist())):
            more.writestr(f"archive/none{number}", b"")
    second_at, second_length, second_count = _directory(padded.getvalue())
    assert first_count == second_count
    directories = []
    for archive, at, length in ((program, first_at, first_length), (padded.getvalue(), second_at, second_length)):
        entry = bytearray(archive[at : at + length])
        missing = max(first_length, second_length) - length
        last = entry.rfind(b"PK\x01\x02")  # a comment at the last entry makes both of one length
        struct.pack_into("<H", entry, last + 32, missing)
        directories.append(bytes(entry) + b" " * missing)
    body = program[:first_at] + directories[0]
    start_of_weights = len(body)
    body += padded.getvalue()[:second_at]
    second = bytearray(directories[1])
    concat = len(body) - first_at  # zipfile adds to each offset what lies between the declared and the found directory
    at = second.find(b"PK\x01\x02")
    while at >= 0:
        (offset,) = struct.unpack_from("<L", second, at + 42)
        struct.pack_into("<l", second, at + 42, offset + start_of_weights - concat)
        at = second.find(b"PK\x01\x02", at + 4)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, first_count, first_count, len(second), first_at, 0)
    return body + bytes(second) + end


def tar_that_links(target):
    """A checkpoint in the format of PyTorch 0.1 whose member is a hard link to a file elsewhere, with a mode and an owner."""
    stored = io.BytesIO()
    with tarfile.open(fileobj=stored, mode="w") as tar:
        for name in ("storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode, member.uid, member.gid = tarfile.LNKTYPE, str(target), 0o777, 4242, 4242
            tar.addfile(member)
    return stored.getvalue()


def changed(path):
    """What an attack on a file could change."""
    told = os.stat(path)
    return told.st_mode, told.st_uid, told.st_gid, told.st_size, path.read_bytes()
