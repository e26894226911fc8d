"""Penalties on the Jacobian of a network's scores, or of a layer, with respect to its input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from eigencode._arguments import checked
from eigencode._arithmetic import exact_arithmetic
from eigencode._inputs import given_to
from eigencode._running import cannot_run, does_not_fit
from eigencode.activations import model_device
from eigencode.datasets.images import ImageSet
from eigencode.errors import PenaltyError

JacobianKind = Literal["exact", "projected", "column_sum"]

JACOBIAN_KINDS: tuple[JacobianKind, ...] = ("exact", "projected", "column_sum")


@checked(PenaltyError)
def jacobian_penalty(
    function: Callable[[Tensor], Tensor],
    inputs: Float[Tensor, "n ..."],
    *,
    kind: JacobianKind = "exact",
    projections: int = 1,
    squared: bool = False,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Size of the Jacobian of outputs with respect to inputs, averaged over images, differentiable by the parameters.

    "exact": Frobenius norm of the whole Jacobian. "projected": the unbiased estimate of its square from random unit vectors v of
    output space, C / projections * sum of ||d(v . y) / dx||^2 (Hoffman et al. 2019); its root is biased low. "column_sum": norm
    of the sum of the Jacobian over outputs, which Schaeffer et al. had to use in place of the first.

    Args:
        function: Network, or any function of images (n, ...) to outputs (n, ...), each row a function of its own image alone (not
            so in training mode with batch normalisation).
        inputs: Images, shape (n, ...).
        kind: "exact", "projected" or "column_sum".
        projections: Random vectors for each image, for "projected".
        squared: Half the mean square (Hoffman et al.) in place of the mean norm (Schaeffer et al., Eq. (1)).
        generator: Source of the random vectors; default: the global one.

    Returns:
        Scalar, in output units over input units (squared, if ``squared``).

    Raises:
        PenaltyError: an unknown kind, fewer than one projection, outputs that do not depend on the inputs, or a Jacobian that is
            not finite.

    Source: Schaeffer et al. 2020, Eq. (1); Hoffman, Roberts & Yaida 2019.

    Example:
        >>> network = nn.Linear(3, 2, bias=False)
        >>> _ = network.load_state_dict({"weight": torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])})
        >>> jacobian_penalty(network, torch.rand(7, 3)).item()
        5.0
    """
    if not isinstance(inputs, Tensor) or not inputs.dtype.is_floating_point or inputs.ndim < 2:
        raise PenaltyError(f"jacobian_penalty: `inputs` must be a floating-point tensor (n, ...); got {type(inputs).__name__}.")
    source = inputs.detach().requires_grad_(True)
    try:
        with torch.enable_grad():
            outputs = function(given_to(function, source))
    except RuntimeError as error:
        if not does_not_fit(error) or not isinstance(function, nn.Module):
            raise
        raise PenaltyError(cannot_run(function, inputs, error)) from error
    if not isinstance(outputs, Tensor) or outputs.ndim == 0 or len(outputs) != len(inputs):
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise PenaltyError(
            f"jacobian_penalty: the network must return one tensor with a row for each of {len(inputs)} images; got {got}. Wrap "
            "it in a function that does."
        )
    flat = outputs.to(inputs.dtype).reshape(len(outputs), -1)
    directions = random_directions(flat, projections, generator=generator) if kind == "projected" else None
    squares = jacobian_squares(flat, source, kind=kind, directions=directions)
    value = half_square_or_norm(squares, squared=squared).mean()
    _check_finite(value)
    return value


