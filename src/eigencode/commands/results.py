"""``eigencode results``."""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from eigencode._files import replacing, stamp
from eigencode._grammar import number_in
from eigencode._text import for_spreadsheet
from eigencode.commands.choosing import chosen_study, refuse_none, say_failed
from eigencode.commands.options import ResultsConfig
from eigencode.commands.parsing import parse_names, parse_ranks
from eigencode.commands.progress import tell
from eigencode.errors import DiskError, UsageError
from eigencode.reports import print_rows
from eigencode.reports.study_tables import varied_columns
from eigencode.studies import Store, Study, StudyResults
from eigencode.studies.results.statistics import half_width
from eigencode.studies.yaml import split_words

_SHOWN = 40

_LONGEST_LINE = 2**16

_VALUES = 12

_PAIRED = ("seed", "layer", "perturbation", "strength", "quantity")


def run(config: ResultsConfig) -> None:
    """Filters, groups, prints and exports."""
    if config.export and Path(config.export).suffix not in (".csv", ".parquet"):
        raise UsageError(f"--export must be a .csv or .parquet file; got {config.export}.")
    if config.export:
        _refuse_others(Path(config.export))
    study, store = chosen_study(config), Store(config.store, make=False)
    ranks = parse_ranks(config.ranks) if config.ranks else None
    evidence = StudyResults(store, study.cells())
    refuse_none(evidence, config, study, store)
    say_failed(study, store)
    rows = evidence.over(ranks).rows if ranks else evidence.rows
    if not config.all_epochs:
        rows = rows[rows["epoch"] == rows.groupby("cell")["epoch"].transform("max")]
    rows = rows.assign(target=rows["target"].where(rows["beta"] > 0))  # a network without the penalty has no target
    if config.against:
        rows, alone = compared(rows, config.against, config.where, all_epochs=config.all_epochs)
        if alone:
            tell(
                f"{alone} rows are left out: {config.against} has none of the same seed that agree with them in all else. Name "
                "what may differ in --against, too.",
            )
    else:
        rows = filtered(rows, config.where)
    table = grouped(rows, config.group, intervals=bool(config.against))
    if pooled := averaged_over(rows, config.group):
        tell(f"Averaged over {pooled}: name them in --group, or choose one of each with --where.")
    if config.json:
        values: list[dict[Any, Any]] = json.loads(table.to_json(orient="records"))
        print(json.dumps(values, indent=2))
    else:
        _print(config, study, evidence, table)
    if config.export:  # last, so that an interruption before it can say that nothing was written
        _export(table, Path(config.export))


def _print(config: ResultsConfig, study: Study, evidence: StudyResults, table: pd.DataFrame) -> None:
    follow = {name for name in table if "." in str(name)} - set(varied_columns(evidence.cells))
    hidden: set[Any] = {"cell", "network", *follow} - set(_names(config.group))
    table = table.drop(columns=[name for name in table if name in hidden])
    constant = [name for name in table if len(table) > 1 and table[name].nunique(dropna=False) == 1 and name != "value"]
    shown = table.drop(columns=constant).head(_SHOWN).map(_text)
    more = f" (the first {_SHOWN} shown; --export writes all)" if len(table) > _SHOWN else ""
    title = f"{study.name} ({study.scale})" + (f", less {config.against} of the same seed" if config.against else "")
    print_rows(shown, title=f"{title}: {len(table)} rows{more}")
    constants = [name for name in constant if pd.notna(table[name].iloc[0])]
    if constants:
        tell("All rows: " + ", ".join(f"{name} {table[name].iloc[0]}" for name in constants))


def compared(rows: pd.DataFrame, against: str, where: str = "", *, all_epochs: bool = False) -> tuple[pd.DataFrame, int]:
    """Rows of networks less those of the ones that they are compared with, and how many have none.

    A pair has the same seed, layer, perturbation, strength and quantity (and epoch, where all are there), and agrees in every
    other column but those that are named, that follow from them, or that the networks compared with have not.

    Args:
        rows: Results.
        against: Conditions that the networks compared with meet.
        where: Conditions that the rows meet from which these are taken.
        all_epochs: Whether rows are of every epoch, not of each network's last.

    Raises:
        UsageError: no such networks, none beside them, or several for one row.
    """
    reference = filtered(rows, against, "--against")
    others = filtered(rows.drop(reference.index), where)
    if others.empty:
        raise UsageError(
            f"--against: there are no rows but those of {against}. Name the networks to compare with, such as beta=0."
        )
    named = [word.partition("=")[0] for word in split_words(against, "--against")]
    if "seed" in named:
        raise UsageError("--against: seeds are what is paired. Name networks by other columns, such as beta=0.")
    both = pd.concat([reference, others])
    fixed = [*_PAIRED, *(["epoch"] if all_epochs else [])]
    differing = [name for name in rows if name not in {*fixed, *named, "epoch", "cell", "network", "value"}]
    most = both.groupby(named, dropna=False)[differing].nunique(dropna=False).max()
    own = [name for name, count in most.items() if count > 1 and reference[name].notna().any()]
    keys = [name for name in [*fixed, *own] if name not in named]
    if reference.duplicated(keys).any():
        raise UsageError(f"--against: several networks of one seed have {against}. Name more of their columns.")
    pairs = others.merge(reference[[*keys, "value"]], on=keys, suffixes=("", "_reference"))
    pairs["value"] -= pairs.pop("value_reference")
    return pairs, len(others) - len(pairs)


