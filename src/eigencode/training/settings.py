"""What a training run is told: settings that all members share, and a cell for each member. Nothing heavy is imported here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from eigencode._arguments import check_fields, checked
from eigencode._grammar import names_in
from eigencode.errors import TrainingError
from eigencode.spectra.window import as_configured

Optimizer = Literal["adam", "sgd"]
Schedule = Literal["constant", "step", "cosine"]
Rule = Literal["backpropagation", "local", "greedy"]
JacobianKind = Literal["exact", "projected", "column_sum"]
Numbers = str | float | list[float]
"""One number, or several separated by commas: a network is trained for each."""


def _weight(symbol: str, *, of: Literal["code", "inputs"] = "code") -> Any:
    """A weight of a penalty: what figures call it, and what is differentiated beside the loss."""
    return field(default=0.0, metadata={"symbol": symbol, "of": of})


@dataclass(frozen=True)
class MemberSettings:
    """What is a member's own.

    Args:
        seed: Seed of the order of its images and of every random choice of its training.
        learning_rate: Learning rate at the first epoch.
        target: Exponent asked of the penalised layers: one for all, or layer -> exponent.
        beta: Weight of the spectral penalty: one for all layers, or layer -> weight; 0 measures alone.
        covariance: Weight c1 of the covariance penalty.
        jacobian: Weight c2 of the Jacobian penalty.

    Raises:
        TrainingError: a learning rate that is not positive, a target that is not a number, or a weight below zero.
    """

    seed: int = 0
    learning_rate: float = 1e-4
    target: float | Mapping[str, float] = 1.0
    beta: float | Mapping[str, float] = _weight("β")
    covariance: float = _weight("c1")
    jacobian: float = _weight("c2", of="inputs")

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_fields(self, TrainingError, owner="")
        if self.learning_rate <= 0:
            raise TrainingError(f"`learning_rate` must be positive; got {self.learning_rate}.")
        for name in WEIGHTS:
            value = getattr(self, name)
            for weight in value.values() if isinstance(value, Mapping) else [value]:
                if weight < 0:
                    raise TrainingError(f"`{name}` is the weight of a penalty and must be at least 0; got {weight}.")

    def target_of(self, layer: str) -> float:
        """Exponent asked of a layer."""
        return _of_layer(self.target, layer, "target")

    def beta_of(self, layer: str) -> float:
        """Weight of the spectral penalty at a layer."""
        return _of_layer(self.beta, layer, "beta")


WEIGHTS = {item.name: item.metadata for item in fields(MemberSettings) if "symbol" in item.metadata}
"""Name of each penalty's weight -> its symbol, and whether the penalty is of the code or of the inputs."""


@dataclass(frozen=True)
class GridOptions:
    """The grid of networks as the command line has it: several numbers are separated by commas.

    Args:
        target: Exponents asked of the penalised layers.
        beta: Weights of the spectral penalty; at 0 the exponent is measured all the same.
        covariance: Weights c1 of the penalty on the off-diagonal part of the covariance of the last penalised layer (Schaeffer
            et al. 2020, Eq. 1).
        jacobian: Weights c2 of the penalty on the Jacobian of the scores with respect to the input (likewise).
    """

    target: Numbers = "1"
    beta: Numbers = "0"
    covariance: Numbers = "0"
    jacobian: Numbers = "0"


GRID = tuple(item.name for item in fields(GridOptions))


def _of_layer(value: float | Mapping[str, float], layer: str, name: str) -> float:
    if not isinstance(value, Mapping):
        return value
    if layer not in value:
        raise TrainingError(f"`{name}` names no value for layer {layer!r}; it has {', '.join(value)}. Add it.")
    return value[layer]


@dataclass(frozen=True)
class SpectralSettings:
    """Where and how spectra are penalised, and measured while training.

    Args:
        layers: Layers whose spectrum is measured and, with a beta above 0, penalised: names or globs separated by commas;
            penultimate (or head) is what the classifier reads (the last hidden one of Gerum et al.). Empty: none.
        ranks: Fit window, as in measure. Default: 6-50 for exponent, 1-10 for line, 11-50 for nassar.
        form: exponent, beta |alpha - target| (Gerum et al. 2022, Eq. 6); line, weighted squared distance to a line of the target
            slope (their code of 2023); nassar, relative distance to a power law anchored at the first rank (Nassar et al. 2020).
        solver: tracked follows the leading eigenvectors from step to step; dense decomposes the whole covariance each time.
        degenerate: Skip (and count) or raise an error where a batch is too small for the ranks or a code has collapsed.
    """

    layers: str = "penultimate"
    ranks: str | tuple[int, int] | None = None
    form: Literal["exponent", "line", "nassar"] = "exponent"
    solver: Literal["tracked", "dense"] = "tracked"
    degenerate: Literal["raise", "skip"] = "skip"

    def __post_init__(self) -> None:
        """Checks the choices."""
        check_fields(self, TrainingError, owner="spectral")
        try:
            object.__setattr__(self, "layers", ",".join(names_in(self.layers)))
        except ValueError as error:
            raise TrainingError(f"spectral: `layers`: {error}; got {self.layers!r}.") from None
        if self.ranks is not None:
            object.__setattr__(self, "ranks", as_configured(self.ranks))


