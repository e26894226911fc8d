"""Codes and eigenvalues of every kind: ties, zeros, sizes from tiny to huge, more units than samples, every precision."""

import torch
from hypothesis import strategies as st

DTYPES = {torch.float16: 1.0, torch.bfloat16: 2.0, torch.float32: 10.0, torch.float64: 100.0}
"""Precision -> decades by which activations may be larger or smaller than 1."""


@st.composite
def codes(draw, least=2, most=40, dtypes=tuple(DTYPES)):
    """Activations (n, f): low or full rank, perhaps with dead, constant and repeated units, and repeated samples."""
    n, f = draw(st.integers(least, most)), draw(st.integers(1, most))
    dtype = draw(st.sampled_from(dtypes))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    rank = draw(st.integers(1, max(n, f)))
    code = torch.randn(n, rank, generator=generator, dtype=torch.float64) @ torch.randn(rank, f, generator=generator).double()
    code *= torch.arange(1, f + 1) ** -draw(st.floats(0, 2))
    for kind in draw(st.lists(st.sampled_from(["dead", "constant", "twice", "same sample"]), max_size=2, unique=True)):
        if kind == "same sample":
            code[-1] = code[0]
        else:
            code[:, -1] = {"dead": 0.0, "constant": 3.0, "twice": code[:, 0]}[kind]
    decades = DTYPES[dtype]
    return (code * 10.0 ** draw(st.floats(-decades, decades))).to(dtype)


@st.composite
def spectra(draw, least=3, most=200):
    """Eigenvalues, largest first: power laws with noise, ties and zeros at the end, anywhere between 1e-300 and 1e300."""
    count = draw(st.integers(least, most))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    values = torch.arange(1, count + 1, dtype=torch.float64) ** -draw(st.floats(0, 3))
    values = (
        (values * torch.exp(draw(st.floats(0, 1)) * torch.randn(count, generator=generator, dtype=torch.float64))).sort().values
    )
    values = values.flip(0) * 10.0 ** draw(st.integers(-280, 280))
    ties = draw(st.integers(1, count))
    values[:ties] = values[:ties].max() if draw(st.booleans()) else values[:ties]
    zeros = draw(st.integers(0, count - least))
    return torch.cat([values[: count - zeros], torch.zeros(zeros, dtype=torch.float64)])
