"""Data sets made by a network: robust, non-robust, and labelled by adversarial targets (Ilyas et al. 2019)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from eigencode._arguments import check_fields, checked
from eigencode._digests import digest_of
from eigencode._files import replacing
from eigencode._inputs import given_to
from eigencode.activations import captured, model_device, select_sites, trace, unwrapped
from eigencode.attacks.curves import advancing, under_attack
from eigencode.attacks.geometry import steepest
from eigencode.attacks.gradient import PGD
from eigencode.attacks.outputs import Target, check_batch, check_labels, input_gradient, predictions, scores_of, undisturbed
from eigencode.attacks.reliability import FLAGS, gradient_flags
from eigencode.datasets.images import ImageSet
from eigencode.errors import AttackError, ReliabilityWarning
from eigencode.perturbations.specification import KINDS, Made

_CHECKED = 500
"""Images on which the source network's own robustness is measured."""


@dataclass(frozen=True)
class Construction:
    """How a data set is made.

    "robust" and "non_robust": every image is replaced by one that starts at another, random image and is changed until the
    network's code of it is that of the original, whose label it keeps (Ilyas et al. 2019, section 3.1). The set holds the
    features that this network uses: robust ones if it was trained adversarially, non-robust ones if it was trained as usual.
    "random_target" and "deterministic_target": every image is changed within epsilon (l2) until the network sees the target
    class, drawn uniformly or the next class, and gets the target as its label (section 3.2).

    Args:
        kind: One of the four.
        epsilon: Budget of target sets, l2, input units. The paper's 0.5.
        steps: Gradient steps. Default: 1000 for representations and 100 for targets, as in the paper.
        step_size: Length of a step, l2, input units. The paper's 0.1.
        layer: Whose code is matched; "penultimate" as in the paper.
        seed: Seed of start images and random targets.

    Raises:
        AttackError: an argument is out of range.
    """

    kind: Made
    epsilon: float = 0.5
    steps: int | None = None
    step_size: float = 0.1
    layer: str = "penultimate"
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, AttackError, owner="construct")
        if self.step_size <= 0:
            raise AttackError(f"construct: `step_size` must be above 0; got {self.step_size}.")
        if self.epsilon < 0:
            raise AttackError(f"construct: `epsilon` must be at least 0; got {self.epsilon}.")

    @property
    def matches_representations(self) -> bool:
        """Whether a code is matched, and not a class reached."""
        return self.kind in ("robust", "non_robust")

    @property
    def n_steps(self) -> int:
        """Steps taken."""
        return self.steps or KINDS[self.kind].steps


@dataclass(frozen=True)
class ConstructedSet:
    """A constructed data set and what it was made from.

    Attributes:
        images: The new images with their new labels.
        originals: Index of the image whose label or code each stands for, shape (n,).
        starts: Index of the image that each started from, shape (n,).
        start_labels: Class of that image, shape (n,).
        record: Parameters, hash of the network, and the accuracies that show what the set is.
    """

    images: ImageSet
    originals: Tensor
    starts: Tensor
    start_labels: Tensor
    record: dict[str, Any]

    def save(self, path: str | Path) -> None:
        """Writes a .safetensors file that ``datasets.load("tensors:PATH")`` reads, whole or not at all.

        Raises:
            DiskError: it cannot be written.
        """
        tensors = {
            "inputs": self.images.inputs,
            "labels": self.images.labels,
            "originals": self.originals,
            "starts": self.starts,
            "start_labels": self.start_labels,
        }
        with replacing(path) as new:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, new)


@checked(AttackError)
def construct(
    model: nn.Module,
    images: ImageSet,
    construction: Construction,
    *,
    batch_size: int = 250,
    progress: Callable[[str, int, int], None] | None = None,
) -> ConstructedSet:
    """Builds a data set of robust, non-robust or adversarially labelled images.

    Args:
        model: Network whose features are used; left as found.
        images: Labelled images, as a rule the training images.
        construction: What to build and how.
        batch_size: Images changed at once.
        progress: Called with what is being done, images done and images in all.

    Returns:
        ConstructedSet. Its record holds: accuracy of the network on the set with the new labels, and with the labels of the
        images it started from; for representations the distance of codes at the start and at the end, relative to the norms of
        the codes; accuracy of the network on the original images, clean and under PGD (l2, epsilon), which tells whether the
        network is robust.

    Raises:
        AttackError: labels are missing or no class of the network, or anything an attack refuses.

    Source: Ilyas et al. 2019, "Adversarial examples are not bugs, they are features", sections 3.1 and 3.2, appendix C.
    """
    model, images = unwrapped(model), images.cpu()
    check_batch(images.inputs, images.labels, construction.epsilon, "l2", (0.0, 1.0), name="construct")
    if len(images) < 2:
        raise AttackError(f"construct: at least 2 images are needed; got {len(images)}. Pass more.")
    with undisturbed(model):
        target = Target(model, images.inputs, images.labels, torch.arange(len(images)), batch_size)
        builder = _Builder(target, construction, advancing(progress, construction.kind, len(images)))
        made = builder.representations() if construction.matches_representations else builder.targets()
        labels = builder.labels
        predicted = predictions(model, made, batch_size=batch_size)
        record = {
            "construction": asdict(construction) | {"steps": construction.n_steps},
            "source": images.name,
            "images": len(images),
            "model_sha256": model_hash(model),
            "accuracy_new_labels": float((predicted == labels).double().mean()),
            "accuracy_start_labels": float((predicted == images.labels[builder.starts]).double().mean()),
            "mean_l2_change": float((made - images.inputs[builder.starts]).flatten(1).norm(dim=1).double().mean()),
            **builder.found,
            **_robustness(target.only(slice(_CHECKED)), construction.epsilon),
        }
    name = f"{construction.kind} of {images.name}"
    return ConstructedSet(
        ImageSet(made, labels, name), torch.arange(len(images)), builder.starts, images.labels[builder.starts], record
    )