@dataclass(frozen=True)
class JacobianSettings:
    """How the Jacobian of the scores is penalised.

    Args:
        kind: exact Frobenius norm; projected on random vectors (Hoffman et al. 2019); or column_sum, the norm of the sum over
            classes (Schaeffer et al. 2020).
        projections: Random vectors for each image, for projected.
        squared: Half the mean square in place of the mean norm.
    """

    kind: JacobianKind = "exact"
    projections: int = 1
    squared: bool = False

    def __post_init__(self) -> None:
        """Checks the choices."""
        check_fields(self, TrainingError, owner="jacobian")


@dataclass(frozen=True)
class AdversarialSettings:
    """Training on attacked images, as in the Robustness library (PGD on the images of each batch, in evaluation mode).

    Args:
        epsilon: Budget in input units; 0 for ordinary training.
        norm: Norm of the budget.
        steps: Steps of PGD.
        step_size: Length of a step. Default: 2.5 epsilon / steps.
        start: Start at the input, as the library does, or at random.
    """

    epsilon: float = 0.0
    norm: Literal["linf", "l2"] = "l2"
    steps: int = 7
    step_size: float | None = None
    start: Literal["input", "random"] = "input"

    def __post_init__(self) -> None:
        """Checks the choices and numbers."""
        check_fields(self, TrainingError, owner="adversarial")
        if self.epsilon < 0:
            raise TrainingError(f"adversarial: `epsilon` must be at least 0; got {self.epsilon}.")
        if self.step_size is not None and self.step_size <= 0:
            raise TrainingError(f"adversarial: `step_size` must be above 0; got {self.step_size}.")


@dataclass(frozen=True)
class TrainingOptions:
    """How networks are trained, in what ``Settings`` and the command line have in common.

    Args:
        epochs: Passes over the images; of each layer, for the greedy rule.
        batch_size: Images in a batch; the last batch of an epoch may be smaller.
        rule: backpropagation; local errors at every layer at once (Jiang et al. 2020, Eqs. (1)-(2)); or greedy, the same layer
            after layer.
        optimizer: adam or sgd; local rules take plain sgd.
        momentum: Momentum of sgd.
        weight_decay: Weight decay.
        adam_epsilon: Number added to Adam's denominator; Keras, and so Gerum et al., use 1e-7.
        schedule: Learning rate over epochs: constant; step, times schedule_factor every schedule_epochs (Jiang et al.); or
            cosine, down to 0.
        schedule_epochs: See schedule.
        schedule_factor: See schedule.
        clip: Largest norm of a member's gradient; None for no clipping.
        mixed_precision: Run the network in bfloat16; eigenvalues and losses stay in float32 and above.
        spectral: See ``SpectralSettings``.
        covariance_kind: See ``covariance_penalty``.
        adversarial: See ``AdversarialSettings``.
        measure_every: Exponents on held-out images are measured every so many epochs, and after the last.
        held_out_count: Held-out images for exponents.

    Raises:
        TrainingError: a number out of range, or an optimiser that local rules do not take.
    """

    epochs: int = 50
    batch_size: int = 128
    rule: Rule = "backpropagation"
    optimizer: Optimizer = "adam"
    momentum: float = 0.0
    weight_decay: float = 0.0
    adam_epsilon: float = 1e-7
    schedule: Schedule = "constant"
    schedule_epochs: int = 10
    schedule_factor: float = 0.8
    clip: float | None = None
    mixed_precision: bool = False
    spectral: SpectralSettings = field(default_factory=SpectralSettings)
    covariance_kind: Literal["batch", "per_sample"] = "batch"
    adversarial: AdversarialSettings = field(default_factory=AdversarialSettings)
    measure_every: int = 1
    held_out_count: int = 3000

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_fields(self, TrainingError, owner="")
        for name in ("momentum", "weight_decay", "adam_epsilon", "schedule_factor"):
            if getattr(self, name) < 0:
                raise TrainingError(f"`{name}` must be at least 0; got {getattr(self, name)}.")
        if self.clip is not None and self.clip <= 0:
            raise TrainingError(f"`clip` must be positive; got {self.clip}.")
        if self.optimizer == "adam" and self.momentum:
            raise TrainingError(
                f'`momentum` belongs to optimizer "sgd"; got {self.momentum:g} with "adam". Leave one of them out.'
            )
        if self.rule != "backpropagation" and (self.optimizer != "sgd" or self.momentum or self.weight_decay):
            raise TrainingError(
                f'`rule` {self.rule!r} takes plain stochastic gradient descent; got optimizer "{self.optimizer}", momentum '
                f'{self.momentum:g}, weight decay {self.weight_decay:g}. Use optimizer="sgd" without these.'
            )

    @checked(TrainingError)
    def rate_factor(self, epoch: int) -> float:
        """What the learning rates are multiplied with in an epoch, counted from 0."""
        if self.schedule == "step":
            return float(self.schedule_factor ** (epoch // self.schedule_epochs))
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        return 1.0


@dataclass(frozen=True)
class Settings(TrainingOptions):
    """What all members of a run share: beside what follows, all of ``TrainingOptions``.

    Args:
        jacobian: See ``JacobianSettings``.

    Raises:
        TrainingError: a number out of range, or an optimiser that local rules do not take.
    """

    jacobian: JacobianSettings = field(default_factory=JacobianSettings)
