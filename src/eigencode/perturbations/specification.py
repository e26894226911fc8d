"""What can be done to inputs, said once: a table of all perturbations and attacks, and how one is told. It needs no torch."""

# Annotations are not postponed: the parser of the command line cannot look up those of a class that is inherited elsewhere.
import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from eigencode._arguments import check, check_fields
from eigencode.errors import StudyError

Norm = Literal["linf", "l2"]
Direction = Literal["sign", "gradient"]
Start = Literal["input", "random"]
Keep = Literal["final", "best"]
AttackLoss = Literal["cross_entropy", "margin"]
"""What an attack on images raises."""

LossAt = Literal["local", "network"]

Made = Literal["robust", "non_robust", "random_target", "deterministic_target"]
MADE: tuple[Made, ...] = get_args(Made)
"""Kinds of images that another network's features make (Ilyas et al. 2019)."""

MOST_STRENGTHS = 1000
"""More are refused before they are listed."""

_GERUM_STEP = 0.01
_MADRY_STEPS = 2.5

_STEPS = ("norm", "loss", "steps", "step_size", "relative_step", "direction", "start", "restarts", "keep", "seed")


@dataclass(frozen=True)
class PerturbationKind:
    """A perturbation or an attack: what its name stands for.

    Attributes:
        name: Name in commands, studies and results.
        maker: "module:function" of a strength, for a perturbation; of an attack, its class. None for images that a network makes.
        options: Options that the maker is told.
        strength: What its strength is, as refusals say it.
        lowest: Lowest strength.
        given: What the maker is told besides, whatever the options.
        attack: Whether images are attacked with their labels, whole stacks of networks at once.
        at_layers: Whether the input of single layers is changed, not the images.
        from_image: Whether it comes from the images as they are when its strength grows from 0.
        counts: Whether strengths are numbers of components.
        steps: Steps that it takes where none are told; 0 where it takes none.
    """

    name: str
    maker: str | None
    options: tuple[str, ...]
    strength: str
    lowest: float = 0.0
    given: dict[str, Any] = field(default_factory=dict)
    attack: bool = False
    at_layers: bool = False
    from_image: bool = True
    counts: bool = False
    steps: int = 0


_EVERY = (
    PerturbationKind(
        "gaussian", "eigencode.perturbations.noise:GaussianNoise", ("clip", "seed"), "standard deviation, input units"
    ),
    PerturbationKind(
        "pure_noise",
        "eigencode.perturbations.noise:PureNoise",
        ("clip", "seed"),
        "standard deviation, input units",
        from_image=False,
    ),
    PerturbationKind(
        "grey_noise",
        "eigencode.perturbations.noise:PureNoise",
        ("clip", "seed"),
        "standard deviation, input units",
        given={"mean": 0.5},
        from_image=False,
    ),
    PerturbationKind(
        "pca",
        "eigencode.perturbations.components:projection",
        ("components",),
        "number of components",
        lowest=1.0,
        from_image=False,
        counts=True,
    ),
    PerturbationKind(
        "zca",
        "eigencode.perturbations.components:whitening",
        ("components",),
        "number added to the variances, squared input units",
        from_image=False,
    ),
    PerturbationKind(
        "fgsm", "eigencode.attacks.gradient:FGSM", ("norm", "loss", "seed"), "epsilon, input units", attack=True, steps=1
    ),
    PerturbationKind("pgd", "eigencode.attacks.gradient:PGD", _STEPS, "epsilon, input units", attack=True, steps=40),
    PerturbationKind(
        "layer_gaussian",
        "eigencode.attacks.layerwise:LayerAttack",
        ("loss_at", "seed"),
        "epsilon, units of the layer's input",
        given={"direction": "gaussian"},
        at_layers=True,
    ),
    PerturbationKind(
        "layer_fgsm",
        "eigencode.attacks.layerwise:LayerAttack",
        ("loss_at", "seed"),
        "epsilon, units of the layer's input",
        given={"direction": "fgsm"},
        at_layers=True,
    ),
    *(
        PerturbationKind(
            name, None, ("steps",), "l2 budget of that network's adversarial training", from_image=False, steps=steps
        )
        for name, steps in zip(MADE, (1000, 1000, 100, 100), strict=True)
    ),
)

