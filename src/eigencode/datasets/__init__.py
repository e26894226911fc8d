"""Images and recordings as tensors."""

from eigencode.datasets.images import UNLABELLED, ImageSet
from eigencode.datasets.recordings import Recording, load_recording
from eigencode.datasets.sources import data_root, load

__all__ = ["UNLABELLED", "ImageSet", "Recording", "data_root", "load", "load_recording"]
