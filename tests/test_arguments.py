"""Every option of the public face is held against its annotation: found by introspection, so that a new one cannot be left out."""

import dataclasses
import inspect
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch

import eigencode as ec
from eigencode._arguments import check, choices_of, fits
from eigencode.errors import EigencodeError

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

_ROOMS = [ec, *(getattr(ec, name) for name in ec.__all__ if inspect.ismodule(getattr(ec, name)))]

_RESULTS = {
    "AlphaInterval", "Attacked", "ConstructedSet", "CrossValidatedSpectrum", "DimensionInterval", "Eigenspectrum", "Flag", "Gains", "PenaltyStep",
    "PerturbedSpectra", "PopulationSpectrum", "PowerLawFit", "PowerLawTest", "PrincipalComponents", "Recording", "RobustnessCurve", "RobustnessPoint", "SignalSpectrum",
    "Training",
}  # fmt: skip
"""Classes that eigencode makes itself: their numbers are what came out, NaN among them. Their choices are checked all the same."""

_ELSEWHERE = {"ec.reports", "Store", "StudyResults", "Local"}
"""What takes results, not options."""


def _public():
    """Everything that is called: name, class or function, annotations."""
    found = {}
    for room in _ROOMS:
        for name in getattr(room, "__all__", [name for name in vars(room) if not name.startswith("_")]):
            value = getattr(room, name)
            if callable(value) and value.__module__.startswith("eigencode") and not issubclass_(value, Exception):
                found[value] = f"{room.__name__.replace('eigencode', 'ec')}.{name}"
    for value, name in found.items():
        yield name, value, value
        if inspect.isclass(value):
            for key in vars(value):
                method = getattr(value, key)
                if (key == "__call__" or not key.startswith("_")) and (inspect.isfunction(method) or inspect.ismethod(method)):
                    yield f"{name}.{key}", value, method


def issubclass_(value, kind):
    return inspect.isclass(value) and (issubclass(value, kind) or getattr(value, "_is_protocol", False))


def _hints(called):
    try:
        found = get_type_hints(called.__init__ if inspect.isclass(called) else called)
        if (passed := found.pop("measuring", None)) is not None:
            (keywords,) = get_args(passed)
            found |= get_type_hints(keywords)
        return found
    except NameError:  # of plots, whose types are imported for mypy alone
        return {}


def _parameters(wanted):
    return [
        pytest.param(called, parameter, hint, id=f"{name}({parameter})")
        for name, owner, called in _public()
        if not any(part in name for part in _ELSEWHERE)
        for parameter, hint in _hints(called).items()
        if parameter != "return" and wanted(hint, owner, called)
    ]


def _scalar(hint):
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return bool({int, float, bool} & set(parts)) and set(parts) <= {int, float, bool, NoneType}