def model_hash(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, with their names, shapes and types."""
    return digest_of(model.state_dict())


def _robustness(target: Target, epsilon: float) -> dict[str, float]:
    clean = target.hit(target.inputs)
    attacked = clean & target.hit(under_attack(target, PGD(norm="l2", steps=20), epsilon).images)
    return {
        "model_accuracy": float(clean.double().mean()),
        "model_accuracy_under_pgd": float(attacked.double().mean()),
        "pgd_epsilon_l2": epsilon,
    }


class _Builder:
    """Batches of one construction."""

    def __init__(self, target: Target, construction: Construction, advance: Callable[[int], None]) -> None:
        self.target, self.construction, self.advance = target, construction, advance
        self.device = model_device(target.model)
        with torch.no_grad():
            scores = scores_of(target.model, target.inputs[:2].to(self.device))
        check_labels(target.labels.to(self.device), scores)
        self.classes = scores.shape[1]
        self.labels, self.starts = target.labels, torch.arange(len(target))
        self.found: dict[str, float] = {}
        self._generator = torch.Generator().manual_seed(construction.seed)

    def targets(self) -> Tensor:
        """Images moved towards a target class, which becomes their label."""
        if self.construction.kind == "random_target":
            self.labels = torch.randint(self.classes, self.target.labels.shape, generator=self._generator)
        else:
            self.labels = (self.target.labels + 1) % self.classes
        attack = PGD(norm="l2", steps=self.construction.n_steps, step_size=self.construction.step_size, targeted=True)
        target = replace(self.target, labels=self.labels)
        found = under_attack(target, attack, self.construction.epsilon, progress=self.advance)
        for name in gradient_flags(found):
            warnings.warn(f"construct: {FLAGS[name].meaning} {FLAGS[name].remedy}", ReliabilityWarning, stacklevel=3)
        return found.images

    def representations(self) -> Tensor:
        """Images whose code is that of the originals, started from other images."""
        count = len(self.target)
        order = torch.randperm(count, generator=self._generator)
        self.starts = torch.empty_like(order)
        self.starts[order] = order.roll(1)  # a random cycle: no image starts from itself
        made, begun, ended, norms = [], 0.0, 0.0, 0.0
        with self._code() as code_of:
            for batch in torch.arange(count).split(self.target.batch_size):
                with torch.no_grad():
                    wanted = code_of(self.target.inputs[batch].to(self.device))
                images = self.target.inputs[self.starts[batch]].to(self.device)
                norms += float(wanted.norm(dim=1).double().sum())
                for number in range(self.construction.n_steps):
                    images.requires_grad_(True)
                    with torch.enable_grad():
                        distances = (code_of(images) - wanted).norm(dim=1)
                        gradient = input_gradient(distances, images)
                    images = images.detach()
                    if number == 0:
                        begun += float(distances.detach().double().sum())
                    images.sub_(steepest(gradient, "l2"), alpha=self.construction.step_size).clamp_(0, 1)
                with torch.no_grad():
                    ended += float((code_of(images) - wanted).norm(dim=1).double().sum())
                made.append(images.cpu())
                self.advance(len(batch))
        if norms == 0:
            raise AttackError(f"construct: the code at {self.construction.layer!r} is zero for every image. Name another layer.")
        self.found = {"code_distance_at_start": begun / norms, "code_distance_at_end": ended / norms}
        return torch.cat(made)

    @contextmanager
    def _code(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """The network's code at the layer, shape (n, units), as a function of images that can be differentiated."""
        traced = trace(self.target.model, self.target.inputs[:2].to(self.device))
        found = select_sites(traced, self.construction.layer)
        if len(found) != 1:
            names = ", ".join(layer.name for layer in found[:6])
            raise AttackError(
                f"construct: `layer` must name one layer; {self.construction.layer!r} matches {len(found)} ({names})."
            )
        codes = dict[str, Tensor]()

        def code_of(inputs: Tensor) -> Tensor:
            self.target.model(given_to(self.target.model, inputs))
            return codes[found[0].name].flatten(1).to(inputs.dtype)

        def keep(name: str, output: Tensor) -> None:
            codes[name] = output.clone()

        with captured(self.target.model, found, keep):
            yield code_of
