"""Accuracy of all members of an ensemble under attack, as one stacked program."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import nn

from eigencode._arguments import checked
from eigencode.activations import model_device
from eigencode.attacks.curves import Attack
from eigencode.attacks.gradient import PGD
from eigencode.attacks.outputs import check_batch, check_labels, scores_of, undisturbed
from eigencode.datasets.images import ImageSet
from eigencode.errors import TrainingError
from eigencode.training.networks import images_at_once, members_of

_AT_ONCE = 500


@checked(TrainingError)
def robust_accuracies(
    models: Sequence[nn.Module],
    images: ImageSet,
    attack: Attack,
    *,
    epsilons: Sequence[float],
    batch_size: int | None = None,
) -> pd.DataFrame:
    """Accuracy of each network of an ensemble for each budget of an attack.

    An image counts as correct if it is classified correctly before and after the attack, as in ``robustness_curve``, which also
    raises reliability flags, one network at a time. Images that no network classifies correctly are not attacked.

    Args:
        models: Networks of one architecture, on one device.
        images: Labelled images.
        attack: ``PGD``, ``FGSM`` or the like; not targeted. Random starts are those of the image alone, the same for each member.
        epsilons: Budgets in input units.
        batch_size: Images attacked at once, of each network. Default: 500; of ``PGD`` and ``FGSM`` on a GPU, what fits.

    Returns:
        Columns member, epsilon, accuracy.

    Raises:
        TrainingError: no network.
        AttackError: anything the attack refuses.
    """
    if len(models) == 0:
        raise TrainingError("robust_accuracies: `models` is empty. Pass at least one network.")
    device = model_device(models[0])
    images = images.cpu()
    members = members_of(models, images.inputs[:2].to(device))
    network = members.flattened()
    if batch_size is None:
        batch_size = _AT_ONCE
        if device.type == "cuda" and isinstance(attack, PGD):  # others may draw for each batch
            batch_size = min(len(images), images_at_once(models[0], images.inputs[:1].to(device), members=len(models)))
    rows = []
    with undisturbed(network):
        for epsilon in epsilons:
            check_batch(images.inputs, images.labels, epsilon, attack.norm, attack.bounds, name=attack.name)
            correct = torch.zeros(len(models), dtype=torch.int64)
            for batch in torch.arange(len(images)).split(batch_size):
                shape = (len(models), *images.inputs[batch].shape)
                inputs = images.inputs[batch].to(device).expand(shape).flatten(0, 1)
                labels = images.labels[batch].to(device).repeat(len(models))
                with torch.no_grad():
                    scores = scores_of(network, inputs)
                check_labels(labels, scores)
                right = scores.argmax(dim=1) == labels
                at_stake = right.view(len(models), -1).any(dim=0).cpu()
                if not bool(at_stake.any()):
                    continue
                chosen = at_stake.repeat(len(models)).to(device)
                inputs, labels, right = inputs[chosen], labels[chosen], right[chosen]
                found = attack(network, inputs, labels, epsilon=epsilon, indices=batch[at_stake].repeat(len(models)))
                with torch.no_grad():
                    stands = right & (scores_of(network, found.images).argmax(dim=1) == labels)
                correct += stands.view(len(models), -1).sum(dim=1).cpu()
            rows += [
                {"member": member, "epsilon": float(epsilon), "accuracy": int(count) / len(images)}
                for member, count in enumerate(correct)
            ]
    return pd.DataFrame(rows)
