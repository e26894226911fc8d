"""What eigencode raises when the caller can fix something: one sentence that says what, the value, and the remedy."""


class EigencodeError(ValueError):
    """Base class of every error that a user's input can cause."""


class SpectrumError(EigencodeError):
    """Activations or eigenvalues do not allow what was asked of them."""


class ActivationError(EigencodeError):
    """A layer cannot be found, or its output cannot be read as a code."""


class ConstantCodeError(ActivationError):
    """A code that is the same for every image, of which there is no spectrum: of a network that has collapsed, say."""


class FileError(EigencodeError):
    """A file that is not there, not of the kind it must be, damaged, or unsafe."""


class DataError(EigencodeError):
    """Images, labels or recordings are missing or not in the form they must have."""


class NotDownloadedError(DataError):
    """Images that are not there, and were not to be downloaded."""


class ModelError(EigencodeError):
    """A network or its weights cannot be loaded."""


class AttackError(EigencodeError):
    """An attack cannot be run as asked: its budget, its labels, or the network's output."""


class PenaltyError(EigencodeError):
    """A penalty cannot be computed as asked: its settings, or the activations it is given."""


class TrainingError(EigencodeError):
    """A training run cannot start or go on as asked."""


class CheckpointError(TrainingError):
    """A checkpoint that is damaged, or of another run."""


class DivergenceError(TrainingError):
    """A network's training went wrong by its own numbers: a loss that is not finite, a code that has collapsed."""


class ProcessError(EigencodeError):
    """Processes that should work together do not."""


class DiskError(EigencodeError):
    """A file cannot be written: the disk is full, say."""


class StudyError(EigencodeError):
    """A study, its store or its engine is not as it must be."""


class UsageError(EigencodeError):
    """Options of the command line that make no sense, whatever the data and the network."""


class RenamedWarning(FutureWarning):
    """An old name that was read, and that the next version will not read."""


class ReliabilityWarning(UserWarning):
    """A result that can be computed, but not trusted without a second look."""


FIT_THE_NETWORK = "Use inputs of the size and channels it was made for"
"""Remedy of inputs that a network does not take, beside which commands name their options."""