KINDS = {kind.name: kind for kind in _EVERY}
"""Name -> kind."""

TOOLBOX = PerturbationKind("art:NAME", "eigencode.attacks.art:ArtAttack", ("norm", "seed"), "epsilon, input units", attack=True)
"""Any attack of the adversarial-robustness-toolbox, by its name there."""

NAMES = (*(kind.name for kind in _EVERY if kind.maker), TOOLBOX.name)
"""What ``eigencode attack`` takes."""


def kind_of(name: str) -> PerturbationKind | None:
    """The kind that a name in results stands for, be it that of a class or a method; None for a perturbation of a user's own."""
    if name.startswith("art:"):
        return TOOLBOX
    called = (kind for kind in _EVERY if kind.maker and not kind.given and kind.maker.endswith(f":{name}"))
    return KINDS.get(name) or next(called, None)


@dataclass(frozen=True, kw_only=True)
class GradientSteps:
    """Steps along the gradient of a loss, as PGD takes them.

    Args:
        norm: Norm of an attack's budget: linf (papers) or l2.
        steps: Steps of pgd.
        step_size: Length of a step of pgd, input units. Default: 0.01 for linf (Gerum et al.), 2.5 epsilon / steps for l2.
        relative_step: Steps of pgd of 2.5 epsilon / steps for linf, too (Madry et al. 2018).
        direction: Step of pgd along the gradient's sign (gradient over its length for l2), or along the gradient itself, as Gerum
            et al. 2022, Eq. (8), is printed.
        start: Start of pgd at the input, or at a random point drawn uniformly from the ball.
        restarts: Random starts of pgd, the most harmful result of which is kept.
        keep: Which iterate of pgd counts: the final one (papers) or the best, the most harmful of all.
    """

    norm: Norm = "linf"
    steps: int = 40
    step_size: float | None = None
    relative_step: bool = False
    direction: Direction = "sign"
    start: Start = "input"
    restarts: int = 1
    keep: Keep = "final"


def conflict(options: GradientSteps) -> str | None:
    """What of these steps makes no sense together, in a sentence; None if all does."""
    if options.restarts > 1 and options.start != "random":
        return f'`restarts` of {options.restarts} need start="random"; from the input all would be equal.'
    if options.step_size is not None and options.step_size <= 0:
        return f"`step_size` must be above 0; got {options.step_size}."
    if options.step_size is not None and options.relative_step:
        return "`relative_step` sets the length of a step, and so does `step_size`. Leave one out."
    return None


def step_length(norm: Norm, epsilon: float, steps: int, step_size: float | None, *, relative: bool) -> float:
    """Length of a step of PGD, input units: as told; 0.01 for linf (Gerum et al.); else 2.5 epsilon / steps (Madry et al.)."""
    if step_size is not None:
        return step_size
    return _GERUM_STEP if norm == "linf" and not relative else _MADRY_STEPS * epsilon / steps


@dataclass(frozen=True, kw_only=True)
class PerturbationOptions(GradientSteps):
    """How a perturbation or attack of any kind is done.

    Args:
        clip: Clip noisy images to [0, 1].
        loss_at: For layer_fgsm: loss of the layer's own classifier or of the network. Default: local where there is one.
        loss: What fgsm and pgd raise: cross_entropy (papers), or the margin by which the largest of the other scores exceeds that
            of the class (Carlini and Wagner 2017), whose gradient does not vanish where the network is sure.
    """

    clip: bool = False
    loss: AttackLoss = "cross_entropy"
    loss_at: LossAt | None = None


@dataclass(frozen=True)
class _KindAndStrengths:
    """What comes first in a specification."""

    kind: str
    strengths: tuple[float, ...]
    count: int | None = None