def _check_finite(values: Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise PenaltyError(
            "jacobian_penalty: the Jacobian and its squares must be finite; got NaN or infinite values. Check the inputs, or "
            "lower the learning rate."
        )


@checked(PenaltyError)
def half_square_or_norm(squares: Tensor, *, squared: bool) -> Tensor:
    """Half of each squared norm, or the norm with gradient 0 at 0; NaN of NaN."""
    if squared:
        return squares / 2
    nothing = squares <= 0
    return torch.where(nothing, 0.0, torch.where(nothing, 1.0, squares).sqrt())


@checked(PenaltyError)
def jacobian_squares(
    outputs: Float[Tensor, "*rows outputs"],
    inputs: Tensor,
    *,
    kind: JacobianKind,
    directions: Float[Tensor, "projections *rows outputs"] | None = None,
) -> Float[Tensor, "*rows"]:
    """Squared norm of each row's Jacobian, from outputs that autograd has followed from inputs.

    Args:
        outputs: Shape (..., outputs), each row a function of its own input alone.
        inputs: Shape (..., input dimensions), with gradients.
        kind: See ``jacobian_penalty``.
        directions: For "projected": what ``random_directions`` drew.

    Returns:
        Shape (...), differentiable.

    Raises:
        PenaltyError: an unknown kind, missing directions, or outputs that do not depend on the inputs.
    """
    if not outputs.requires_grad:
        raise PenaltyError("jacobian_penalty: the outputs do not depend on the inputs. Pass a network without detached parts.")
    rows, count = outputs.shape[:-1], outputs.shape[-1]
    if kind == "column_sum":
        directions = torch.ones_like(outputs)[None]
    elif kind == "exact":
        directions = torch.eye(count, dtype=outputs.dtype, device=outputs.device)
        directions = directions.view(count, *[1] * len(rows), count).expand(count, *outputs.shape)
    elif directions is None:
        raise PenaltyError('jacobian_squares: "projected" needs `directions`. Draw them with random_directions.')
    if len(directions) == 1:
        (gradients,) = torch.autograd.grad(outputs, inputs, directions[0], create_graph=True, allow_unused=True)
        gradients = None if gradients is None else gradients[None]
    else:
        (gradients,) = torch.autograd.grad(
            outputs, inputs, directions, create_graph=True, is_grads_batched=True, allow_unused=True
        )
    if gradients is None:
        raise PenaltyError("jacobian_penalty: the outputs do not depend on the inputs. Pass a network without detached parts.")
    squares: Tensor = (gradients**2).flatten(1 + len(rows)).sum(dim=(0, -1))
    return squares


@checked(PenaltyError)
def random_directions(
    outputs: Float[Tensor, "*rows outputs"], projections: int, *, generator: torch.Generator | None = None
) -> Float[Tensor, "projections *rows outputs"]:
    """Random unit vectors of output space, scaled so that squared projections add up to the squared norm on average.

    Args:
        outputs: Gives shape, type and device.
        projections: Vectors for each row.
        generator: Source, on the CPU; default: the global one.

    Returns:
        Shape (projections, ..., outputs).

    Raises:
        PenaltyError: fewer than one projection.
    """
    drawn = torch.randn((projections, *outputs.shape), generator=generator, dtype=outputs.dtype).to(outputs.device)
    scaled: Tensor = drawn / torch.linalg.vector_norm(drawn, dim=-1, keepdim=True) * (outputs.shape[-1] / projections) ** 0.5
    return scaled


@checked(PenaltyError)
def compare_jacobians(
    model: nn.Module, images: ImageSet, *, projections: int = 1, seed: int = 0, batch_size: int = 100
) -> pd.DataFrame:
    """The three Jacobian norms of a trained network side by side, over images.

    Args:
        model: Network in evaluation mode, left as it is.
        images: Images, in [0, 1].
        projections: Random vectors for each image.
        seed: Seed of the random vectors.
        batch_size: Images at once.

    Returns:
        One row for each kind: mean and standard deviation over images of the norm, their root mean square, and the correlation
        over images with the exact norm.

    Raises:
        PenaltyError: a Jacobian is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    norms: dict[str, list[Tensor]] = {kind: [] for kind in JACOBIAN_KINDS}
    device = model_device(model)
    with exact_arithmetic(device):
        for batch in images.inputs.split(batch_size):
            for kind in JACOBIAN_KINDS:
                source = batch.to(device).requires_grad_(True)
                outputs = model(given_to(model, source)).to(source.dtype).flatten(1)
                directions = random_directions(outputs, projections, generator=generator)
                squares = jacobian_squares(outputs, source, kind=kind, directions=directions)
                _check_finite(squares)
                norms[kind].append(squares.detach().double().sqrt().cpu())
    joined = {kind: torch.cat(parts) for kind, parts in norms.items()}
    exact = joined["exact"]
    return pd.DataFrame(
        [
            {
                "kind": kind,
                "mean": float(values.mean()),
                "std": float(values.std()),
                "root_mean_square": float((values**2).mean().sqrt()),
                "correlation": float(torch.corrcoef(torch.stack([values, exact]))[0, 1]),
            }
            for kind, values in joined.items()
        ]
    )
