"""What a spectral penalty asks of the eigenvalues: three forms, each a function of the leading eigenvalues alone."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from eigencode.spectra.power_law import power_law_line
from eigencode.spectra.window import Window

Form = Literal["exponent", "line", "nassar"]

DEFAULT_WINDOW: dict[Form, Window] = {"exponent": Window(6, 50), "line": Window(1, 10), "nassar": Window(11, 50)}
"""Ranks of each form: Gerum et al. 2022, authors' code of the figures and of 2023; Nassar et al. 2020, tau = 10."""


def exponent_form(
    eigenvalues: Float[Tensor, "members k"], target: Float[Tensor, " members"], window: Window
) -> Float[Tensor, " members"]:
    """|alpha - target|, with alpha of the least-squares line (Gerum et al. 2022, Eq. (6))."""
    alpha, _ = power_law_line(eigenvalues, window)
    return (alpha - target).abs()


def line_form(
    eigenvalues: Float[Tensor, "members k"], target: Float[Tensor, " members"], window: Window
) -> Float[Tensor, " members"]:
    """Weighted mean squared distance, in log10, to a line of the target's slope with free offset (Gerum et al., code of 2023).

    sum w (log10 lambda_n + target log10 n - t)^2 / sum w, with w = log10(n + 1) - log10(n) and t the weighted mean of
    log10 lambda_n + target log10 n.
    """
    rank = _ranks(eigenvalues, window)
    weight = torch.log10(rank + 1) - torch.log10(rank)
    weight = weight / weight.sum()
    above = eigenvalues[:, window.first - 1 : window.last].log10() + target[:, None] * rank.log10()
    return ((above - (above @ weight)[:, None]) ** 2) @ weight


def nassar_form(
    eigenvalues: Float[Tensor, "members k"], target: Float[Tensor, " members"], window: Window
) -> Float[Tensor, " members"]:
    """Mean of (lambda_n / gamma_n - 1)^2 + max(0, lambda_n / gamma_n - 1) over the ranks (Nassar et al. 2020).

    gamma_n = lambda_first (first / n)^target: the power law through the eigenvalue at the first rank, tau + 1 in the paper. The
    anchor lambda_first is held fixed in the gradient.
    """
    rank = _ranks(eigenvalues, window)
    within = eigenvalues[:, window.first - 1 : window.last]
    line = within[:, :1].detach() * (window.first / rank) ** target[:, None]
    excess = within / line - 1
    return (excess**2 + excess.relu()).mean(dim=1)


FORMS = {"exponent": exponent_form, "line": line_form, "nassar": nassar_form}

SMALLEST_EIGENVALUE: dict[Form, Literal["first", "last"]] = {"exponent": "last", "line": "last", "nassar": "first"}
"""Which end of the window must lie above the numerical floor: logarithms need all eigenvalues, Nassar's form the anchor."""


def _ranks(eigenvalues: Tensor, window: Window) -> Tensor:
    return torch.arange(window.first, window.last + 1, dtype=eigenvalues.dtype, device=eigenvalues.device)


def evaluate(
    form: Form, eigenvalues: Float[Tensor, "members k"], target: Float[Tensor, " members"], window: Window
) -> tuple[Float[Tensor, " members"], Float[Tensor, "members k"]]:
    """Value of a form and its gradient by the eigenvalues; equal eigenvalues share the mean of their gradients.

    Sorted eigenvalues have no gradient where two are equal; the mean is the central difference in every direction, and does not
    depend on the eigenvectors that a solver happens to return.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = eigenvalues.detach().clone().requires_grad_(True)
        values = FORMS[form](leaf, target, window)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), _share_among_equals(gradient, eigenvalues)


_EQUAL = 64 * torch.finfo(torch.float64).eps
"""Eigenvalues closer than this fraction of the largest are equal: LAPACK's rounding."""


def _share_among_equals(gradient: Tensor, eigenvalues: Tensor) -> Tensor:
    apart = (eigenvalues[:, :-1] - eigenvalues[:, 1:]) > _EQUAL * eigenvalues[:, :1]
    if bool(apart.all()):
        return gradient
    cluster = torch.cat([torch.zeros_like(apart[:, :1], dtype=torch.long), apart.long()], dim=1).cumsum(dim=1)
    sums = torch.zeros_like(gradient).scatter_add_(1, cluster, gradient)
    sizes = torch.zeros_like(gradient).scatter_add_(1, cluster, torch.ones_like(gradient))
    return (sums / sizes.clamp_min(1)).gather(1, cluster)
