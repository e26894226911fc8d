"""What autograd is asked for beyond a gradient."""

import pytest
import torch

from eigencode.errors import PenaltyError
from eigencode.penalties import SpectralPenalty


@pytest.mark.parametrize("solver", ["dense", "tracked"])
@pytest.mark.parametrize("form", ["exponent", "line", "nassar"])
class TestAutograd:
    ranks = (2, 8)

    def _penalty(self, form, solver):
        return SpectralPenalty(0.2, ranks=self.ranks, form=form, solver=solver)

    def test_the_second_derivative_is_refused(self, generator, form, solver):
        code = torch.randn(60, 20, dtype=torch.float64, generator=generator) / torch.arange(1, 21) ** 0.5
        weights = torch.eye(20, dtype=torch.float64).requires_grad_()
        value = self._penalty(form, solver)(torch.tanh(code @ weights))
        (gradient,) = torch.autograd.grad(value, weights, create_graph=True)
        with pytest.raises(PenaltyError, match="cannot be differentiated again"):
            torch.autograd.grad((gradient * torch.randn(20, 20, dtype=torch.float64, generator=generator)).sum(), weights)

    def test_a_graph_that_is_not_used_changes_nothing(self, generator, form, solver):
        code = torch.randn(60, 20, dtype=torch.float64, generator=generator) / torch.arange(1, 21) ** 0.5
        found = []
        for create_graph in (False, True):
            weights = torch.eye(20, dtype=torch.float64).requires_grad_()
            value = self._penalty(form, solver)(torch.tanh(code @ weights))
            found.append(torch.autograd.grad(value, weights, create_graph=create_graph)[0].detach())
        assert torch.equal(*found)

    def test_the_value_without_gradients(self, generator, form, solver):
        code = torch.randn(100, 20, generator=generator)
        expected = float(self._penalty(form, solver)(code))
        with torch.inference_mode():
            assert float(self._penalty(form, solver)(code.clone())) == expected
        with torch.no_grad():
            assert float(self._penalty(form, solver)(code)) == expected
