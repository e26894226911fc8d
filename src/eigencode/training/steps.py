"""One step of training for all members at once: by back-propagation with penalties, or by local errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from eigencode.activations import select_sites, trace
from eigencode.attacks.geometry import Ball
from eigencode.attacks.gradient import PGD
from eigencode.attacks.outputs import check_batch
from eigencode.errors import DivergenceError, TrainingError
from eigencode.penalties import SpectralPenalty
from eigencode.training.local_errors import LocalErrors
from eigencode.training.networks import Members, evaluating, members_of
from eigencode.training.settings import WEIGHTS, MemberSettings, Settings
from eigencode.training.terms import TERMS, ForwardPass

NO_LAYER = ""
"""Name of the row of a network of which no layer is measured."""


@dataclass(frozen=True)
class Batch:
    """One batch of every member.

    Attributes:
        inputs: Shape (K, n, ...).
        labels: Shape (K, n).
        indices: The images' numbers in the data set, shape (K, n).
        epoch: Epoch, from 0.
        step: Step in all, from 0.
    """

    inputs: Tensor
    labels: Tensor
    indices: Tensor
    epoch: int
    step: int


@dataclass(frozen=True)
class Report:
    """What a step saw before it changed anything, each of shape (K, rows), on the CPU; a row is a layer.

    Attributes:
        loss: Mean cross entropy.
        accuracy: Fraction of correct images.
        alpha: Exponent of the batch; NaN where it was not or could not be measured.
    """

    loss: Tensor
    accuracy: Tensor
    alpha: Tensor


class Learner(Protocol):
    """Networks and the rule by which they learn.

    Attributes:
        rows: Names of the layers that reports speak of.
        measures: Whether reports have exponents.
    """

    rows: list[str]
    measures: bool

    def step(self, batch: Batch) -> Report:
        """Learns from a batch."""
        ...

    def scores(self, inputs: Tensor) -> Tensor:
        """Scores (K, rows, n, classes) of inputs (n, ...)."""
        ...

    def codes(self, inputs: Tensor) -> dict[str, Tensor]:
        """Outputs (K, n, ...) of the measured layers for inputs (n, ...)."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from ``state``."""
        ...

    def member(self, number: int) -> nn.Module:
        """A network with the present weights of a member."""
        ...


