"""``eigencode attack``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from eigencode.attacks import by_name
from eigencode.commands.common import measuring_settings, network_title, results_folder
from eigencode.commands.inputs import load_both, load_images
from eigencode.commands.options import AttackConfig
from eigencode.commands.parsing import parse_names, parse_numbers, parse_ranks
from eigencode.commands.progress import progress_bar, tell
from eigencode.datasets import ImageSet
from eigencode.errors import AttackError, SpectrumError, UsageError
from eigencode.measurement.perturbed import UNPERTURBED, Condition, PerturbedSpectra, perturbed_spectra
from eigencode.perturbations import PrincipalComponents
from eigencode.perturbations.specification import kind_of
from eigencode.reports import (
    plot_accuracy_against_alpha,
    plot_examples,
    plot_overlaid_spectra,
    plot_response,
    print_table,
    write_report,
)
from eigencode.reports.records import PerturbationRecord
from eigencode.spectra.window import Window

COMPONENTS_FILE = "components.safetensors"


def run(config: AttackConfig) -> None:
    """Measures a network at every strength of every perturbation; prints the table or the record, and writes the report."""
    ranks, strengths, names = parse_ranks(config.ranks), parse_numbers(config.strengths, "strengths"), _names(config)

    @cache
    def components() -> PrincipalComponents:
        if config.components:
            return PrincipalComponents.load(config.components)
        return PrincipalComponents.fit(load_images(config, split="train"))

    try:
        perturbations = {name: by_name(name, config, components=components, seed=config.seed) for name in names}
    except AttackError as error:
        raise UsageError(str(error)) from None
    with results_folder(config) as folder:
        model, images = load_both(config)
        results = _results(config, (model, images), perturbations, strengths)
        fitted = components() if components.cache_info().currsize else None
        title = f"{network_title(config)} · {config.data} · {len(images)} images · {', '.join(names)}"
        _finish(config, results, ranks=ranks, title=title, components=fitted, folder=folder)


def _results(
    config: AttackConfig, attacked: tuple[nn.Module, ImageSet], perturbations: Mapping[str, Any], strengths: list[float]
) -> dict[str, PerturbedSpectra]:
    model, images = attacked
    results: dict[str, PerturbedSpectra] = {}
    baseline: Condition | None = None
    for name, perturbation in perturbations.items():
        with progress_bar(name) as progress:
            results[name] = perturbed_spectra(
                model,
                images,
                perturbation,
                strengths=strengths,
                mode=config.mode,
                probe=config.probe,
                name=name,
                baseline=baseline,
                progress=progress,
                **measuring_settings(config),
            )
        baseline = baseline or results[name].conditions[0]
    return results


def _names(config: AttackConfig) -> list[str]:
    given = config.perturbation
    names = parse_names(given if isinstance(given, str) else ",".join(given), "perturbation")
    at_layers = [name for name in names if (kind := kind_of(name)) and kind.at_layers]
    if at_layers and len(at_layers) < len(names):
        raise UsageError(
            f"attack: {at_layers[0]} is read at the layer that it attacks, other perturbations at the network's output. Run them "
            "one after the other."
        )
    return names


def _finish(
    config: AttackConfig,
    results: dict[str, PerturbedSpectra],
    *,
    ranks: Window,
    title: str,
    components: PrincipalComponents | None,
    folder: Path | None,
) -> None:
    conditions = _joined(results)
    tables = [found.summary(ranks) for found in results.values()]
    summary = pd.concat(tables).drop_duplicates(["condition", "layer"], ignore_index=True)
    spectra = {label: condition.spectra for label, condition in conditions.items()}
    record = PerturbationRecord(
        summary=summary,
        results=results,
        components=components,
        title=title,
        configuration=asdict(config),
        ranks=ranks,
        seed=config.seed,
        skipped={layer: reason for found in spectra.values() for layer, reason in found.skipped.items()},
        notes={layer: note for found in spectra.values() for layer, note in found.notes.items()},
    ).as_dict()
    if folder:
        page = write_report(
            folder,
            conditions=spectra,
            summary=summary,
            record=record,
            figures=_figures(results, summary, ranks),
            write_more=(lambda new: components.save(new / COMPONENTS_FILE)) if components else None,
        )
    if config.json:
        print(json.dumps(record, indent=2, allow_nan=False))
    else:
        print_table(summary, title=f"{title} (ranks {ranks.first}-{ranks.last}, weights {ranks.weights})")
    for note in record["notes"].values():
        tell(f"note: {note}.")
    for name, flag in record["flags"].items():
        tell(f"{name} ({', '.join(flag['conditions'])}): {flag['meaning']} {flag['remedy']}")
    for label, reason in record["failed"].items():
        tell(f"{label}: {reason}")
    if folder:
        tell(f"Report: {page}")
    if summary["alpha"].isna().all():
        raise SpectrumError(f"no exponent could be fitted: {summary['note'].iloc[0]}")


def _joined(results: dict[str, PerturbedSpectra]) -> dict[str, Condition]:
    """All conditions by their labels; the unperturbed one once."""
    joined: dict[str, Condition] = {}
    for found in results.values():
        for condition in found.conditions:
            joined.setdefault(condition.label, condition)
    return joined


def _figures(results: dict[str, PerturbedSpectra], summary: pd.DataFrame, window: Window) -> dict[str, Any]:
    figures: dict[str, Any] = {"response": plot_response(summary, baseline=UNPERTURBED)}
    if not all(math.isnan(value) for value in summary["accuracy"]):
        figures["accuracy_against_alpha"] = plot_accuracy_against_alpha(summary, baseline=UNPERTURBED)
    for name, found in results.items():
        part = name.replace(":", "_")
        spectra = {condition.label: condition.spectra for condition in found.conditions}
        figures[f"spectra_{part}"] = plot_overlaid_spectra(spectra, ranks=window, title=f"Eigenspectra: {name}")
        examples = {c.label: c.examples for c in found.conditions if c.examples is not None}
        if len(examples) > 1:
            figures[f"examples_{part}"] = plot_examples(examples, title=f"First images: {name}")
    return figures