def _sample(hint):
    """Some value of an annotation, for the arguments that are not under test."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return parts[0]
    if origin in (Union, UnionType):
        return _sample(parts[0])
    if origin is tuple:
        return tuple(_sample(part) for part in parts if part is not Ellipsis)
    if origin in (dict, Mapping):
        return {}
    if hint is ec.studies.Part:
        return hint("", print)
    if hint is ec.perturbations.PrincipalComponents:
        return hint.fit(ec.ImageSet.unlabelled(torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))))
    if hint is torch.Tensor:
        return torch.ones(3)
    return {int: 1, float: 1.0, bool: False, str: "x"}.get(hint) if isinstance(hint, type) else print


def _call(called, parameter, value):
    """Calls with one argument alone, and where an instance must be made first with some value for the others."""
    if dataclasses.is_dataclass(called):
        others = {
            item.name: _sample(_hints(called)[item.name])
            for item in dataclasses.fields(called)
            if item.default is item.default_factory is dataclasses.MISSING
        }
        return called(**{**others, parameter: value})
    return (called.__init__ if inspect.isclass(called) else called)(**{parameter: value})


def _refusal(called, parameter, value):
    with pytest.raises(EigencodeError) as caught:
        _call(called, parameter, value)
    text = str(caught.value)
    assert f"`{parameter}` must be " in text
    assert len(text.splitlines()) == 1
    return text


def _wrong_numbers(hint):
    wrong = ["64", [1], torch.ones(2), 10**400, *(() if fits(None, hint) else (None,))]
    parts = set(get_args(hint) or (hint,))
    if bool not in parts:
        wrong += [True, np.bool_(True), float("nan"), float("inf")]
    if not parts & {float}:
        wrong += [2.5]
    return wrong


@pytest.mark.parametrize(("called", "parameter", "hint"), _parameters(lambda hint, owner, called: choices_of(hint)))
def test_choices(called, parameter, hint):
    choices = choices_of(hint)
    for choice in choices:
        close = _refusal(called, parameter, choice.upper())
        assert close.endswith(f"got {choice.upper()!r}. Did you mean {choice!r}?")
        assert _refusal(called, parameter, f"{choice}s").endswith("?")
        assert all(other in close for other in choices)
    for wrong in ("", "nothing like it", 3, 0.5, True, [choices[0]], {}, object()):
        _refusal(called, parameter, wrong)
    if not fits(None, hint):
        _refusal(called, parameter, None)


@pytest.mark.parametrize(
    ("called", "parameter", "hint"),
    _parameters(lambda hint, owner, called: _scalar(hint) and not (owner.__name__ in _RESULTS and owner is called)),
)
def test_numbers_and_switches(called, parameter, hint):
    for wrong in _wrong_numbers(hint):
        _refusal(called, parameter, wrong)


def test_seeds_and_counts():
    for value in (-1, 2**63):
        assert "`seed` must be at " in _refusal_of(lambda value=value: ec.training.MemberSettings(seed=value))
    assert _refusal_of(lambda: ec.training.Settings(epochs=0)) == "`epochs` must be at least 1; got 0."
    assert _refusal_of(lambda: ec.attacks.PGD(restarts=10**90, start="random")) == (
        "pgd: `restarts` must be at most 9223372036854775807; got a number of more than 80 digits."
    )
    assert _refusal_of(lambda: ec.models.load("gerum_cnn", classes=10**9)) == (
        "load: `classes` must be at most 100000; got 1000000000."
    )


def test_networks_that_would_fill_the_memory():
    assert _refusal_of(lambda: ec.models.load("jiang_mlp", width=10**6, depth=3)) == (
        "jiang_mlp: 3 layers of 1000000 units have 2000814000000 weights; 1000000000 at most."
    )


def test_sentences():
    assert _refusal_of(lambda: ec.training.Settings(optimizer="Adam")) == (
        "`optimizer` must be one of adam, sgd; got 'Adam'. Did you mean 'adam'?"
    )
    assert _refusal_of(lambda: ec.measure(torch.nn.Linear(3, 2), torch.rand(9, 3), units="Channels")) == (
        "measure: `units` must be one of all, channels, pooled; got 'Channels'. Did you mean 'channels'?"
    )
    assert _refusal_of(lambda: ec.attacks.PGD(step_size="0.1")) == "pgd: `step_size` must be a finite number or None; got '0.1'."
    assert _refusal_of(lambda: ec.attacks.PGD(bounds=(0.0, 1.0, 2.0))) == (
        "pgd: `bounds` must be a tuple of 2, each part a finite number; got (0.0, 1.0, 2.0)."
    )
    assert _refusal_of(lambda: ec.datasets.load(3)) == "load: `name` must be a text; got 3."
    assert _refusal_of(lambda: ec.attacks.robustness_curve("net", None, None, epsilons=[0.1])) == (
        "robustness_curve: `model` must be a torch.nn.Module (see eigencode.models.load); got 'net'."
    )


def test_numbers_of_numpy_and_torch_are_numbers():
    assert ec.attacks.PGD(steps=np.int64(3), step_size=np.float32(0.5)).steps == 3
    assert fits(np.bool_(True), bool)
    assert not fits(torch.tensor(0.5), float)
    assert fits("anything", Any)


def test_masked_entries():
    masked = np.ma.masked_less(np.arange(12.0).reshape(4, 3), 3)
    told = "has 3 masked entries, which would be read as numbers. Fill or remove them."
    for call, start in (
        (lambda: ec.Eigenspectrum.from_activations(masked), "Eigenspectrum.from_activations: `activations`"),
        (lambda: ec.SpectrumAccumulator().update(masked), "SpectrumAccumulator.update: `activations`"),
        (lambda: ec.measure(torch.nn.Linear(3, 2), masked), "measure: `images`"),
        (lambda: ec.fit_power_law(masked[:, 0], ranks=(1, 3)), None),
        (lambda: ec.cvpca(masked[None]), "cvpca: `responses`"),
    ):
        assert (text := _refusal_of(call)).endswith("Fill or remove them.")
        assert start is None or text == f"{start} {told}"
    none = np.ma.masked_less(np.random.default_rng(0).random((40, 3)), -1)
    assert ec.Eigenspectrum.from_activations(none).n_samples == 40


def _refusal_of(call):
    with pytest.raises(EigencodeError) as caught:
        call()
    return str(caught.value)


def test_defaults_of_dataclasses_are_what_they_may_be():
    """They are not checked again each time."""
    kinds = {value for _, value, _ in _public() if dataclasses.is_dataclass(value) and value.__name__ not in _RESULTS}
    assert len(kinds) > 10
    for kind in kinds:
        known = get_type_hints(kind)
        for item in dataclasses.fields(kind):
            if item.default is not dataclasses.MISSING:
                assert check(kind.__name__, item.name, item.default, known[item.name], EigencodeError) == item.default
