"""Studies in and out of YAML, and fields overridden by name; types and names are checked."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from jsonargparse import ArgumentError

from eigencode._arguments import checked, shown
from eigencode._grammar import is_range, numbers_in
from eigencode._parsing import Parser, misread
from eigencode._readers.yaml import dump_yaml, load_yaml, read_yaml
from eigencode._wording import plain_message
from eigencode.errors import EigencodeError, FileError, StudyError
from eigencode.studies.cell import CellConfig, field_of, full_name, with_field
from eigencode.studies.definition import MOST_CELLS, Study


def to_yaml(study: Study) -> str:
    """The study as YAML text that ``from_yaml`` reads."""
    return dump_yaml(_plain(_as_dict(study)))


def _as_dict(study: Study) -> dict[str, Any]:
    values = dataclasses.asdict(dataclasses.replace(study, paper=None))
    del values["paper"]
    return values


def read_study(path: Path) -> Study:
    """A study from a YAML file, of no paper.

    Raises:
        StudyError: the file cannot be read, or has unknown fields or values of the wrong type.
    """
    try:
        given = read_yaml(path)
    except FileError as error:
        raise StudyError(str(error)) from None
    except yaml.MarkedYAMLError as error:
        place = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise StudyError(f"{path}{place}: {error.problem}. Compare with: eigencode study show demo") from None
    except yaml.YAMLError:
        raise StudyError(f"{path} is not a YAML file. Write one with: eigencode study show NAME") from None
    if not isinstance(given, dict):
        raise StudyError(f"{path} holds no study. Write one with: eigencode study show NAME")
    blocks = given.get("blocks")
    for block in blocks if isinstance(blocks, list) else ():
        if isinstance(block, dict) and isinstance(block.get("seeds"), int):
            block["seeds"] = _seeds(block["seeds"], str(path))
    return _checked(given, str(path))


@checked(StudyError)
def overridden(study: Study, words: str) -> Study:
    """A study with fields changed in every block.

    Args:
        study: Study.
        words: ``field=value`` separated by spaces: a field of the plan (training.epochs=3), ``seeds=5`` (a number of seeds) or
            ``grid.member.target=1,2,3``, or ``0.5:3:0.5``. A field that the grid varies is fixed. Short names are read too: see
            ``full_name``.

    Returns:
        Study, of the scale "own".

    Raises:
        StudyError: no such field, or a value of the wrong type.
    """
    blocks = [dataclasses.asdict(block) for block in study.blocks]
    for word in split_words(words, "--set"):
        name, equals, text = word.partition("=")
        try:
            value = load_yaml(text)
        except yaml.YAMLError:
            equals = ""
        if not equals or not text:
            raise StudyError(f"--set takes field=value, such as training.epochs=3; got {word!r}.")
        for block in blocks:
            if name == "seeds":
                block["seeds"] = _seeds(value, "--set") if isinstance(value, int) else _values(value)
            elif name.startswith("grid."):
                block["grid"][full_name(name.removeprefix("grid."))] = _values(value)
            else:
                name = full_name(name)
                if isinstance(value, str) and "," in value and isinstance(field_of(block["plan"], name), (int, float)):
                    raise StudyError(f"--set: {name} takes one value; got {text}. For several: grid.{name}={text}")
                _put(block["plan"], name, value)
                block["grid"].pop(name, None)
    changed = _checked({**_as_dict(study), "scale": "own", "blocks": blocks}, "--set")
    changed.cells()  # refuses a grid without any
    return dataclasses.replace(changed, paper=study.paper)


def split_words(text: str, option: str) -> list[str]:
    """Words as a shell splits them.

    Raises:
        StudyError: a quotation that does not end.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise StudyError(f"{option}: {text!r} cannot be read ({str(error).lower()}).") from None


def _seeds(count: int, source: str) -> list[int]:
    """As many seeds as were asked for.

    Raises:
        StudyError: none, or more than a study has cells.
    """
    if isinstance(count, bool) or not 0 <= count <= MOST_CELLS:  # none is a grid without cells
        raise StudyError(
            f"{source}: `seeds` must be a number of seeds from 1 to {MOST_CELLS}, or a list of them; got {shown(count)}."
        )
    return list(range(count))


