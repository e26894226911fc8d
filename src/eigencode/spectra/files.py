"""Spectra in files: NumPy archives and Parquet, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from eigencode._files import replacing
from eigencode._readers.arrays import read_npz
from eigencode._readers.files import check_content, check_declared, open_regular
from eigencode._readers.parquet import declared_bytes
from eigencode.errors import DataError, FileError
from eigencode.spectra.eigenspectrum import Eigenspectrum
from eigencode.spectra.gains import Gains
from eigencode.spectra.traces import Traces

_ARRAYS = ("eigenvalues", "half_samples")
_COLUMNS = ["layer", "rank", "eigenvalue", "half_samples"]


def _metadata(spectrum: Eigenspectrum) -> dict[str, Any]:
    return {k: v for k, v in asdict(spectrum).items() if k not in _ARRAYS}


def _parse(metadata: str | bytes) -> dict[str, dict[str, Any]]:
    parsed = json.loads(metadata)
    return {
        name: {
            **fields,
            "half_counts": tuple(fields["half_counts"]),
            "traces": Traces(**fields["traces"]) if fields.get("traces") else None,
            "gains": _gains(fields.get("gains", {})),
        }
        for name, fields in parsed.items()
    }


def _gains(fields: Mapping[str, Any]) -> Gains:
    """None were kept by earlier versions."""
    laws = {name: tuple(each) for name, each in fields.items() if name in ("values", "shares")}
    return Gains(**laws, error=fields.get("error", 0.0), copies=fields.get("copies", 0.0), serial=fields.get("serial", 0.0))


def save_spectra(spectra: Mapping[str, Eigenspectrum], path: str | Path) -> Path:
    """Writes spectra to one file, without pickle.

    Args:
        spectra: Layer name to spectrum.
        path: ``.npz``: arrays named layer/eigenvalues and layer/half_samples, and a JSON text ``metadata``. ``.parquet``: one
            row for each layer and rank (columns layer, rank, eigenvalue, half_samples), metadata as JSON in the schema.

    Returns:
        The path.

    Raises:
        DataError: another ending, or no spectra.
        DiskError: the file cannot be written; what was there is as it was.
    """
    path = Path(path)
    if not spectra:
        raise DataError("save: there are no spectra to save.")
    metadata = json.dumps({name: _metadata(spectrum) for name, spectrum in spectra.items()})
    if path.suffix == ".npz":
        arrays = {"metadata": np.array(metadata)}
        for name, spectrum in spectra.items():
            arrays |= {f"{name}/{k}": getattr(spectrum, k).numpy() for k in _ARRAYS if getattr(spectrum, k) is not None}
        with replacing(path) as new, new.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    elif path.suffix == ".parquet":
        tables = []
        for name, spectrum in spectra.items():
            k = len(spectrum.eigenvalues)
            halves: list[Any] = [None] * k
            if spectrum.half_samples is not None:
                columns = spectrum.half_samples.T.tolist()
                halves = columns + [None] * (k - len(columns))
            tables.append(
                pa.table(
                    {
                        "layer": pa.array([name] * k, pa.string()),
                        "rank": pa.array(range(1, k + 1), pa.int32()),
                        "eigenvalue": pa.array(spectrum.eigenvalues.numpy()),
                        "half_samples": pa.array(halves, pa.list_(pa.float64())),
                    }
                )
            )
        table = pa.concat_tables(tables).replace_schema_metadata({"eigencode": metadata})
        with replacing(path) as new:
            pq.write_table(table, new)
    else:
        raise DataError(f"save: `path` must end in .npz or .parquet; got {path.name}. Change the ending.")
    return path


def load_spectra(path: str | Path) -> dict[str, Eigenspectrum]:
    """Reads spectra written by ``save_spectra``.

    Args:
        path: ``.npz`` or ``.parquet`` file.

    Returns:
        Layer name to spectrum.

    Raises:
        DataError: no such file, or it was not written by eigencode.
    """
    path = Path(path)
    if path.suffix not in (".npz", ".parquet"):
        raise DataError(
            f"load: spectra are kept in .npz and .parquet files; got {path.name}. Name the file that save_spectra wrote."
        )
    try:
        return _load_parquet(path) if path.suffix == ".parquet" else _load_npz(path)
    except FileError as error:
        raise DataError(f"load: {error}") from None
    except Exception as error:  # every reader has its own kinds of failure; all mean that it is another file
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(f"load: {path} is not a file of eigenspectra written by eigencode ({reason}).") from None


def _load_npz(path: Path) -> dict[str, Eigenspectrum]:
    stored = read_npz(path)
    return {
        name: _checked(stored[f"{name}/eigenvalues"], stored.get(f"{name}/half_samples"), fields)
        for name, fields in _parse(str(stored["metadata"])).items()
    }


def _load_parquet(path: Path) -> dict[str, Eigenspectrum]:
    with open_regular(path) as file:
        check_content(file, path)
        check_declared(declared_bytes(file), file, path)
        table = pq.read_table(file, columns=_COLUMNS, read_dictionary=["layer"])
    metadata = _parse((table.schema.metadata or {})[b"eigencode"])
    frame = table.to_pandas()
    spectra = {}
    for name, fields in metadata.items():
        rows = frame[frame["layer"] == name].sort_values("rank")
        halves = [row for row in rows["half_samples"] if row is not None]
        spectra[name] = _checked(rows["eigenvalue"].to_numpy(copy=True), np.stack(halves, axis=1) if halves else None, fields)
    return spectra


def _checked(eigenvalues: np.ndarray, half_samples: np.ndarray | None, fields: Mapping[str, Any]) -> Eigenspectrum:
    """A spectrum from what a file holds, if it can have been written by ``save_spectra``."""
    spectrum = Eigenspectrum(
        eigenvalues=torch.from_numpy(eigenvalues),
        half_samples=None if half_samples is None else torch.from_numpy(half_samples),
        **fields,
    )
    counts = (spectrum.n_samples, spectrum.n_features, spectrum.n_images, *spectrum.half_counts)
    if not all(type(count) is int and count > 0 for count in counts):
        raise ValueError(f"counts of {counts}")
    if eigenvalues.dtype != np.float64 or not len(eigenvalues):
        raise ValueError("eigenvalues that are not 64-bit numbers")
    if not isinstance(getattr(torch, spectrum.dtype), torch.dtype):
        raise ValueError(f"a type of {spectrum.dtype}")
    return spectrum