@dataclass(frozen=True)
class PerturbationSpec(PerturbationOptions, _KindAndStrengths):
    """What is done to test images, or to the input of single layers, and what is read then.

    Args:
        kind: Name of the perturbation or attack, as in ``eigencode attack``; or of the images that take the place of the test
            images, made from training images with the features of another network, as in ``eigencode construct``.
        strengths: Its strengths; of images made by another network, the l2 budgets of that network's adversarial training.
        count: Test images. Default: as many as the reading's.
        steps: Steps of pgd, or of making images. Default: 40; for images 1000, and 100 towards targets.
        spectra: Read spectra too; else accuracy alone, of all networks of a stack together (fgsm and pgd).
        data: Data set that is shown in place of images that would be made, as in ``datasets.load``.

    Raises:
        StudyError: a kind that there is not, a strength out of range, or options that the kind does not have.
    """

    steps: int | None = field(default=None, kw_only=True)  # type: ignore[assignment]
    spectra: bool = field(default=True, kw_only=True)
    data: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Checks what types cannot."""
        check_fields(self, StudyError, owner=self.kind if isinstance(self.kind, str) else "perturbation")
        check("perturbation", "kind", self.kind, Literal[tuple(KINDS)], StudyError)
        if not self.strengths:
            raise StudyError(f"{self.kind}: `strengths` must hold at least one strength.")
        if len(self.strengths) > MOST_STRENGTHS:
            raise StudyError(f"{self.kind}: `strengths` holds {len(self.strengths)} numbers; {MOST_STRENGTHS} at most.")
        low, high = self.what.lowest, 1.0 if self.what.attack and self.norm == "linf" else math.inf
        for strength in self.strengths:
            if not low <= strength <= high:
                range_ = f"in {low:g}..{high:g}, the range of pixels" if high < math.inf else f"at least {low:g}"
                remedy = f" Write {strength:g}/255 for levels of 0..255." if strength > high else ""
                raise StudyError(f"{self.kind}: `strengths` must be {range_}; got {strength:g} ({self.what.strength}).{remedy}")
        if not self.spectra and not self.what.attack:
            raise StudyError(f"{self.kind}: accuracy alone, `spectra` false, is read of fgsm and pgd only.")
        if self.data and self.kind not in MADE:
            raise StudyError(f"{self.kind}: `data` takes the place of images that are made: of {', '.join(MADE)}.")
        if self.kind in MADE and (self.norm != "linf" or self.step_size is not None):
            raise StudyError(f"{self.kind}: images are made within l2, with steps of 0.1; leave out `norm` and `step_size`.")
        for name, value in self._told().items():
            if name not in (*self.what.options, *_SAID_OF_ANY):
                raise StudyError(f"{self.kind}: it has no `{name}`; got {value}. Leave it out.")
        if wrong := conflict(self):
            raise StudyError(f"{self.kind}: {wrong}")

    @property
    def what(self) -> PerturbationKind:
        """What its kind stands for."""
        return KINDS[self.kind]

    @property
    def n_steps(self) -> int:
        """Steps that are taken."""
        return (self.steps if "steps" in self.what.options else None) or self.what.steps

    @property
    def variant(self) -> str:
        """What is done whatever the kind and the strength, in words: what is not the default."""
        given = self._told()
        if given.get("steps") == self.what.steps:
            del given["steps"]
        if self.norm == "linf" and self.step_size == _GERUM_STEP:
            del given["step_size"]
        words: list[str] = [] if self.norm == "linf" else [self.norm]
        if self.count is not None or not self.spectra:
            words.append("all images" if self.count is None else f"count {self.count}")
        words += [f"{name} {value}" for name, value in given.items() if name != "norm"]
        return ", ".join([*words, *filter(None, [self.data])]) or "by default"

    def _told(self) -> dict[str, Any]:
        """Options that are not what they are by default."""
        usual = {item.name: item.default for item in fields(type(self)) if item.name in _OPTIONS}
        return {name: getattr(self, name) for name, default in usual.items() if getattr(self, name) != default}


_OPTIONS = tuple(item.name for item in fields(PerturbationOptions))

_SAID_OF_ANY = ("norm", "steps", "step_size")
"""Options that kept cells may have of any kind."""