class GradientLearner:
    """Back-propagation of cross entropy and penalties.

    Args:
        models: Networks of one architecture.
        cells: One for each network.
        settings: Shared settings.
        sample: A small batch (n, ...) of inputs.

    Raises:
        TrainingError: layers that cannot be penalised, or networks that cannot be stacked.
    """

    def __init__(self, models: Sequence[nn.Module], cells: Sequence[MemberSettings], settings: Settings, sample: Tensor) -> None:
        self._cells, self._settings = cells, settings
        spectral = settings.spectral
        layers = [layer.name for layer in select_sites(trace(models[0], sample), spectral.layers)] if spectral.layers else []
        self.rows, self.measures = layers or [NO_LAYER], bool(layers)
        self._layers = layers
        self._members: Members = members_of(models, sample)
        self._device = self._members.leaves[0].device
        self._penalties = {
            layer: SpectralPenalty(
                [cell.target_of(layer) for cell in cells],
                ranks=spectral.ranks,
                form=spectral.form,
                solver=spectral.solver,
                degenerate=spectral.degenerate,
            )
            for layer in layers
        }
        self._betas = {layer: self._per_member([cell.beta_of(layer) for cell in cells]) for layer in layers}
        for layer, penalty in self._penalties.items():
            if settings.batch_size <= penalty.window.last and bool(self._betas[layer].any()):
                raise TrainingError(
                    f"A batch of {settings.batch_size} images has no eigenvalue at rank {penalty.window.last}: the penalty's "
                    f"ranks {penalty.window} need batches of {penalty.window.last + 1}. Enlarge the batch or lower "
                    "the last rank."
                )
        self._weights = {name: self._per_member([getattr(cell, name) for cell in cells]) for name in TERMS}
        of_codes = [name for name, weight in WEIGHTS.items() if weight["of"] == "code"]
        if not layers and any(getattr(cell, name) for cell in cells for name in of_codes):
            raise TrainingError("Spectral and covariance penalties need a layer. Name one with the spectral settings' `layers`.")
        adversarial = settings.adversarial
        if adversarial.epsilon:
            check_batch(
                sample,
                torch.zeros(len(sample), dtype=torch.int64),
                adversarial.epsilon,
                adversarial.norm,
                PGD().bounds,
                name="pgd",
            )
        self._optimizer = self._new_optimizer()

    def _per_member(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self._device)

    def _new_optimizer(self) -> torch.optim.Optimizer:
        groups = [
            {"params": parameters, "lr": cell.learning_rate, "initial_lr": cell.learning_rate}
            for parameters, cell in zip(self._members.parameters, self._cells, strict=True)
        ]
        settings = self._settings
        if settings.optimizer == "adam":
            return torch.optim.Adam(groups, eps=settings.adam_epsilon, weight_decay=settings.weight_decay, fused=True)
        return torch.optim.SGD(groups, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=True)

    def step(self, batch: Batch) -> Report:
        """See ``Learner``."""
        inputs = self._attacked(batch)
        self._members.train(True)
        used = {name: weights for name, weights in self._weights.items() if bool(weights.any())}
        if any(WEIGHTS[name]["of"] == "inputs" for name in used):
            inputs = inputs.detach().requires_grad_(True)
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._settings.mixed_precision):
            scores, codes = self._members.forward(inputs, self._layers)
        scores = scores if scores.dtype == torch.float64 else scores.float()
        losses = _cross_entropies(scores, batch.labels)
        terms = {"the cross entropy": losses}
        for layer, penalty in self._penalties.items():
            terms[f"the spectral penalty at {layer}"] = self._spectral(layer, penalty, codes[layer])
        code = codes[self._layers[-1]] if self._layers else None
        seen = ForwardPass(inputs, scores, code, [cell.seed for cell in self._cells], batch.step)
        for name, weights in used.items():
            terms[f"the {name} penalty"] = weights * TERMS[name](seen, self._settings)
        self._check_finite(terms, batch)
        total = torch.stack([term.to(torch.float64) for term in terms.values()]).sum()
        gradients = torch.autograd.grad(total, self._members.leaves, allow_unused=True)
        self._members.assign_gradients(gradients)
        self._move(batch.epoch)
        accuracy = (scores.detach().argmax(dim=2) == batch.labels).double().mean(dim=1)
        rows = len(self.rows)
        alphas = [_last_alpha(penalty, len(losses)) for penalty in self._penalties.values()]
        return Report(
            loss=losses.detach().double().cpu()[:, None].expand(-1, rows),
            accuracy=accuracy.cpu()[:, None].expand(-1, rows),
            alpha=torch.stack(alphas, dim=1) if alphas else torch.full((len(losses), 1), torch.nan, dtype=torch.float64),
        )

    def _spectral(self, layer: str, penalty: SpectralPenalty, code: Tensor) -> Tensor:
        if not code.requires_grad and bool(self._betas[layer].any()):
            raise TrainingError(f"No parameter that is trained changes layer {layer!r}: its penalty has nothing to act on.")
        units = code[0, 0].numel()
        if not bool(self._betas[layer].any()):
            if units < penalty.window.last:
                return torch.zeros_like(self._betas[layer])
            code = code.detach()
        elif units < penalty.window.last:
            raise TrainingError(
                f"Layer {layer!r} has {units} units, and so no eigenvalue at rank {penalty.window.last}. Lower the last rank or "
                "choose a wider layer."
            )
        return self._betas[layer] * penalty.members(code)

    def _attacked(self, batch: Batch) -> Tensor:
        chosen = self._settings.adversarial
        if chosen.epsilon == 0:
            return batch.inputs
        attack = PGD(
            norm=chosen.norm,
            steps=chosen.steps,
            step_size=chosen.step_size,
            relative_step=chosen.step_size is None,
        )
        starts = None
        if chosen.start == "random":  # drawn for each member by its own seed, then attacked together
            balls = [Ball(inputs, chosen.epsilon, chosen.norm, attack.bounds) for inputs in batch.inputs]
            drawn = zip(balls, batch.indices, self._cells, strict=True)
            starts = torch.cat(
                [ball.random_start(own, seed=cell.seed * 2**20 + batch.step, restart=0) for ball, own, cell in drawn]
            )
        found = attack(
            self._members.flattened(),
            batch.inputs.flatten(0, 1),
            batch.labels.flatten(),
            epsilon=chosen.epsilon,
            warm_start=starts,
        )
        return found.images.view_as(batch.inputs)

    def _check_finite(self, terms: dict[str, Tensor], batch: Batch) -> None:
        for name, values in terms.items():
            if not bool(torch.isfinite(values.detach()).all()):
                member = int((~torch.isfinite(values.detach())).nonzero()[0])
                raise DivergenceError(
                    f"Training diverged: {name} is not finite at step {batch.step + 1} (epoch {batch.epoch + 1}"
                    + (f", member {member})" if len(values) > 1 else ")")
                    + ". Lower the learning rate or the penalty's beta, or clip gradients."
                )

    def _move(self, epoch: int) -> None:
        factor = self._settings.rate_factor(epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        if self._settings.clip is not None:
            for parameters in self._members.parameters:
                nn.utils.clip_grad_norm_(parameters, self._settings.clip)
        self._optimizer.step()

    def scores(self, inputs: Tensor) -> Tensor:
        """See ``Learner``."""
        with evaluating(self._members):
            scores, _ = self._members.forward(inputs.expand(self._members.count, *inputs.shape))
        return scores[:, None].expand(-1, len(self.rows), -1, -1)

    def codes(self, inputs: Tensor) -> dict[str, Tensor]:
        """See ``Learner``."""
        with evaluating(self._members):
            return self._members.forward(inputs.expand(self._members.count, *inputs.shape), self._layers)[1]

    def state(self) -> dict[str, Tensor]:
        """See ``Learner``."""
        state = {f"network.{name}": value for name, value in self._members.state().items()}
        for number, values in self._optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{number}.{name}": value for name, value in values.items() if isinstance(value, Tensor)}
        for layer, penalty in self._penalties.items():
            state |= {f"penalty.{layer}.{name}": value for name, value in penalty.state_dict().items()}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See ``Learner``."""
        self._members.load_state(_under(state, "network."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(state, "optimizer.").items():
            number, _, key = name.partition(".")
            moments.setdefault(int(number), {})[key] = value
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": moments})
        for layer, penalty in self._penalties.items():
            penalty.load_state_dict(_under(state, f"penalty.{layer}."))

    def member(self, number: int) -> nn.Module:
        """See ``Learner``."""
        return self._members.member(number)


class LocalLearner:
    """Local errors at every layer, at once or layer after layer; see ``LocalErrors``.

    Args:
        models: ``JiangNetwork``s of one size.
        cells: One for each network.
        settings: Shared settings.

    Raises:
        TrainingError: other networks, or penalties and attacks, which local errors do not know.
    """

    def __init__(self, models: Sequence[nn.Module], cells: Sequence[MemberSettings], settings: Settings) -> None:
        self._networks = LocalErrors(models)
        self.rows, self.measures = self._networks.names, False
        betas = [cell.beta_of(layer) for cell in cells for layer in self.rows]
        others = [getattr(cell, name) for cell in cells for name in TERMS]
        if any(betas) or any(others) or settings.adversarial.epsilon or settings.clip or settings.mixed_precision:
            raise TrainingError(
                "Local errors have a closed-form update: penalties, adversarial training, clipping and mixed precision need "
                'rule="backpropagation".'
            )
        self._settings = settings
        self._rates = torch.tensor([cell.learning_rate for cell in cells], device=self._networks.weights[0].device)
        self._epochs = settings.epochs

    def step(self, batch: Batch) -> Report:
        """See ``Learner``."""
        layers, epoch = None, batch.epoch
        if self._settings.rule == "greedy":
            layer, epoch = divmod(batch.epoch, self._epochs)
            layers = range(layer, layer + 1)
        loss, accuracy = self._networks.step(
            batch.inputs.flatten(2), batch.labels, self._rates * self._settings.rate_factor(epoch), layers=layers
        )
        if not bool(torch.isfinite(loss).all()):
            member, layer = (~torch.isfinite(loss)).nonzero()[0].tolist()
            raise DivergenceError(
                f"Training diverged: the local loss at {self.rows[layer]} of member {member} is not finite at step "
                f"{batch.step + 1} (epoch {batch.epoch + 1}). Lower the learning rate."
            )
        return Report(loss.double().cpu(), accuracy.double().cpu(), torch.full(loss.shape, torch.nan, dtype=torch.float64))

    def scores(self, inputs: Tensor) -> Tensor:
        """See ``Learner``."""
        return self._networks.scores(self._repeated(inputs)).permute(1, 0, 3, 2)

    def codes(self, inputs: Tensor) -> dict[str, Tensor]:
        """See ``Learner``."""
        return dict(zip(self.rows, self._networks.codes(self._repeated(inputs)), strict=True))

    def _repeated(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1).expand(self._networks.count, -1, -1)

    def state(self) -> dict[str, Tensor]:
        """See ``Learner``."""
        return {f"weights.{number}": value for number, value in enumerate(self._networks.weights)} | {
            f"classifiers.{number}": value for number, value in enumerate(self._networks.classifiers)
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See ``Learner``."""
        for kind, tensors in (("weights", self._networks.weights), ("classifiers", self._networks.classifiers)):
            for number, tensor in enumerate(tensors):
                tensor.copy_(state[f"{kind}.{number}"])

    def member(self, number: int) -> nn.Module:
        """See ``Learner``."""
        return self._networks.member(number)


def _cross_entropies(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of each member."""
    return cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels).mean(dim=1)


def _last_alpha(penalty: SpectralPenalty, members: int) -> Tensor:
    """Exponents of the last batch; NaN where none was measured."""
    return torch.full((members,), torch.nan, dtype=torch.float64) if penalty.last is None else penalty.last.alpha.cpu()


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def learner_for(models: Sequence[nn.Module], cells: Sequence[MemberSettings], settings: Settings, sample: Tensor) -> Learner:
    """The learner for the settings' rule."""
    if settings.rule == "backpropagation":
        return GradientLearner(models, cells, settings, sample)
    return LocalLearner(models, cells, settings)
