"""What is done to inputs with labels: gradient and layer-wise attacks, curves with reliability flags, constructed sets."""

from eigencode.attacks.art import ArtAttack
from eigencode.attacks.constructed import ConstructedSet, Construction, construct
from eigencode.attacks.curves import Attack, attack_images, robustness_curve
from eigencode.attacks.gradient import FGSM, PGD, fgsm, pgd
from eigencode.attacks.layerwise import LayerAttack
from eigencode.attacks.named import by_name
from eigencode.attacks.outputs import sample_cross_entropy, sample_margin
from eigencode.attacks.reliability import FLAGS, Attacked, Flag
from eigencode.attacks.robustness import RobustnessCurve, RobustnessPoint

__all__ = [
    "FGSM",
    "FLAGS",
    "PGD",
    "ArtAttack",
    "Attack",
    "Attacked",
    "ConstructedSet",
    "Construction",
    "Flag",
    "LayerAttack",
    "RobustnessCurve",
    "RobustnessPoint",
    "attack_images",
    "by_name",
    "construct",
    "fgsm",
    "pgd",
    "robustness_curve",
    "sample_cross_entropy",
    "sample_margin",
]