def filtered(rows: pd.DataFrame, where: str, option: str = "--where") -> pd.DataFrame:
    """Rows that meet all conditions ``column=value,value``.

    Raises:
        UsageError: no such column, or no condition.
    """
    for word in split_words(where, option):
        name, equals, text = word.partition("=")
        columns = f"Columns are {', '.join(list[Any](rows))}."
        if not equals:
            raise UsageError(f"{option} takes column=value; got {word!r}. {columns}")
        if name not in rows:
            raise UsageError(f"{option}: there is no column {name!r}. {columns}")
        column, chosen = rows[name], pd.Series(False, index=rows.index)
        for value in text.split(","):
            equal = _equal(column, value, option)
            if not equal.any() and len(rows):
                there = ", ".join(_text(other) for other in sorted(column.dropna().unique())[:_VALUES])
                raise UsageError(f"{option}: no row has {name} {value!r}. There are {there}. Spaces stand between conditions.")
            chosen |= equal
        rows = rows[chosen]
    return rows


def _equal(column: pd.Series, text: str, option: str) -> pd.Series:
    """Which values a word means: that one, or a fraction as it is shown."""
    if not pd.api.types.is_numeric_dtype(column):
        return column == text
    try:
        value = number_in(text)
    except ValueError:
        raise UsageError(f"{option}: {column.name} is a number; got {text!r}.") from None
    equal = column == value
    return equal if equal.any() or value.is_integer() else column.map(_text) == _text(value)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def averaged_over(rows: pd.DataFrame, group: str) -> str:
    """Columns that rows of one group differ in, beside networks' seeds, with their numbers of values; empty if there are none."""
    names = [*_names(group), "quantity"]
    if not _names(group) or rows.empty:
        return ""
    last = ["epoch"] if rows.groupby("cell")["epoch"].nunique().max() == 1 else []  # of each network, its last
    others = [name for name in rows if name not in (*names, *last, "seed", "cell", "network", "value")]
    numbers = rows.groupby(list(dict.fromkeys(names)), dropna=False)[others].nunique(dropna=False).max()
    return ", ".join(f"{name} ({count} values)" for name, count in numbers.items() if count > 1)


def _names(group: str) -> list[str]:
    return parse_names(group, "group") if group else []


def grouped(rows: pd.DataFrame, group: str, *, intervals: bool = False) -> pd.DataFrame:
    """Mean, standard deviation and count over what is not named; the rows themselves if nothing is.

    Args:
        rows: Results.
        group: Columns, separated by commas.
        intervals: Give the mean's Student interval of level 0.95 too, where each seed is there once.

    Returns:
        Table with one row per group and quantity.

    Raises:
        UsageError: no such column.
    """
    names = _names(group)
    if not names:
        return rows
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise UsageError(f"--group: there is no column {unknown[0]!r}. Columns are {', '.join(list[Any](rows))}.")
    keys = [*names, *(["quantity"] if "quantity" not in names else [])]
    groups = rows.groupby(keys, dropna=False, sort=False)
    table = groups["value"].agg(mean="mean", sd="std", count="count")
    if intervals:
        once = groups["seed"].nunique() == groups.size()
        half = half_width(table["sd"], table["count"])
        table.insert(1, "low", (table["mean"] - half).where(once))
        table.insert(2, "high", (table["mean"] + half).where(once))
    return table.reset_index().sort_values(keys, key=_order, ignore_index=True)


def _order(column: pd.Series) -> pd.Series:
    """Numbers by size; words, such as layers, as they first come."""
    return column if pd.api.types.is_numeric_dtype(column) else pd.Series(pd.factorize(column)[0], index=column.index)


def _refuse_others(path: Path) -> None:
    """Refuses to replace a file that no export has written, which would be lost.

    Raises:
        UsageError: it has no column "quantity", as all exports have.
    """
    if not os.path.exists(path):
        return
    names: list[str] = []
    with contextlib.suppress(OSError, ValueError, pa.ArrowException):
        if os.path.isfile(path) and path.suffix == ".parquet":
            names = pq.read_schema(path).names
        elif os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                names = file.readline(_LONGEST_LINE).strip().split(",")
    if "quantity" not in names:
        raise UsageError(f"--export: {path} already exists and is not an export of results. Name another file, or remove it.")


def _export(table: pd.DataFrame, path: Path) -> None:
    earlier = stamp(path)
    try:
        with replacing(path) as new:
            for_spreadsheet(table).to_csv(new, index=False) if path.suffix == ".csv" else table.to_parquet(new, index=False)
    except DiskError as error:
        raise DiskError(f"--export: {error}") from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{path} is written." if stamp(path) != earlier else "") from None
    tell(f"{len(table)} rows: {path}")
