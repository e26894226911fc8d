"""Where a code is read in a network, and the one way to read it: a model and its inputs -> activations at named sites."""

from eigencode.activations.choosing import select_sites, traced_for
from eigencode.activations.codes import as_code, options_at, unreadable
from eigencode.activations.hooks import hooked, measuring, model_device, named_modules, restore_training, tensors_in, unwrapped
from eigencode.activations.reading import Coded, capture_codes, captured
from eigencode.activations.sequences import TokenAxis, token_axes
from eigencode.activations.tracing import Site, Trace, scores_in, trace

__all__ = [
    "Coded",
    "Site",
    "TokenAxis",
    "Trace",
    "as_code",
    "capture_codes",
    "captured",
    "hooked",
    "measuring",
    "model_device",
    "named_modules",
    "options_at",
    "restore_training",
    "scores_in",
    "select_sites",
    "tensors_in",
    "token_axes",
    "trace",
    "traced_for",
    "unreadable",
    "unwrapped",
]
