"""The spectral penalty: makes the code of a layer decay as asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eigencode import _processes
from eigencode._arguments import checked, shown
from eigencode._arithmetic import full_float32
from eigencode.errors import PenaltyError, SpectrumError
from eigencode.penalties.forms import DEFAULT_WINDOW, SMALLEST_EIGENVALUE, Form, evaluate
from eigencode.penalties.gradients import applied, as_member, differentiated_once
from eigencode.spectra.leading import Leading, Samples, Tracking, above_floor, dense, tracked
from eigencode.spectra.power_law import power_law_line
from eigencode.spectra.window import Ranks, Window

Solver = Literal["tracked", "dense"]
Degenerate = Literal["raise", "skip"]

_SEQUENCE = 3
"""Dimensions of (n, tokens, units)."""

_DENSE_ORDER = 2
"""The dense solver is used where the smaller of samples and units is below this many blocks: it costs less there."""

_GROWN_ORDER = 4
"""A block grows by what expansions found up to this part of it: larger ones are no cheaper than the dense solver."""


@dataclass(frozen=True)
class PenaltyStep:
    """What the last call of a spectral penalty found, for each member.

    Attributes:
        alpha: Exponent of this batch over the penalty's ranks, shape (members,); NaN where skipped.
        eigenvalues: Up to the last rank, shape (members, last), squared activation units; NaN where skipped.
        residual: Relative change of the gradient by the last power iteration, shape (members,); 0 for the dense solver,
            infinite where it took over since the tracked one had lost the code.
        expansions: Expansions of the tracked block, shape (members,).
        solver: Solver whose result was used, for each member; "skipped" for none.
    """

    alpha: Tensor
    eigenvalues: Tensor
    residual: Tensor
    expansions: Tensor
    solver: tuple[str, ...]


class SpectralPenalty(nn.Module):
    """Penalty on the eigenspectrum of a batch of activations, to be added to a loss.

    The gradient is exact at the eigenvalues: d lambda_i / d A = 2 / (n - 1) A v_i v_i', with the mean of A removed. Equal
    eigenvalues share the mean of their gradients (for a pair, the central difference). The tracked solver carries a block of
    leading eigenvectors from call to call: use one penalty for each layer; as a part of a module it is saved and moved with it.
    Under
    torch.distributed the statistics are those of the batches of all processes together, and the gradient is scaled by the
    number of processes, so that averaging gradients, as DistributedDataParallel does, gives that of one process with all images.

    Args:
        target: Exponent asked for; one number, or one for each member of an ensemble.
        ranks: Window, its name or text ("6-50"), or first and last rank, 1-based, inclusive. Default: 6-50 for "exponent", 1-10
            for "line", 11-50 for "nassar". Its weights are those of the exponent; the other forms have weights of their own.
        form: "exponent", |alpha - target| (Gerum et al. 2022, Eq. (6)); "line", weighted squared distance to a line of the target
            slope with free offset (their code of 2023); "nassar", relative distance to a power law anchored at the first rank
            (Nassar et al. 2020).
        solver: "tracked", or "dense" for a full eigen-decomposition in float64 at every call. Small problems are solved densely
            in any case.
        degenerate: "raise" an error, or "skip" and count the call, when the batch is too small for the ranks, or the code has
            collapsed to fewer dimensions.
        tracking: How the tracked solver works; see ``Tracking``.

    Attributes:
        skipped: Calls skipped so far, for each member.
        last: What the last call found.

    Raises:
        PenaltyError: a target below zero, or an unknown form, solver or way with degenerate codes.
        SpectrumError: ranks that are not a window.

    Source: Gerum et al. 2022, Eqs. (4)-(6); Nassar et al. 2020.

    Example:
        >>> penalty = SpectralPenalty(target=1.0, ranks=(2, 8))
        >>> scales = torch.arange(1, 11, dtype=torch.float64) ** -1.0  # standard deviations, so the exponent is 2
        >>> code = torch.linalg.qr(torch.randn(40, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q
        >>> code = torch.linalg.qr(code - code.mean(dim=0)).Q * scales
        >>> round(float(penalty(code)), 6)
        1.0
    """

    @checked(PenaltyError)
    def __init__(
        self,
        target: float | Sequence[float] | Tensor = 1.0,
        *,
        ranks: Ranks | None = None,
        form: Form = "exponent",
        solver: Solver = "tracked",
        degenerate: Degenerate = "raise",
        tracking: Tracking | None = None,
    ) -> None:
        super().__init__()
        if isinstance(target, Tensor) and target.is_complex():
            raise PenaltyError("SpectralPenalty: `target` must be a finite exponent of at least 0; got complex numbers.")
        self.target = torch.as_tensor(target, dtype=torch.float64).reshape(-1)
        if not bool((self.target >= 0).all() & self.target.isfinite().all()):
            raise PenaltyError(f"SpectralPenalty: `target` must be a finite exponent of at least 0; got {shown(target)}.")
        self.window = DEFAULT_WINDOW[form] if ranks is None else Window.of(ranks)
        self.form, self.solver, self.degenerate = form, solver, degenerate
        self.tracking = tracking or Tracking()
        self.skipped = torch.zeros(1, dtype=torch.int64)
        self.last: PenaltyStep | None = None
        self._blocks: list[Tensor | None] = []

    @checked(PenaltyError)
    def forward(self, activations: Tensor, mask: Tensor | None = None) -> Float[Tensor, ""]:
        """Penalty of one network's batch.

        Args:
            activations: Outputs of a layer, shape (n, ...); everything but the first dimension is units.
            mask: For activations (n, tokens, units): which tokens count, shape (n, tokens), such as a batch's attention_mask.
                Each of these is a sample, and padding is left out.

        Returns:
            Scalar, differentiable once; 0 if the call was skipped.

        Raises:
            PenaltyError: see ``members``; a mask of another shape.
        """
        if mask is not None:
            if activations.ndim != _SEQUENCE or mask.shape != activations.shape[:2]:
                raise PenaltyError(
                    f"SpectralPenalty: `mask` must have the first two dimensions of activations (n, tokens, units); got "
                    f"{tuple(mask.shape)} for {tuple(activations.shape)}."
                )
            is_token = mask != 0
            if mask.dtype != torch.bool and bool((is_token != mask).any()):
                raise PenaltyError(
                    "SpectralPenalty: `mask` must hold 1 for tokens and 0 for padding; got other values. Convert it."
                )
            activations = activations[is_token]
        return self.members(as_member(activations))[0]

    @checked(PenaltyError)
    def members(self, activations: Tensor) -> Float[Tensor, " members"]:
        """Penalty of each member of an ensemble.

        Args:
            activations: Shape (members, n, ...).

        Returns:
            One penalty for each member.

        Raises:
            PenaltyError: activations that are not finite or not floating point, another number of members than targets, and,
                unless ``degenerate`` is "skip", a batch that is too small for the ranks or a collapsed code.
        """
        if not activations.dtype.is_floating_point or activations.ndim < 3:
            raise PenaltyError(
                f"SpectralPenalty: activations must be floating-point of shape (n, units ...); got {activations.dtype} of shape "
                f"{tuple(activations.shape[1:])}."
            )
        if len(self.target) not in (1, len(activations)):
            raise PenaltyError(
                f"SpectralPenalty: there are {len(self.target)} targets for {len(activations)} members. Pass one or one for each."
            )
        with torch.autocast(activations.device.type, enabled=False), full_float32():
            flat = activations.flatten(2)
            if flat.dtype not in (torch.float32, torch.float64):
                flat = flat.float()
            values: Tensor = applied(_Penalty, flat, self)
        return values

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Tensors that a later penalty needs to go on as this one would; blocks have the size that they need."""
        destination[f"{prefix}skipped"] = self.skipped.clone()
        for number, block in enumerate(self._blocks):
            if block is not None:
                destination[f"{prefix}block.{number}"] = block.clone()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        _metadata, strict, missing, unexpected, _errors = others
        skipped = state_dict.get(f"{prefix}skipped")
        if skipped is None:
            if strict:
                missing.append(f"{prefix}skipped")
            return
        self.skipped = skipped.clone().cpu().reshape(-1)
        known = {f"{prefix}skipped", *(f"{prefix}block.{number}" for number in range(len(self.skipped)))}
        if strict:
            unexpected += [name for name in state_dict if name.startswith(prefix) and name not in known]
        blocks = (state_dict.get(f"{prefix}block.{number}") for number in range(len(self.skipped)))
        self._blocks = [None if block is None else block.clone() for block in blocks]

    def _apply(self, fn: Any, recurse: bool = True) -> SpectralPenalty:
        """Moves and converts blocks, as ``to`` does parameters."""
        self._blocks = [None if block is None else fn(block) for block in self._blocks]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def evaluate(self, activations: Float[Tensor, "members n f"]) -> tuple[Tensor, Tensor, Leading | None]:
        """Values, what d value / d eigenvalue is times processes / (n - 1), and eigenpairs; the block moves on. No autograd."""
        members, n_local, n_features = activations.shape
        samples = _over_processes(n_local, activations.device)
        total = samples.total
        last = self.window.last
        if len(self.skipped) != members:
            self.skipped = self.skipped.new_zeros(members)
        if min(total - 1, n_features) < last:
            return self._too_small(activations, total)
        target = self.target.to(activations.device).expand(members)
        try:
            found, solver = self._solve(activations, target, samples)
        except SpectrumError as error:
            raise PenaltyError(f"SpectralPenalty: {error} Lower the learning rate, or clip the gradients.") from None
        usable = self._usable(found, activations, total)
        safe = torch.where(usable[:, None], found.eigenvalues, 1.0)
        values, gradients = evaluate(self.form, safe, target, self.window)
        values, gradients = torch.where(usable, values, 0.0), torch.where(usable[:, None], gradients, 0.0)
        self.skipped += (~usable).cpu()
        alpha, _ = power_law_line(found.eigenvalues.clamp_min(torch.finfo(torch.float64).tiny), self.window)
        self.last = PenaltyStep(
            alpha=torch.where(usable, alpha, torch.nan),
            eigenvalues=torch.where(usable[:, None], found.eigenvalues[:, :last], torch.nan),
            residual=found.residual,
            expansions=found.expansions,
            solver=tuple(name if fine else "skipped" for name, fine in zip(solver, usable.tolist(), strict=True)),
        )
        return values, gradients * (_processes.count() / (total - 1)), found

    def _solve(self, activations: Tensor, target: Tensor, samples: Samples) -> tuple[Leading, list[str]]:
        """Eigenpairs of each member: tracked where its block has a size that pays, else, or if that fails, dense.

        A member whose block fails gets one of twice the size for the next call (of the same, if the code has left it), one that
        needs several expansions keeps what they found: the steeper the window, the more eigenvalues crowd below it.
        """
        members, _, n_features = activations.shape
        count, rows = self.window.last + 1, self.tracking.rows(self.window.last)  # one more: it may equal the last
        largest = min(samples.total, n_features) // _DENSE_ORDER
        if self.solver == "dense" or largest < rows:
            return dense(activations, count, samples), ["dense"] * members
        if len(self._blocks) != members:
            self._blocks = [None] * members
        sizes = [_rows_of(block, n_features, activations.dtype) for block in self._blocks]
        solver, parts = ["tracked"] * members, dict[int, Leading]()
        for size in dict.fromkeys(filter(None, sizes)):
            chosen = torch.tensor([number for number in range(members) if sizes[number] == size], device=activations.device)
            carried = [block for block, own in zip(self._blocks, sizes, strict=True) if own == size and block is not None]
            found = tracked(
                activations if len(chosen) == members else activations[chosen],
                torch.stack(carried).to(activations.device),
                (self.window.first, count),
                self.tracking,
                partial(self._weights, target=target[chosen]),
                samples,
            )
            room = max(size, min(samples.total, n_features) // _GROWN_ORDER)
            for number, (pairs, block) in zip(chosen.tolist(), found, strict=True):
                parts[number], self._blocks[number] = pairs, block[:room]
        residuals = torch.cat([part.residual for part in parts.values()]).tolist() if parts else []
        left = dict(zip(parts, residuals, strict=True))
        for number in range(members):
            attempt = parts.get(number)
            if attempt is not None and left[number] <= self.tracking.tolerance:
                continue
            lost = attempt is not None and math.isinf(left[number])
            grown = min(sizes[number] if lost else 2 * sizes[number], largest) or rows
            exact = dense(activations[number, None], grown, samples)
            self._blocks[number], solver[number] = exact.vectors[0], "dense"
            parts[number] = exact.truncated(count)
            if attempt is not None:
                parts[number] = replace(parts[number], residual=attempt.residual, expansions=attempt.expansions)
        return Leading.joined([parts[number] for number in range(members)]), solver

    def _weights(self, eigenvalues: Tensor, members: Tensor, *, target: Tensor) -> Tensor:
        """Gradient by the eigenvalues, for as many members as there are."""
        safe = eigenvalues.clamp_min(torch.finfo(torch.float64).tiny)
        return evaluate(self.form, safe, target[members], self.window)[1]

    def _usable(self, found: Leading, activations: Tensor, total: int) -> Tensor:
        """Members whose eigenvalues lie above the numerical floor as far as the form needs them."""
        position = self.window.ranks[0 if SMALLEST_EIGENVALUE[self.form] == "first" else 1] - 1
        above = above_floor(found.eigenvalues, activations, total=total, everywhere=True)
        usable = above[:, position]
        if self.degenerate == "raise" and not bool(usable.all()):
            member = int((~usable).nonzero()[0])
            rank = int(above[member].sum())
            raise PenaltyError(
                f"SpectralPenalty: the code has collapsed to {rank} dimensions above rounding"
                f"{f' in member {member}' if len(usable) > 1 else ''}; ranks {self.window} need "
                f"{position + 1}. "
                'Lower the last rank or the strength, or pass degenerate="skip".'
            )
        return usable

    def _too_small(self, activations: Tensor, total: int) -> tuple[Tensor, Tensor, None]:
        members, _, n_features = activations.shape
        if self.degenerate == "raise" or n_features < self.window.last:
            raise PenaltyError(
                f"SpectralPenalty: ranks {self.window} need {self.window.last + 1} images in a batch and "
                f"{self.window.last} units; got {total} images and {n_features} units. Lower the last rank"
                + (", or enlarge the batch." if n_features >= self.window.last else ", or choose a wider layer.")
            )
        self.skipped += 1
        missing = torch.full((members,), torch.nan, dtype=torch.float64)
        self.last = PenaltyStep(
            missing, missing[:, None].expand(-1, self.window.last), missing, torch.zeros(members), ("skipped",) * members
        )
        return activations.new_zeros(members, dtype=torch.float64), torch.empty(0), None


def _rows_of(block: Tensor | None, n_features: int, dtype: torch.dtype) -> int:
    """Rows of a block that fits activations; 0 if there is none."""
    return len(block) if block is not None and block.shape[1] == n_features and block.dtype == dtype else 0


def _over_processes(n_local: int, device: torch.device) -> Samples:
    if _processes.count() == 1:
        return Samples(n_local)
    return Samples(int(_processes.total(torch.tensor(n_local, device=device))), _processes.total)


class _Penalty(torch.autograd.Function):
    """Activations to one penalty for each member; the gradient needs the leading eigenpairs alone."""

    @staticmethod
    def forward(ctx: Any, activations: Tensor, penalty: SpectralPenalty) -> Tensor:
        values, gradients, found = penalty.evaluate(activations.detach())
        eigenpairs = () if found is None else (2 * gradients, found.vectors, found.projections)
        ctx.save_for_backward(activations, *eigenpairs)
        return values.to(activations.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, None]:
        activations, *eigenpairs = ctx.saved_tensors
        with torch.no_grad():
            if eigenpairs:
                gradients, vectors, projections = eigenpairs
                weights = (gradients * upstream[:, None]).to(vectors.dtype)
                gradient = (projections * weights[:, :, None]).mT @ vectors
            else:
                gradient = torch.zeros_like(activations)
        if torch.is_grad_enabled():  # a graph of the gradient is asked for, which may be differentiated again
            gradient = differentiated_once(gradient, activations, upstream)
        return gradient, None
