"""Model + images -> an Eigenspectrum per layer: activations poured into accumulators while the forward pass runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from eigencode import _processes
from eigencode._arguments import checked
from eigencode._codes import Channels, CodeOptions, Tokens, Units
from eigencode._inputs import run
from eigencode._running import usable_device
from eigencode.activations import Coded, capture_codes, model_device, select_sites, token_axes, traced_for, unreadable, unwrapped
from eigencode.errors import ActivationError
from eigencode.measurement.batches import Batches, Images, Perturbation, Reading, sets_of
from eigencode.measurement.reader import NetworkReader, Output, Progress, random_devices
from eigencode.measurement.result import Measurement
from eigencode.measurement.settings import MeasuringKeywords, MeasuringOptions, MeasuringSettings, check_tokens


@checked(ActivationError, options=MeasuringOptions)
def measure(
    model: nn.Module,
    images: Images,
    *,
    layers: str | Sequence[str] = "penultimate",
    mask: str = "attention_mask",
    groups: Any = None,
    perturbation: Perturbation | None = None,
    device: str | torch.device | None = None,
    distributed: bool = True,
    progress: Progress | None = None,
    on_output: Output | None = None,
    **measuring: Unpack[MeasuringKeywords],
) -> Measurement:
    """Eigenspectrum of the code at every layer asked for.

    The model is run in evaluation mode without gradients and is left as it was found. All that is allocated beside the forward
    pass itself keeps within ``memory_limit`` at every moment: layers that do not fit beside each other are measured in further
    passes over the images, and a layer that does not fit alone is sketched (see ``SpectrumAccumulator``). Under
    torch.distributed every process takes its share of the images and all get the result: all must call this function.

    Args:
        model: Any network.
        images: ImageSet, TokenSet, tensor or array of inputs (n, ...), a mapping of these by the names that the network's forward
            method has for them, a tuple of these by position, or a DataLoader, Dataset or list of batches of any such kind. Of
            a tuple the network gets the first part, or as many as its forward method requires; the next part is the labels.
        layers: "head" (or "penultimate": what the last weighted module on the way to the scores reads), "blocks" (the repeated
            blocks of the network), "all" (modules that call no others), names such as "conv1", "relu#2" (the second call),
            "attention[0]" (one of several tensors) and "fc.input", globs, or a list of these.
        mask: Name of what says, in mappings, which tokens count (1) and which are padding (0), shape (n, tokens).
        groups: For each image the set that it belongs to (augmentations of one image, frames of one film, subjects): intervals
            come from half-samples of sets, not of images. Default: each image is one.
        perturbation: Called as ``perturbation(inputs, indices)`` before the network, with the images' indices.
        device: Where to run; default: where the model is.
        distributed: Measure together with the other processes of torch.distributed; else on this one alone.
        progress: Called with what is being done, how much is done and how much there is.
        on_output: Called once for each batch with the network's output and the images' indices.
        **measuring: units: "all" numbers of a map are units (the papers' reading), "channels" with positions or tokens as
            samples, or "pooled". tokens: of token models under units="all": "all", "mean", "cls" (the first) or "last".
            channels: where those of maps are: "first" or "last" after the axis of images; "auto": as the module says.
            batch_size: images for each forward pass, 128. memory_limit: bytes for the statistics of all layers, the working
            copies made of them, and the results, "4GiB". half_samples: half-samples kept for ``alpha_interval``, 20; 0 saves
            time and memory. seed: of half-samples and sketches, 0.

    Returns:
        Measurement: a dict of layer name to Eigenspectrum, with ``skipped`` layers and their reasons.

    Raises:
        EigencodeError: no such layer, images the network cannot read, values that are not finite, or a limit below the least that
            a layer can be measured with.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> network = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 5))
        >>> spectra = measure(network, torch.rand(200, 20), layers="all")
        >>> {name: spectrum.n_features for name, spectrum in spectra.items()}
        {'0': 30, '1': 30, '2': 5}
    """
    model = unwrapped(model)
    home = model_device(model)
    place = home if device is None else torch.device(usable_device(device, written="`device`"))
    settings = MeasuringSettings(layers=layers, **measuring)
    check_tokens("measure", settings)
    batches = Batches(model, images, Reading(settings.batch_size, mask, place, split=distributed), perturbation)
    sets = sets_of(groups, batches)
    if distributed:
        _processes.meet("measure")
    if device is not None:
        model.to(batches.device)
    try:
        return NetworkReader(model, batches, settings, progress, sets).measured(on_output)
    finally:
        if device is not None:
            model.to(home)


@checked(ActivationError)
def collect(
    model: nn.Module,
    images: Images,
    *,
    layer: str = "penultimate",
    units: Units = "all",
    tokens: Tokens = "all",
    channels: Channels = "auto",
    mask: str = "attention_mask",
    batch_size: int = 128,
) -> Tensor:
    """Activations of one layer for all images, for analyses that need them all, such as ``stimulus_curve``.

    Args:
        model: Any network.
        images: As in ``measure``.
        layer: Name of one layer, or "head".
        units: As in ``measure``.
        tokens: As in ``measure``.
        channels: As in ``measure``.
        mask: As in ``measure``.
        batch_size: Images for each forward pass.

    Returns:
        Tensor on the CPU, shape (n_images, n_units), or (n_images, n_positions, n_units) for units="channels"; NaN at positions
        that are padding.

    Raises:
        ActivationError: no such layer, several that match, or an output that is not a code of the images.
    """
    model, options = unwrapped(model), CodeOptions(units, tokens, channels)
    check_tokens("collect", options)
    batches = Batches(model, images, Reading(batch_size, mask, split=False))
    traced, first = traced_for(model, layer, batches.few())
    found = select_sites(traced, layer)
    if len(found) != 1:
        raise ActivationError(
            f"collect: `layer` must name one layer; {layer!r} matches {len(found)} "
            f"({', '.join(entry.name for entry in found[:6])}). Name one of them."
        )
    reason = unreadable(found[0], len(first.indices))
    if reason:
        raise ActivationError(f"collect: {found[0].name} cannot be read: {reason}.")
    axes = token_axes(model, first.inputs, found, first.masks)
    rows: list[Tensor] = []

    def consume(name: str, code: Coded) -> None:
        if code.rows is None:
            raise ActivationError(f"collect: {name} cannot be read: {code.reason}.")
        copied = code.rows.to("cpu", copy=True)
        rows.append(copied if code.mask is None else copied.masked_fill(~code.mask.cpu()[:, :, None], torch.nan))

    with torch.random.fork_rng(random_devices(batches)):
        for number, batch in enumerate(batches, 1):
            with capture_codes(model, found, consume, options, axes, batch.masks):
                run(model, batch.inputs)
            if len(rows) != number or len(rows[-1]) != len(batch.indices):
                raise ActivationError(f"collect: {found[0].name} has no row for each of the inputs. Name another layer.")
    if units != "channels":
        return torch.cat(rows).squeeze(1)
    longest = max(code.shape[1] for code in rows)
    return torch.cat([nn.functional.pad(code, (0, 0, 0, longest - code.shape[1]), value=torch.nan) for code in rows])
