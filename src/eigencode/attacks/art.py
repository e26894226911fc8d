"""Attacks of the adversarial-robustness-toolbox by name, with the interface of our own (extra ``attacks``)."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eigencode._arguments import check_fields, checked
from eigencode.attacks.geometry import Ball
from eigencode.attacks.outputs import are_probabilities, are_squashed, check_batch, check_labels, scores_of, undisturbed
from eigencode.attacks.reliability import Attacked
from eigencode.errors import AttackError
from eigencode.perturbations.specification import Norm

_STEP_SHARE = 3
"""Where an attack wants a step and none is given, it is epsilon over this, the ratio of the toolbox's own defaults."""


@dataclass(frozen=True)
class ArtAttack:
    """An evasion attack of the adversarial-robustness-toolbox (Nicolae et al. 2018), such as AutoAttack or SquareAttack.

    Its random numbers depend on the seed and the batch, not on single images. What it returns is cut to the budget and bounds.

    Args:
        attack: Class name in ``art.attacks.evasion``; it must take a budget ``eps``.
        norm: "linf" or "l2".
        options: Further arguments of the class, e.g. ``{"max_iter": 1000}``.
        bounds: Lowest and highest value of an image.
        seed: Seed of NumPy's and torch's global generators, which the toolbox uses; both are left as found.

    Raises:
        AttackError: the toolbox is not installed, has no such attack, or the attack has no budget or no such option.
    """

    attack: str
    norm: Norm = "linf"
    options: Mapping[str, Any] = field(default_factory=dict)
    bounds: tuple[float, float] = (0.0, 1.0)
    seed: int = 0

    targeted = False

    def __post_init__(self) -> None:
        check_fields(self, AttackError, owner=self.name)
        known = self._parameters()
        if "eps" not in known:
            raise AttackError(
                f"{self.name}: this attack has no budget `eps` that could be varied. Use for example art:AutoAttack."
            )
        if {"eps", "norm", "targeted", "estimator"} & set(self.options):
            raise AttackError(f"{self.name}: `options` must not hold eps, norm, targeted or estimator, which are set here.")
        unknown = [name for name in self.options if name not in known]
        if unknown:
            raise AttackError(f"{self.name}: no option is called {unknown[0]!r}. It has {', '.join(known)}.")

    @property
    def name(self) -> str:
        """art:NAME."""
        return f"art:{self.attack}"

    def _class(self) -> Any:
        try:
            from art.attacks import evasion
        except ImportError:
            raise AttackError(
                f"{self.name} needs the adversarial-robustness-toolbox. Install it with: pip install 'eigencode[attacks]'."
            ) from None
        found = getattr(evasion, self.attack, None)
        if found is None or not inspect.isclass(found):
            names = [name for name in dir(evasion) if inspect.isclass(getattr(evasion, name))]
            raise AttackError(f"{self.name}: the toolbox has no attack of this name. It has {', '.join(names)}.")
        return found

    def _parameters(self) -> list[str]:
        return [name for name in inspect.signature(self._class().__init__).parameters if name not in ("self", "estimator")]

    @checked(AttackError)
    def __call__(
        self, model: nn.Module, inputs: Tensor, labels: Tensor, *, epsilon: float, indices: Tensor | None = None
    ) -> Attacked:
        """Attacks a batch; see ``PGD`` for arguments and errors."""
        check_batch(inputs, labels, epsilon, self.norm, self.bounds, name=self.name)
        if len(inputs) == 0 or epsilon == 0:
            return Attacked(inputs.clone())
        with undisturbed(model), _seeded(self.seed), _gradients_kept(model):
            with torch.no_grad():
                scores = scores_of(model, inputs)
            check_labels(labels, scores)
            try:
                found = self._generate(model, inputs, labels, epsilon, classes=scores.shape[1])
            except Exception as error:  # the toolbox and its attacks fail in ways of their own
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise AttackError(
                    f"{self.name}: the toolbox failed ({reason}). Check its options, or use another attack."
                ) from error
        images = torch.where(found.isfinite(), found, inputs)
        projected = Ball(inputs, epsilon, self.norm, self.bounds).project_(images.clone())
        return Attacked(projected, probabilities=are_probabilities(scores), squashed=are_squashed(scores))

    def _generate(self, model: nn.Module, inputs: Tensor, labels: Tensor, epsilon: float, *, classes: int) -> Tensor:
        from art.estimators.classification import PyTorchClassifier

        classifier = PyTorchClassifier(
            model=model,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(inputs.shape[1:]),
            nb_classes=classes,
            clip_values=self.bounds,
            device_type="gpu" if inputs.is_cuda else "cpu",
        )
        options = {
            "norm": math.inf if self.norm == "linf" else 2,
            "eps": epsilon,
            "eps_step": epsilon / _STEP_SHARE,
            "batch_size": len(inputs),
            "verbose": False,
        }
        known = self._parameters()
        options = {name: value for name, value in options.items() if name in known} | dict(self.options)
        attack = self._class()(classifier, **options)
        for part in getattr(attack, "attacks", []):  # AutoAttack's own attacks draw progress bars unless told
            part.verbose = False
        with torch.enable_grad(), np.errstate(all="ignore"):
            found = attack.generate(inputs.cpu().numpy().astype(np.float32), labels.cpu().numpy())
        return torch.from_numpy(np.asarray(found)).to(inputs)


@contextmanager
def _gradients_kept(model: nn.Module) -> Iterator[None]:
    kept = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in kept:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in kept:
            parameter.grad = gradient


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    state = np.random.get_state()  # noqa: NPY002 - the toolbox draws from the global generator
    np.random.seed(seed % 2**32)  # noqa: NPY002 - it takes no larger one
    try:
        with torch.random.fork_rng():  # of all devices, since the seed is set for all
            torch.manual_seed(seed)
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
