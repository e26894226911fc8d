from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eigencode.spectra.resampling import GROUPS, MIN_GROUPS
from eigencode.spectra.sketch import map_bytes
from eigencode.spectra.storage import Code, Form, Memory, exact_form, least_limit, sketch_dimension

CODES = st.builds(
    Code,
    n_samples=st.integers(2, 50_000),
    n_units=st.integers(1, 20_000),
    element_size=st.sampled_from([2, 4, 8]),
    groups_wanted=st.sampled_from([1, GROUPS]),
)
LIMITS = st.integers(2**16, 2**33)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(code=CODES, limit=LIMITS, share=st.floats(0.1, 1))
def test_whatever_is_chosen_fits(code, limit, share):
    memory = Memory(limit, int(limit * share))
    form = exact_form(code, memory)
    if form is not None:
        assert form.kept(code) <= memory.kept
        assert form.peak(code) + memory.scratch <= limit
        assert form.groups in (1, *range(MIN_GROUPS, code.groups_wanted + 1)) or (form.rows and code.n_samples < code.n_units)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(code=CODES, limit=LIMITS)
def test_more_memory_is_never_worse(code, limit):
    less, more = (exact_form(code, Memory(size, size)) for size in (limit, 2 * limit))
    if less is not None:
        assert more is not None
        assert not more.groups or more.groups >= less.groups


@settings(max_examples=500, deadline=None, derandomize=True)
@given(code=CODES, limit=LIMITS)
def test_samples_fit_until_they_become_moments(code, limit):
    """An accumulator that does not know how many samples will come can always turn them into the groups it would begin with."""
    memory = Memory(limit, limit)
    form = exact_form(code, memory)
    if form is not None and not form.rows:
        fewer = replace(code, n_samples=min(code.n_samples, code.n_units))
        assert fewer.rows + form.groups * code.square <= max(memory.usable, Form(rows=False, groups=form.groups).peak(code))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(code=CODES, limit=LIMITS, known=st.booleans())
def test_a_sketch_has_a_form(code, limit, known):
    memory = Memory(limit, limit)
    dimension = sketch_dimension(code, memory, count_known=known)
    assert (dimension > 0) >= (limit >= least_limit(code.n_units))
    if dimension:
        sketched = replace(code, n_units=dimension, element_size=8)
        assert exact_form(sketched, memory.without(map_bytes(code.n_units))) is not None


@pytest.mark.parametrize(
    ("code", "limit", "form"),
    [
        (Code(500, 500_000, 4, 20), 4 * 2**30, Form(rows=True, groups=0)),
        (Code(500, 500_000, 4, 20), 900 * 2**20, None),
        (Code(20_000, 300, 4, 20), 20 * 2**20, Form(rows=False, groups=20)),
        (Code(4000, 3000, 4, 20), 4 * 2**30, Form(rows=True, groups=20)),
        (Code(4000, 3000, 4, 20), 500 * 2**20, Form(rows=True, groups=4)),
        (Code(4000, 3000, 4, 20), 200 * 2**20, Form(rows=True, groups=1)),
        (Code(4000, 3000, 4, 20), 150 * 2**20, None),
    ],
)
def test_what_is_chosen(code, limit, form):
    assert exact_form(code, Memory(limit, limit)) == form
