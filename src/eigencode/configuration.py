"""What a command can be told: one frozen dataclass for each, used by Python, YAML and the command line alike.

Nothing heavy is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class MeasureConfig:
    """Measure the eigenspectrum, exponent and dimension of a network's layers, or of a recording.

    Args:
        model: Network: a paper's (gerum_shallow_mlp, gerum_deep_mlp, gerum_cnn, schaeffer_cnn, jiang_mlp), torchvision:NAME,
            timm:NAME, file:PATH.py:FACTORY, module:PACKAGE.MODULE:FACTORY, or schaeffer2020 for that paper's eleven.
        weights: Checkpoint file (.safetensors, .pt), or for torchvision and timm the name of their own (DEFAULT).
        data: Images: digits, mnist, fashion_mnist, cifar10, image_folder:PATH or tensors:PATH.
        split: Part of the data set.
        data_root: Folder of data sets in torchvision's layout. Default: EIGENCODE_DATA, else the user's cache.
        count: Size of the random subset of images. Default: all.
        image_size: For image folders: side of the centre square, after resizing the shorter side to it.
        layers: all, penultimate, names or globs, separated by commas.
        units: What a unit is in a convolution map: all numbers, channels (positions are samples), or pooled.
        tokens: Which tokens of a token model, under units=all.
        ranks: Fit window: jiang (1-10), gerum (6-50), schaeffer (10-316), schaeffer_output (10-100), stringer (11-500,
            weights 1/n), or two ranks such as 6-50.
        classes: Number of classes, for networks that are built with it.
        recording: Recording (.npy, .npz, .mat) of neurons x stimuli, or 2 x neurons x stimuli for cross-validated PCA;
            measured in place of a network, or beside it if model is given too.
        recording_variable: Name of the array in the recording's file.
        out: Folder for spectra.parquet, summary.csv, record.json, figures and report.html. Default: write nothing.
        overwrite: Replace results that are in the folder already.
        json: Print the record as JSON on stdout in place of the table.
        batch_size: Images for each forward pass.
        memory_limit: Memory for the statistics of all layers at once. Layers that do not fit take further passes over the
            images; a layer that does not fit alone is sketched.
        half_samples: Random half-samples for the interval of alpha. 0 for none.
        device: cpu, cuda, cuda:1. Default: cuda where there is one.
        seed: Seed of random weights, the subset, half-samples and sketches.
    """

    model: str | None = None
    weights: str | None = None
    data: str = "digits"
    split: Literal["train", "test"] = "test"
    data_root: str | None = None
    count: int | None = None
    image_size: int | None = None
    layers: str = "penultimate"
    units: Literal["all", "channels", "pooled"] = "all"
    tokens: Literal["all", "mean", "cls"] = "all"
    ranks: str = "gerum"
    classes: int | None = None
    recording: str | None = None
    recording_variable: str | None = None
    out: str | None = None
    overwrite: bool = False
    json: bool = False
    batch_size: int = 128
    memory_limit: str = "4GiB"
    half_samples: int = 20
    device: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class DoctorConfig:
    """Say which versions, devices and data there are, and what is missing with the command that mends it.

    Args:
        data_root: Folder of data sets in torchvision's layout. Default: EIGENCODE_DATA, else the user's cache.
    """

    data_root: str | None = field(default=None)
