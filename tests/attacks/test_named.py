from functools import partial

import pytest

from eigencode.attacks import FGSM, PGD, ArtAttack, LayerAttack, by_name
from eigencode.errors import AttackError
from eigencode.perturbations.specification import PerturbationOptions


def test_names_are_made_as_told():
    options = PerturbationOptions(norm="l2", step_size=0.5)
    assert by_name("fgsm", seed=3) == FGSM(seed=3)
    assert by_name("pgd", seed=3) == PGD(steps=40, seed=3)
    assert by_name("pgd", PerturbationOptions(steps=7)) == PGD(steps=7)
    assert by_name("pgd", options) == PGD(norm="l2", step_size=0.5, steps=40)
    assert by_name("layer_gaussian", seed=3) == LayerAttack("gaussian", seed=3)
    assert by_name("art:FastGradientMethod", options, seed=3) == ArtAttack("FastGradientMethod", norm="l2", seed=3)


def test_perturbations_are_made_with_their_strength():
    made = by_name("gaussian", seed=3)
    assert isinstance(made, partial)
    assert made.keywords == {"clip": PerturbationOptions().clip, "seed": 3}
    components = object()
    assert by_name("pca", components=lambda: components).keywords["components"]() is components


@pytest.mark.parametrize("name", ["pca", "zca"])
def test_principal_components_are_asked_for(name):
    with pytest.raises(AttackError) as caught:
        by_name(name)
    assert str(caught.value) == f"{name}: it needs principal components. Pass `components`, a function that returns them."
