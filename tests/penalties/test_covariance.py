import pytest
import torch

from eigencode.errors import PenaltyError
from eigencode.penalties import covariance_members, covariance_penalty


def expected_batch(code):
    covariance = torch.cov(code.flatten(1).T)
    return (covariance - torch.diag(covariance.diagonal())).norm()


def expected_per_sample(code):
    norms = []
    for row in code.flatten(1):
        product = torch.outer(row, row)
        norms.append((product - torch.diag(product.diagonal())).norm())
    return torch.stack(norms).mean()


@pytest.mark.parametrize("shape", [(50, 8), (8, 50), (20, 3, 2, 2)])
@pytest.mark.parametrize(("kind", "expected"), [("batch", expected_batch), ("per_sample", expected_per_sample)])
def test_equals_the_definition_and_its_gradient(shape, kind, expected, generator):
    code = torch.randn(shape, generator=generator, dtype=torch.float64) + 2
    mine, theirs = code.clone().requires_grad_(True), code.clone().requires_grad_(True)
    value, reference = covariance_penalty(mine, kind=kind), expected(theirs)
    value.backward()
    reference.backward()
    assert float(value.detach()) == pytest.approx(float(reference.detach()), rel=1e-10)
    assert torch.allclose(mine.grad, theirs.grad, rtol=1e-8, atol=1e-12)


def test_no_matrix_of_units_by_units_where_there_are_fewer_images():
    code = torch.randn(10, 200_000)  # units x units would take 160 GB
    assert float(covariance_penalty(code)) > 0
    assert float(covariance_penalty(code, kind="per_sample")) > 0


@pytest.mark.parametrize("kind", ["batch", "per_sample"])
def test_uncorrelated_codes_cost_nothing_and_the_gradient_is_finite(kind):
    code = torch.zeros(6, 4, requires_grad=True)
    covariance_penalty(code, kind=kind).backward()
    assert not code.grad.any()


def test_members_are_each_on_their_own(generator):
    codes = torch.randn(3, 20, 7, generator=generator, dtype=torch.float64)
    assert torch.allclose(covariance_members(codes), torch.stack([covariance_penalty(code) for code in codes]), rtol=1e-12)


def test_refusals():
    with pytest.raises(PenaltyError, match=r"^covariance_penalty: `kind` must be one of batch, per_sample; got 'other'\.$"):
        covariance_penalty(torch.randn(5, 3), kind="other")
    with pytest.raises(PenaltyError, match=r"needs at least 2 images in a batch; got 1\.$"):
        covariance_penalty(torch.randn(1, 3))


@pytest.mark.usefixtures("unchecked_shapes")
def test_only_floating_point_codes_of_images():
    for code in (torch.ones(5, 3, dtype=torch.int64), torch.ones(5)):
        with pytest.raises(PenaltyError) as caught:
            covariance_penalty(code)
        assert str(caught.value) == (
            f"covariance_penalty: activations must be a floating-point tensor (n, units ...); got shape {tuple(code.shape)}."
        )


@pytest.mark.parametrize("shape", [(50, 8), (8, 50)])
@pytest.mark.parametrize("kind", ["batch", "per_sample"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_codes_that_are_not_finite_or_overflow(shape, kind, value, generator):
    code = torch.randn(shape, generator=generator)
    code[3, 4], code[3, 5] = value, value
    with pytest.raises(PenaltyError) as caught:
        covariance_penalty(code, kind=kind)
    assert str(caught.value) == (
        "covariance_penalty: activations must be finite, and so must the squares of their products; got NaN or infinite values. "
        "Lower the learning rate, or divide the activations."
    )
    members = covariance_members(torch.stack([code, torch.ones_like(code)]), kind=kind)
    assert members.isfinite().tolist() == [False, True]
