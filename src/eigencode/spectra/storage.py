"""How many bytes a code's statistics take, and the form in which they are kept so that a limit holds at every moment."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from eigencode.spectra.resampling import MIN_GROUPS
from eigencode.spectra.sketch import map_bytes

_SCRATCH = 2**26
"""Bytes for working copies of pieces of the data; an eighth of the limit, if that is less."""

_HALVES = 2**30
"""Bytes that groups made of kept samples may take, or what may be kept if that is more: each group costs time, too."""

_LEAST_DIMENSION = 32
"""Smallest sketch: it tells little more than the size of the leading eigenvalues, and its error bound says so."""

_LEAST_LIMIT = 2**16


@dataclass(frozen=True)
class Memory:
    """Bytes that one code may take.

    Attributes:
        limit: Everything, at any moment: what is kept, and the copies made while it is changed or solved.
        kept: Of these, what may be kept from batch to batch.
    """

    limit: int
    kept: int

    @property
    def scratch(self) -> int:
        """Bytes for working copies of pieces of the data."""
        return scratch_of(self.limit)

    @property
    def usable(self) -> int:
        """Bytes for everything else."""
        return self.limit - self.scratch

    def without(self, taken: int) -> Memory:
        """What is left when so many bytes are taken for something else."""
        return Memory(self.limit - taken, min(self.kept, self.limit - taken))


@dataclass(frozen=True)
class Code:
    """Size of n samples of f units.

    Attributes:
        n_samples: Samples n.
        n_units: Units f, or sums of them in a sketch.
        element_size: Bytes of each number that is kept of a sample.
        groups_wanted: Groups of moments, for half-samples; 1 if none are wanted.
    """

    n_samples: int
    n_units: int
    element_size: int
    groups_wanted: int = 1

    @property
    def rows(self) -> int:
        """Bytes of all samples."""
        return self.n_samples * self.n_units * self.element_size

    @property
    def square(self) -> int:
        """Bytes of one scatter matrix."""
        return 8 * self.n_units**2

    @property
    def gram(self) -> int:
        """Bytes of the Gram matrix, and of the copy that its solver makes."""
        return 16 * self.n_samples**2


@dataclass(frozen=True)
class Form:
    """How a code is kept.

    Attributes:
        rows: Whether samples are kept until the spectrum is asked for; else moments from the first batch on.
        groups: Groups of moments that they become in the end; 0 if the Gram matrix is formed.
    """

    rows: bool
    groups: int

    def kept(self, code: Code) -> int:
        """Bytes kept from batch to batch; beside several groups there are samples that wait to be dealt."""
        return code.rows if self.rows else (self.groups + (self.groups > 1)) * code.square

    def peak(self, code: Code) -> int:
        """Most bytes at any moment, but for working copies of pieces.

        Groups are solved beside their sum and the copy that the solver makes; a single one needs no sum. Samples that become
        moments are there beside them, with one of eight block columns of a product.
        """
        if not self.groups:
            return code.rows + code.gram
        solving = (self.groups + 2 if self.groups > 1 else 2) * code.square
        return max(solving, code.rows + self.groups * code.square + code.square // 8) if self.rows else solving


def scratch_of(limit: int) -> int:
    """Bytes of a limit that are for working copies of pieces of the data."""
    return min(limit // 8, _SCRATCH)


def exact_form(code: Code, memory: Memory) -> Form | None:
    """The form in which a code fits into memory without a sketch, if there is one.

    Samples are kept where they are smaller than all the groups wanted. Where moments fit, as many samples as there are units fit
    beside them, so that a code of unknown length may be kept as samples first.
    """
    moments = Form(rows=False, groups=_groups(code, min(memory.kept, memory.usable), memory.usable))
    if code.n_samples < code.n_units:
        samples = Form(rows=True, groups=0)
    else:
        beside = min(max(_HALVES, memory.kept) + code.square, memory.usable - code.rows + code.square - code.square // 8)
        samples = Form(rows=True, groups=_groups(code, beside, memory.usable))
        if not samples.groups or samples.groups < moments.groups or code.groups_wanted * code.square <= code.rows:
            samples = moments
    for form in (samples, moments):
        fits = form.kept(code) <= memory.kept and form.peak(code) <= memory.usable
        if fits and (form.rows or form.groups):
            return form
    return None


def _groups(code: Code, room: int, usable: int) -> int:
    """Groups of moments that have room and can be solved: 0 if not even one, 1 if no half-samples can be drawn."""
    fitting = min(room // code.square - 1, usable // code.square - 2, code.groups_wanted)
    if fitting >= MIN_GROUPS:
        return fitting
    return int(room >= code.square and usable >= 2 * code.square)


def sketch_dimension(code: Code, memory: Memory, *, count_known: bool) -> int:
    """Sums of units that fit into memory, as moments, or as samples with their Gram matrix if those are more; 0 if too few do."""
    usable = memory.usable - map_bytes(code.n_units)
    dimension = isqrt(max(0, min(usable // 16, memory.kept // 8)))
    if count_known:
        as_rows = min(usable - code.gram, memory.kept) // (8 * code.n_samples)
        if as_rows >= code.n_samples:
            dimension = max(dimension, as_rows)
    dimension = min(dimension, code.n_units)
    return dimension if dimension >= min(_LEAST_DIMENSION, code.n_units) else 0


def least_limit(n_units: int) -> int:
    """Smallest limit, in bytes, with which samples of so many units can be sketched, however many there are."""
    needed = map_bytes(n_units) + 16 * min(_LEAST_DIMENSION, n_units) ** 2
    return max(_LEAST_LIMIT, needed + -(-needed // 7))
