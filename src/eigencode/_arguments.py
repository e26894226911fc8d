"""Whether arguments are what their annotations say: choices, numbers, texts, classes. Nothing heavy is imported here."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from eigencode.errors import EigencodeError

P = ParamSpec("P")
R = TypeVar("R")

LARGEST = 2**63 - 1
"""Whole numbers are 64 bits wide in torch and NumPy."""

RANGES = {
    "batch_size": (1, LARGEST),
    "batches": (1, LARGEST),
    "classes": (1, 100_000),
    "count": (1, LARGEST),
    "draws": (1, LARGEST),
    "epochs": (1, LARGEST),
    "every": (1, LARGEST),
    "half_samples": (0, 10_000),
    "held_out_count": (1, LARGEST),
    "image_shape": (1, 16_384),
    "image_size": (1, 16_384),
    "measure_every": (1, LARGEST),
    "probe": (0, LARGEST),
    "projections": (1, 10_000),
    "recording_components": (1, LARGEST),
    "restarts": (1, LARGEST),
    "schedule_epochs": (1, LARGEST),
    "seed": (0, LARGEST),
    "seeds": (1, 10_000),
    "shuffles": (1, 10_000),
    "size": (1, 16_384),
    "stack": (1, LARGEST),
    "start": (0, LARGEST),
    "steps": (1, LARGEST),
    "test_count": (1, LARGEST),
    "train_count": (1, LARGEST),
}
"""Least and largest of whole numbers whose name means the same everywhere: what is above would fill any memory."""

_LONGEST, _FLOAT32 = 80, 3.4e38

_DEVICE = re.compile(r"(cpu|cuda|hpu|mps|xla|xpu)(:\d{1,3})?")


def checked(error: type[EigencodeError], *, options: type | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator of functions and methods whose arguments are held against their annotations before anything is done.

    Args:
        error: Class of what is raised, in one sentence that names function, parameter and value.
        options: Dataclass whose fields are the keywords that the function takes as ``**options``; its signature shows them.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        owner = re.sub(r"\.(__init__|__call__|forward)$", "", function.__qualname__)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            signature, hints = _declared(function, options)
            try:
                given = signature.bind_partial(*args, **kwargs)
            except TypeError as wrong:
                if options:
                    raise TypeError(f"{owner}() {wrong}") from None
                return function(*args, **kwargs)  # which Python words itself
            for name, value in given.arguments.items():
                kind, hint = signature.parameters[name].kind, hints.get(name, Any)
                if kind is inspect.Parameter.VAR_KEYWORD:
                    given.arguments[name] = {own: check(owner, own, each, hint, error) for own, each in value.items()}
                elif kind is not inspect.Parameter.VAR_POSITIONAL:
                    given.arguments[name] = check(owner, name, value, hint, error)
            return function(*given.args, **given.kwargs)

        if options:
            vars(call)["__signature__"] = _signature(function, options)
        return call

    return decorate


def check_fields(instance: Any, error: type[EigencodeError], *, owner: str | None = None, choices_only: bool = False) -> None:
    """Holds the fields of a dataclass against their annotations; called first in ``__post_init__``.

    Args:
        instance: Instance of the dataclass.
        error: Class of what is raised.
        owner: What sentences begin with. Default: name of the class; "" for nothing.
        choices_only: Leave numbers alone: of results, which may be NaN.
    """
    kind: Any = type(instance)
    for name, (hint, default) in _hints(kind).items():
        given = getattr(instance, name)
        if given is default or (choices_only and not choices_of(hint)):
            continue
        if (value := check(kind.__name__ if owner is None else owner, name, given, hint, error)) is not given:
            object.__setattr__(instance, name, value)


def check(owner: str, name: str, value: Any, hint: Any, error: type[EigencodeError], *, written: str | None = None) -> Any:
    """Refuses a value that is not what an annotation says, a whole number out of its range, and masked entries.

    Args:
        owner: What the sentence begins with.
        name: Name of the parameter.
        value: What was given.
        hint: Its annotation.
        error: Class of what is raised.
        written: The name as the sentence writes it. Default: in backticks.

    Returns:
        The value; a whole number of NumPy as Python's own, which seeds and JSON want.
    """
    start = f"{owner}: " * bool(owner) + (written or f"`{name}`")
    if masked := _masked(value):
        raise error(f"{start} has {masked} masked entries, which would be read as numbers. Fill or remove them.")
    if kind := _not_dense(value):
        raise error(f"{start} must be a dense tensor; got {kind}. Convert it.")
    if name != "output" and getattr(value, "is_meta", False):  # of outputs, the sizes may be all that is asked for
        raise error(f"{start} must be a tensor with data; got one on the meta device. Create it on a real device.")
    if not fits(value, hint):
        raise error(f"{start} must be {_in_words(hint)}; got {shown(value)}.{_meant(value, hint)}")
    if _is_whole(value):
        least, largest = RANGES.get(name, (-LARGEST, LARGEST))
        if not least <= value <= largest:
            limit = f"at least {least}" if value < least else f"at most {largest}"
            raise error(f"{start} must be {limit}; got {shown(value)}.")
        return int(value)
    if name == "device" and isinstance(value, str) and not _DEVICE.fullmatch(value):
        raise error(f"{start} must be cpu, cuda, or one of several such as cuda:1; got {shown(value)}.")
    if isinstance(value, tuple) and name == "image_shape":
        return tuple(check(owner, name, each, Any, error, written=written) for each in value)
    if isinstance(value, Real) and _is_finite(value) and abs(float(value)) > _FLOAT32:
        raise error(f"{start} must lie within ±3.4e38, the range of float32; got {shown(value)}.")
    return value


def choices_of(hint: Any) -> tuple[Any, ...]:
    """The values of all Literals of an annotation."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(choice for part in get_args(hint) for choice in choices_of(part))


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is what an annotation says; of annotations that are not understood, any is."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if _is_array(value) and value.dtype.kind not in "biufc":  # of texts or objects
        return False
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is tuple:
        return isinstance(value, (tuple, list)) and _all_fit(value, parts)
    if origin in (Sequence, Iterable, list):
        return _is_list(value, parts[0]) and not (origin is Sequence and isinstance(value, (set, frozenset)))
    if origin is Callable:
        return callable(value)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and all(fits(each, parts[1]) for each in value.values())
    if hint in _SCALARS:
        return bool(_SCALARS[hint](value))
    return not inspect.isclass(hint) or _is_of(value, hint)


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of a class, or does what a protocol says, which a class itself does not."""
    if getattr(kind, "_is_protocol", False) and (isinstance(value, type) or not getattr(kind, "_is_runtime_protocol", False)):
        return not isinstance(value, type)
    if hasattr(kind, "array_type"):  # of jaxtyping, whose shapes are checked in tests
        return (
            isinstance(value, kind.array_type)
            or _is_array(value)
            or (isinstance(value, (list, tuple)) and _is_list(value, float))
        )
    return isinstance(value, os.PathLike if issubclass(kind, os.PathLike) else kind)


def _all_fit(values: Any, parts: tuple[Any, ...]) -> bool:
    if parts[-1] is not Ellipsis:
        return len(values) == len(parts) and all(map(fits, values, parts))
    return all(fits(value, parts[0]) for value in values)


def _is_list(value: Any, part: Any) -> bool:
    """Whether values can be taken one by one: numbers from a list, range, set or array; iterators are not used up."""
    numbers = part in (int, float)
    if hasattr(value, "tolist"):
        value = None if _not_dense(value) else value.tolist()
    if isinstance(value, (list, tuple, range)) or (numbers and isinstance(value, (set, frozenset))):
        return all(fits(each, part) for each in value)
    return isinstance(value, Iterable) and not numbers and not isinstance(value, (str, bytes, Mapping, set, frozenset))


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool"


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not _is_switch(value)


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, Real) and not _is_switch(value) and math.isfinite(value)
    except OverflowError:
        return False


_SCALARS: dict[Any, Callable[[Any], bool]] = {
    bool: _is_switch,
    int: _is_whole,
    float: _is_finite,
    str: lambda value: isinstance(value, str),
    NoneType: lambda value: value is None,
}

_WORDS = {bool: "True or False", int: "a whole number", float: "a finite number", str: "a text", NoneType: "None"}

_CLASSES = {
    "Attack": "an attack",
    "DataLoader": "a DataLoader",
    "Dataset": "a Dataset",
    "ImageSet": "an ImageSet(inputs, labels)",
    "LayerAttack": "a LayerAttack",
    "Module": "a torch.nn.Module (see eigencode.models.load)",
    "Path": "a path",
    "Tensor": "a tensor",
    "TokenSet": "a TokenSet",
    "ndarray": "an array",
}


def _in_words(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_in_words(part) for part in parts))
    if origin and Any in parts and origin in (tuple, dict, Mapping, Sequence, Iterable, list):
        return {tuple: "a tuple", dict: "a mapping", Mapping: "a mapping"}.get(origin, "a list")
    if origin is tuple and parts[-1] is Ellipsis:
        return f"a tuple, each part {_in_words(parts[0])}"
    if origin is tuple:
        return f"a tuple of {len(parts)}, each part {_in_words(parts[0])}"
    if origin in (Sequence, Iterable, list):
        return f"a list, each part {_in_words(parts[0])}"
    if origin is Callable:
        return "a callable"
    if origin in (dict, Mapping):
        return f"a mapping, each value {_in_words(parts[1])}"
    if hasattr(hint, "array_type"):
        return "a tensor or an array"
    name = getattr(hint, "__name__", str(hint))
    return _WORDS.get(hint) or _CLASSES.get(name, f"of class {name}")


def _meant(value: Any, hint: Any) -> str:
    if isinstance(value, type):
        return f" Pass an instance: {value.__name__}(...)."
    for method in ("to_numpy", "toarray"):  # tables, and SciPy's sparse matrices
        if callable(getattr(value, method, None)):
            return f" Pass .{method}() of it."
    close = difflib.get_close_matches(value.lower(), map(str, choices_of(hint)), n=1) if isinstance(value, str) else []
    return f" Did you mean {close[0]!r}?" if close else ""


def shown(value: Any) -> str:
    """A value in a sentence: itself if it is short and plain, else its class."""
    if _is_array(value):
        return f"an array of {value.dtype}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if not isinstance(value, (str, int, float, tuple, list, dict, NoneType)):
        return type(value).__name__
    if isinstance(value, int) and abs(value) > 10**_LONGEST:
        return "a number of more than 80 digits"
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return bool(numpy and isinstance(value, numpy.ndarray))


def _not_dense(value: Any) -> str:
    """What kind of tensor it is, if it is not dense; empty for all else."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return ""
    return "a nested tensor" if value.is_nested else "a sparse tensor" if value.layout != torch.strided else ""


def _masked(value: Any) -> int:
    """Masked entries of a NumPy array; 0 of anything else."""
    numpy = sys.modules.get("numpy")
    return int(numpy.ma.count_masked(value)) if numpy and isinstance(value, numpy.ma.MaskedArray) else 0


@functools.cache
def _declared(function: Callable[..., Any], options: type | None) -> tuple[inspect.Signature, dict[str, Any]]:
    known = get_type_hints(function)
    if options:
        known |= {name: hint for name, (hint, _) in _hints(options).items()}
    return _signature(function, options), known


def _signature(function: Callable[..., Any], options: type | None) -> inspect.Signature:
    """Of a function, with the fields of a dataclass in place of ``**options``."""
    signature = inspect.signature(function)
    if options is None:
        return signature
    *own, _ = signature.parameters.values()
    fields = dataclasses.fields(options)
    return signature.replace(
        parameters=own
        + [
            inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=each.type)
            for each in fields
        ]
    )


@functools.cache
def _hints(kind: type) -> dict[str, tuple[Any, Any]]:
    """Name -> annotation and default of the fields of a dataclass."""
    known = get_type_hints(kind)
    return {item.name: (known[item.name], item.default) for item in dataclasses.fields(kind)}
