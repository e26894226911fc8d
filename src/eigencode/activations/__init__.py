"""Where a code is read in a network, and the one way to read it: a model and its inputs -> activations at named sites."""

from eigencode.activations.calls import possible_scores, scores_in
from eigencode.activations.choosing import select_sites, traced_for
from eigencode.activations.codes import TokenAxis, as_code, options_at, unreadable
from eigencode.activations.hooks import hooked, measuring, model_device, named_modules, restore_training, tensors_in, unwrapped
from eigencode.activations.reading import Coded, capture_codes, captured, coded
from eigencode.activations.sequences import token_axes, touched_by_padding
from eigencode.activations.tracing import Followed, Site, Trace, trace

__all__ = [
    "Coded",
    "Followed",
    "Site",
    "TokenAxis",
    "Trace",
    "as_code",
    "capture_codes",
    "captured",
    "coded",
    "hooked",
    "measuring",
    "model_device",
    "named_modules",
    "options_at",
    "possible_scores",
    "restore_training",
    "scores_in",
    "select_sites",
    "tensors_in",
    "token_axes",
    "touched_by_padding",
    "trace",
    "traced_for",
    "unreadable",
    "unwrapped",
]
