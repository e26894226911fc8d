import pytest

from eigencode.penalties import SpectralPenalty


@pytest.mark.parametrize(("form", "ranks"), [("exponent", (6, 50)), ("line", (1, 10)), ("nassar", (11, 50))])
def test_windows_of_the_papers(form, ranks):
    penalty = SpectralPenalty(1.0, form=form)
    assert penalty.window.ranks == ranks
    assert penalty.solver == "tracked"