def _values(value: Any) -> list[Any]:
    """One value or several: of a list, or of a text with commas and ranges of numbers (first:last:step)."""
    if isinstance(value, str):
        try:
            return [each for part in value.split(",") for each in (_range(part) if is_range(part) else [load_yaml(part)])]
        except (yaml.YAMLError, RecursionError, ValueError):
            raise StudyError(
                f"--set takes values separated by commas, such as 1,2, or first:last:step; got {shown(value)}."
            ) from None
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _numbers(value: Any) -> Any:
    """Several numbers in a text as a list of them; all else as it is."""
    try:
        return _range(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else value
    except ValueError:
        return value


def _range(text: str | float) -> list[int | float]:
    return [int(number) if number.is_integer() else number for number in numbers_in(text)]


def _put(values: Any, name: str, value: Any, *, free: bool = False) -> None:
    first, _, rest = name.partition(".")
    if rest and isinstance(values, (list, tuple)) and all("kind" in each for each in values):
        own = [each for each in values if each["kind"] == first]  # perturbations have their kind for a name
        if values and not own:
            raise StudyError(f"--set: no perturbation is {first!r} here; there are {', '.join(each['kind'] for each in values)}.")
        for each in own:
            _put(each, rest, value)
        return
    if not isinstance(values, dict):
        raise StudyError(f"--set: there is no field {name!r} within a value. Set the whole field.")
    if first not in values and not free:
        raise StudyError(f"--set: a study has no field {name!r} here; there are {', '.join(values)}.")
    if rest:
        _put(values[first], rest, value, free=first == "options")
    else:
        values[first] = _numbers(value) if isinstance(values.get(first), (list, tuple)) else value


_CHECKED: dict[tuple[str, str], Study] = {}
"""What was found right before: a command reads its study more than once."""

_MOST_CHECKED = 16


def _checked(given: dict[str, Any], source: str) -> Study:
    """The study of these values, whose names, types and limits are checked."""
    given = _with_full_names(given, source)
    known = repr(given), source
    if known not in _CHECKED:
        study = _newly_checked(given, source)
        if len(_CHECKED) == _MOST_CHECKED:
            _CHECKED.clear()
        _CHECKED[known] = study
    return _CHECKED[known]


def _newly_checked(given: dict[str, Any], source: str) -> Study:
    study = _parsed(given, source)
    blocks = []
    for number, block in enumerate(study.blocks):
        grid = {
            name: tuple(_typed(block.plan, name, value, f"{source}: blocks[{number}].grid.{name}") for value in values)
            for name, values in block.grid.items()
        }
        blocks.append(dataclasses.replace(block, grid=grid))
    return dataclasses.replace(study, blocks=tuple(blocks))


def _with_full_names(given: dict[str, Any], source: str) -> dict[str, Any]:
    """A study whose grids have the dotted names of fields, and whose fields have the names of this version."""
    blocks = given.get("blocks")
    for block in blocks if isinstance(blocks, (list, tuple)) else ():
        if isinstance(block, dict) and isinstance(block.get("grid"), dict):
            block["grid"] = _renamed(block["grid"], "", source)
        plan = block.get("plan") if isinstance(block, dict) else None
        if isinstance(plan, dict) and isinstance(plan.get("member"), dict):
            plan["member"] = _renamed(plan["member"], "member.", source)
    return given


def _renamed(values: dict[str, Any], prefix: str, source: str) -> dict[str, Any]:
    names = {name: full_name(f"{prefix}{name}").removeprefix(prefix) for name in values}
    if len(set(names.values())) < len(names):
        twice = next(name for name, full in names.items() if list(names.values()).count(full) > 1)
        raise StudyError(f"{source}: {twice} and {prefix}{names[twice]} are one field. Give one of them.")
    return {names[name]: value for name, value in values.items()}


def _typed(plan: CellConfig, name: str, value: Any, source: str) -> Any:
    """A value of the grid as its field takes it, such as a tuple for a list.

    Raises:
        StudyError: no such field, or a value of the wrong type.
    """
    owner, _, last = name.rpartition(".")
    part = field_of(plan, owner) if owner else plan
    try:
        if not isinstance(part, Mapping):
            with_field(plan, name, field_of(plan, name))  # the field is there
            if dataclasses.is_dataclass(getattr(part, last)):
                raise StudyError(f"expected fields and their values; got {shown(value)}. Name each field.")
            if value is None and field_of(CellConfig(), name) is not None:
                raise StudyError("expected a value; got null. Leave it out for the default.")
            for _, text in misread(type(part), {last: value}):
                raise StudyError(f"expected a decimal number; got {text}.")
            parser = Parser(exit_on_error=False)
            parser.add_argument("--value", type=get_type_hints(type(part))[last])
            value = parser.parse_object({"value": _plain(value)}).value
        with_field(plan, name, value)  # a value that the field may have
    except (ArgumentError, TypeError) as error:
        raise StudyError(f"{source}: {plain_message(str(error))[1]}") from None
    except EigencodeError as error:
        raise StudyError(f"{source}: {error}") from None
    return value


def _parsed(given: dict[str, Any], source: str) -> Study:
    for block in given["blocks"] if isinstance(given.get("blocks"), (list, tuple)) else ():
        if (
            nulls := [name for name, value in block.items() if value is None and name != "plan"]
            if isinstance(block, dict)
            else ()
        ):
            raise StudyError(f"{source}: blocks.{nulls[0]}: expected a value; got null. Leave it out for the default.")
        plan = block.get("plan") if isinstance(block, dict) else None
        for name, value in _no_groups(plan, CellConfig()):
            raise StudyError(f"{source}: blocks.plan{name}: expected fields and their values; got {value!r}. Name each field.")
        for name, text in misread(CellConfig, plan):
            raise StudyError(f"{source}: blocks.plan.{name}: expected a decimal number; got {text}.")
        for name in _nulls(plan or {}):
            if field_of(CellConfig(), name) is not None:
                raise StudyError(f"{source}: blocks.plan.{name}: expected a value; got null. Leave it out for the default.")
    parser = Parser(exit_on_error=False)
    parser.add_class_arguments(Study, skip={"paper"})
    try:
        return Study(**vars(parser.instantiate(parser.parse_object(_plain(given)))))
    except (ArgumentError, TypeError) as error:
        place, what = plain_message(str(error))
        raise StudyError(": ".join(filter(None, (source, place, what)))) from None
    except EigencodeError as error:
        raise StudyError(f"{source}: {error}") from None


def _no_groups(values: Any, default: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of what stands in place of a group of fields, which a parser would take for its defaults."""
    if values is None or not dataclasses.is_dataclass(default):
        return
    if not isinstance(values, dict):
        yield name, values
        return
    for item in dataclasses.fields(default):
        yield from _no_groups(values.get(item.name), getattr(default, item.name), f"{name}.{item.name}")


def _nulls(values: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of what is null."""
    for name, value in values.items() if isinstance(values, dict) else ():
        if value is None:
            yield f"{prefix}{name}"
        yield from _nulls(value, f"{prefix}{name}.")


def _plain(value: Any) -> Any:
    """Tuples as lists, for YAML."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
