"""Images, texts and recordings as tensors."""

from eigencode.datasets.folders import ImageFolder, imagenet_synsets, read_classes
from eigencode.datasets.images import UNLABELLED, ImageSet
from eigencode.datasets.preprocessing import Preprocessing, preprocessing
from eigencode.datasets.recordings import Recording, load_nwb, load_recording, load_spontaneous
from eigencode.datasets.sessions import join_sessions
from eigencode.datasets.sources import data_root, load
from eigencode.datasets.tokens import TokenSet, load_tokens

__all__ = [
    "UNLABELLED",
    "ImageFolder",
    "ImageSet",
    "Preprocessing",
    "Recording",
    "TokenSet",
    "data_root",
    "imagenet_synsets",
    "join_sessions",
    "load",
    "load_nwb",
    "load_recording",
    "load_spontaneous",
    "load_tokens",
    "preprocessing",
    "read_classes",
]
