"""Which call of a module makes the scores: the last with weights that they depend on."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eigencode._inputs import Inputs, run
from eigencode.activations.calls import Call, key_of, scores_in
from eigencode.activations.hooks import hooked, state_put_back

_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)
"""Their weights may have two dimensions, and make no units of their own."""


def random_state(inputs: Inputs) -> tuple[Tensor, Tensor | None]:
    """Of the processor and of the device that the inputs are on."""
    device = inputs.main.device
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


@dataclass(frozen=True)
class Rerun:
    """The same forward pass once more, with the same noise."""

    model: nn.Module
    inputs: Inputs
    state: tuple[Tensor, Tensor | None]
    scores: Tensor

    def changes(self, call: Call) -> bool:
        """Whether the scores are others when the output of a call is."""
        torch.set_rng_state(self.state[0])
        if self.state[1] is not None:
            torch.cuda.set_rng_state(self.state[1], self.inputs.main.device)

        def after(_name: str, number: int, output: Any) -> Any:
            return _shifted(output) if number == call.number else None

        try:
            with state_put_back(self.model), hooked(self.model, [call.module], after=after):
                scores = scores_in(run(self.model, self.inputs))
        except Exception:  # of what cannot be computed of other numbers
            return True
        return scores is None or scores.shape != self.scores.shape or not _same(scores, self.scores)


def _same(one: Tensor, other: Tensor) -> bool:
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def _shifted(output: Any) -> Any:
    """An output whose numbers are all others, by different amounts; of its own class, such as transformers' outputs."""
    if isinstance(output, Tensor):
        if not output.is_floating_point() or not output.numel() or output.layout != torch.strided:
            return output
        ramp = torch.linspace(1, 2, output.numel(), device=output.device, dtype=output.dtype).view(output.shape)
        return output + ramp * (1 + output.abs().amax())
    if isinstance(output, (tuple, list)):
        parts = map(_shifted, output)
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    changed: Any = copy.copy(output)
    if isinstance(output, Mapping):
        for key, value in output.items():
            changed[key] = _shifted(value)
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        for item in dataclasses.fields(output):
            object.__setattr__(changed, item.name, _shifted(getattr(output, item.name)))
    return changed


def last_weighted(modules: Mapping[str, nn.Module], calls: Sequence[Call]) -> Call | None:
    """The last call that makes units by weights."""
    return next((call for call in reversed(calls) if _is_weighted(call, modules)), None)


def head_of(modules: Mapping[str, nn.Module], calls: Sequence[Call], rerun: Rerun) -> Call | None:
    """The last call of a module with weights that the scores depend on."""
    candidates = [call for call in reversed(calls) if _is_weighted(call, modules)]
    if not bool(rerun.scores.isfinite().any()):  # nothing changes them
        return next(iter(candidates), None)
    return next((call for call in candidates if makes(call, rerun.scores) or rerun.changes(call)), None)


def makes(call: Call, scores: Tensor) -> bool:
    """Whether a tensor that a call returned is the scores."""
    key = key_of(scores)
    return key is not None and any(own is not None and own[:3] == key[:3] for _, _, own in call.made)


def unusual(head: str, call: Call, scores: Tensor, possible: int) -> str:
    """What a reader should know of the call that reads the head; empty if it makes one score for each class and input."""
    found = []
    if sum(tensor.is_floating_point() for _, tensor, _ in call.given) > 1:
        found.append("takes other inputs too")
    if not makes(call, scores):
        found.append("does not return the scores itself")
    elif scores.ndim > 2:
        found.append("scores each token or position")
    if possible > 1:
        found.append(f"makes the first of {possible} tensors that the network returns, none of them called logits")
    return f"`{head}` is what {call.module} reads, which {' and '.join(found)}" if found else ""


def _is_weighted(call: Call, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a call makes units of its inputs by weights: its own, or those of parts that it does not call."""
    module = modules[call.module]
    if isinstance(module, _NORMS) or not any(tensor.is_floating_point() for _, tensor, _ in call.given):
        return False
    if any(_is_weighted(inner, modules) for inner in call.inner):
        return False
    weights = [*module.parameters(recurse=not call.inner), *module.buffers(recurse=not call.inner)]
    matrices = any(each.is_floating_point() and _is_matrix(each, call) for each in weights)
    return matrices or hasattr(module, "_packed_params")  # of a quantised layer


def _is_matrix(weights: Tensor, call: Call) -> bool:
    """Whether they make one number of many: from all features or channels of what a call was given to those that it returned."""
    if sum(size > 1 for size in weights.shape) > 1:
        return True
    if weights.ndim < 2 or weights.numel() < 2:
        return False
    axis = -1 if weights.ndim == 2 else 1  # a line of weights: of one output, or of one input
    sizes = [{each.shape[axis] for _, each, _ in tensors if each.ndim > 1} for tensors in (call.given, call.made)]
    ends = tuple(weights.shape[:2])
    return any((own, made) in (ends, ends[::-1]) for own in sizes[0] for made in sizes[1])
