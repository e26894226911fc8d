"""A tensor of a network as a code: which axis has a row for each input, which has the channels, and what a unit is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from eigencode._arguments import checked
from eigencode._codes import Channels, CodeOptions, Tokens, Units
from eigencode.errors import ActivationError

if TYPE_CHECKING:
    from eigencode.activations.tracing import Site

_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._LPPoolNd,
    nn.PixelShuffle,
    nn.Upsample,
    nn.PReLU,
)
_CHANNELS_LAST = (nn.Linear, nn.Bilinear, nn.LayerNorm, nn.RMSNorm, nn.MultiheadAttention, nn.Embedding)
"""Themselves: classes made of them may turn the axes around."""


_SEQUENCE = 3
"""Dimensions of (n, tokens, features)."""


_PADDED = "the network pads its inputs to a multiple of {} tokens. Pad them to one yourself and pass a mask"


@dataclass(frozen=True)
class TokenAxis:
    """How a tensor depends on the tokens of masks.

    Attributes:
        masks: Their names.
        is_second: Whether the tokens of the only one are its second axis alone.
        otherwise: What is known if they are not, in words.
        multiple: The network pads its inputs to a multiple of this number of tokens; 1 if it does not.
    """

    masks: tuple[str, ...]
    is_second: bool
    otherwise: str = ""
    multiple: int = 1

    def padded_inside(self, length: int, count: int) -> str:
        """Why a tensor with this many tokens holds more than the network was given, or nothing if it does not."""
        return _PADDED.format(self.multiple) if self.multiple > 1 and length != count else ""


class CodeKeywords(TypedDict):
    """Options of ``as_code``."""

    units: Units
    tokens: Tokens
    channels: Channels


class Axes(NamedTuple):
    """Axis of inputs, axis of channels once that is the first, and whether a module says which that is."""

    inputs: int
    channels: int
    known: bool


def axes_of(module: nn.Module, tensor: Tensor, place: str, count: int, *, is_output: bool) -> Axes:
    """Which axis of a tensor is which, as the module that returns it, or is given it, documents it.

    Args:
        module: The module.
        tensor: Tensor.
        place: Where it is in the module's output: "", "[0]", "[1][0]".
        count: Inputs.
        is_output: Whether the module returns it.
    """
    inputs = 1 if _is_sequence_first(module, tensor, place, count, is_output=is_output) else 0
    if tensor.ndim < _SEQUENCE:
        return Axes(inputs, -1, True)
    if isinstance(module, _CHANNELS_FIRST):
        return Axes(inputs, 1, True)
    if type(module) in _CHANNELS_LAST or isinstance(module, nn.RNNBase):
        return Axes(inputs, -1, True)
    usual = Axes(inputs, -1 if tensor.ndim == _SEQUENCE else 1, False)
    if tensor.shape[1] == tensor.shape[-1]:
        return usual
    sizes = {len(weights) for weights in module.parameters(recurse=False) if weights.ndim == 1 and len(weights) > 1}
    if len(sizes & {tensor.shape[1], tensor.shape[-1]}) == 1 and is_output:  # a bias or gain for each channel, or for each token
        return Axes(inputs, -1 if tensor.shape[-1] in sizes else 1, tensor.shape[-1] in sizes or tensor.ndim > _SEQUENCE)
    return usual


def _is_sequence_first(module: nn.Module, tensor: Tensor, place: str, count: int, *, is_output: bool) -> bool:
    """Whether a recurrent layer or one with attention gives or takes (tokens, n, features), or states (layers, n, features)."""
    if tensor.ndim != _SEQUENCE or tensor.shape[1] != count:
        return False
    if isinstance(module, nn.RNNBase):
        return place.startswith("[1]") or not module.batch_first
    if isinstance(module, nn.MultiheadAttention):
        return not (is_output and place == "[1]") and not module.batch_first  # the weights of attention
    if isinstance(module, (nn.TransformerEncoder, nn.TransformerDecoder)):
        module = module.layers[0]
    first = getattr(getattr(module, "self_attn", module), "batch_first", True)
    return isinstance(module, (nn.Transformer, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)) and not first


@checked(ActivationError)
def as_code(output: Tensor, *, units: Units, tokens: Tokens, channels: Channels = "auto", mask: Tensor | None = None) -> Tensor:
    """A layer's output as samples by units.

    Args:
        output: Shape (n,), (n, features), (n, tokens, features), (n, channels, positions...) or (n, positions..., channels).
        units: What a unit is. "all": every number of the output (the papers' reading); "channels": a channel, every position
            or token being a sample; "pooled": a channel, averaged over positions or tokens.
        tokens: For outputs (n, tokens, features) under units="all": all tokens side by side, their mean, the first ("cls") or the
            last.
        channels: Whether channels are the "first" axis after that of inputs, or the "last". "auto": the last of three axes, the
            first of more.
        mask: Which tokens of (n, tokens, features) count, shape (n, tokens), truth values with at least one for each input: the
            first, the last and the mean are those of these. Under units="channels" the caller leaves the others out.

    Returns:
        View or new tensor of shape (n, positions, units): one position unless units="channels".

    Raises:
        ActivationError: what is asked for would have padding in it.
    """
    if output.ndim < _SEQUENCE:
        return output.reshape(len(output), 1, math.prod(output.shape[1:]))
    if mask is not None and bool((mask != 0).all()):
        mask = None
    if mask is not None and (mask.ndim != 2 or mask.shape[0] != len(output)):
        raise ActivationError(f"as_code: `mask` must have shape ({len(output)}, tokens); got {tuple(mask.shape)}.")
    if mask is not None and (reason := padding_in(tuple(output.shape), units=units, tokens=tokens, channels=channels, mask=mask)):
        raise ActivationError(f"as_code: {reason}.")
    is_last = channels == "last" if channels != "auto" else output.ndim == _SEQUENCE
    if units == "all" and (tokens == "all" or not is_last or output.ndim > _SEQUENCE):
        return output.reshape(len(output), 1, math.prod(output.shape[1:]))
    rows = output.flatten(1, -2) if is_last else output.flatten(2).transpose(1, 2)
    if units == "channels":
        return rows
    return _one_row(rows, "mean" if units == "pooled" else tokens, mask)


def _one_row(rows: Tensor, tokens: Tokens, mask: Tensor | None) -> Tensor:
    """The mean of the tokens that count, the first of them, or the last; shape (n, 1, units)."""
    if mask is None:
        return rows.mean(dim=1, keepdim=True) if tokens == "mean" else rows[:, :1] if tokens == "cls" else rows[:, -1:]
    counted = mask.to(rows.device) != 0
    if tokens == "mean":
        total = rows.masked_fill(~counted[:, :, None], 0).sum(dim=1, keepdim=True, dtype=torch.float64)
        return (total / counted.sum(dim=1)[:, None, None]).to(rows.dtype)  # which says how far its digits go
    number = torch.arange(rows.shape[1], device=rows.device)
    chosen = torch.where(counted, number, rows.shape[1]).amin(1) if tokens == "cls" else torch.where(counted, number, -1).amax(1)
    return rows[torch.arange(len(rows), device=rows.device), chosen].unsqueeze(1)


def padding_in(shape: tuple[int, ...], *, units: Units, tokens: Tokens, channels: Channels, mask: Tensor) -> str | None:
    """Why a code of this shape would have padding in it, or None if it would not.

    Args:
        shape: Of the output, inputs first.
        units: As in ``as_code``.
        tokens: As in ``as_code``.
        channels: As in ``as_code``.
        mask: Which tokens count, shape (n, tokens).
    """
    if len(shape) < _SEQUENCE or bool((mask != 0).all()):
        return None
    if len(shape) > _SEQUENCE or channels == "first" or shape[1] != mask.shape[1]:
        return f"its output of shape {shape} does not have the tokens of the mask, {tuple(mask.shape)}, on its second axis alone"
    if units == "all" and tokens == "all":
        return (
            "it has padding, which must not be measured, and all tokens of an input side by side have it in them. Make every "
            "token a sample with units=channels, or take one row for each input with tokens=mean, cls or last"
        )
    return None


def options_at(site: Site, options: CodeOptions) -> CodeKeywords:
    """Options of ``as_code`` at a site, whose module says where channels are unless the options do."""
    own: Channels = "last" if site.channel_axis == -1 else "first"
    return {"units": options.units, "tokens": options.tokens, "channels": own if options.channels == "auto" else options.channels}


def unreadable(site: Site, count: int) -> str | None:
    """Why a tensor is not a code of the inputs, or None if it is."""
    if not site.dtype.is_floating_point:
        return f"its {site.side} is {str(site.dtype).removeprefix('torch.')}, not floating point"
    if not site.shape or site.shape[0] != count:
        return f"its {site.side} of shape {site.shape} has no row for each of {count} inputs"
    if site.is_single:
        return f"its {site.side} of shape {site.shape} is that of one sequence, without an axis of inputs"
    if 0 in site.shape:
        return f"its {site.side} of shape {site.shape} is empty"
    return None
