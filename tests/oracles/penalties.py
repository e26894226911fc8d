"""Slow float64 references for the penalties: eigenvalues by autograd through a full decomposition."""

import torch


def eigenvalues(code):
    """Descending eigenvalues of the covariance, as autograd follows them."""
    centred = code.to(torch.float64) - code.to(torch.float64).mean(dim=0)
    return torch.linalg.eigvalsh(centred.T @ centred / (len(code) - 1)).flip(0)


def _line(values, first, last):
    x = torch.arange(first, last + 1, dtype=torch.float64).log()
    y = values[first - 1 : last].log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return -slope


def spectral(code, *, target, ranks, form):
    """The penalty, differentiable by autograd alone."""
    values, (first, last) = eigenvalues(code), ranks
    rank = torch.arange(first, last + 1, dtype=torch.float64)
    window = values[first - 1 : last]
    if form == "exponent":
        return (_line(values, first, last) - target).abs()
    if form == "line":
        weight = torch.log10(rank + 1) - torch.log10(rank)
        free = window.log10() + target * rank.log10()
        offset = (weight * free).sum() / weight.sum()
        predicted = -target * rank.log10() + offset
        return (weight * (predicted - window.log10()) ** 2).sum() / weight.sum()
    line = values[first - 1].detach() * (first / rank) ** target
    return ((window / line - 1) ** 2 + torch.relu(window / line - 1)).mean()
