"""The command line: parse -> configuration -> library call -> record. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ActionConfigFile, ArgumentParser

from eigencode import __version__
from eigencode.configuration import DoctorConfig, MeasureConfig
from eigencode.errors import EigencodeError, ModelError, SpectrumError

if TYPE_CHECKING:
    from torch import nn

    from eigencode.datasets import ImageSet
    from eigencode.measurement import Measurement, Progress
    from eigencode.spectra import CrossValidatedSpectrum, Eigenspectrum
    from eigencode.spectra.power_law import Ranks

EXIT_FAILURE, EXIT_INTERRUPTED = 1, 130

_SWITCHES = ("json", "overwrite")


def build_parser() -> ArgumentParser:
    """Parser of all commands, made from their configuration classes."""
    parser = ArgumentParser(
        prog="eigencode",
        description="Measures the eigenspectrum of neural codes: how fast variance decays, layer by layer.",
        version=__version__,
    )
    commands = parser.add_subcommands(required=True, dest="command", metavar="COMMAND")
    for name, (config, _) in _COMMANDS.items():
        lines = (config.__doc__ or "").split("\n\n")[0]
        sub = ArgumentParser(description=lines)
        sub.add_argument("--config", action=ActionConfigFile, help="YAML file with any of the options below.")
        sub.add_class_arguments(config, nested_key=None)
        commands.add_subcommand(name, sub, help=lines)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: Words of the command line; default: those of the process.

    Returns:
        Exit status: 0, or 1 for a failure (usage errors exit with 2 before).
    """
    words = _normalised(sys.argv[1:] if arguments is None else arguments)
    options = build_parser().parse_args(words)
    config_class, run = _COMMANDS[options.command]
    values = {key: value for key, value in vars(options[options.command]).items() if key != "config"}
    try:
        run(config_class(**values))
    except EigencodeError as error:
        print(f"eigencode: {error}", file=sys.stderr)
        return EXIT_FAILURE
    except KeyboardInterrupt:
        print("eigencode: interrupted; nothing was written.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _normalised(words: Sequence[str]) -> list[str]:
    """--data-root is --data_root, and a bare --json is --json=true."""
    normalised = []
    for position, word in enumerate(words):
        following = words[position + 1] if position + 1 < len(words) else ""
        if word.startswith("--"):
            flag, equals, value = word[2:].partition("=")
            word = f"--{flag.replace('-', '_')}{equals}{value}"
            if flag in _SWITCHES and not equals and following not in ("true", "false"):
                word += "=true"
        normalised.append(word)
    return normalised


def _ranks(text: str) -> Ranks:
    match = re.fullmatch(r"\s*[(\[]?\s*(\d+)\s*[-–,:]\s*(\d+)\s*[)\]]?\s*", text)
    return (int(match[1]), int(match[2])) if match else text


def _measure(config: MeasureConfig) -> None:
    import pandas as pd

    from eigencode.measurement import summary_row
    from eigencode.records import measurement_record
    from eigencode.reports import check_folder, write_report
    from eigencode.spectra import resolve_window

    ranks = _ranks(config.ranks)
    resolve_window(ranks)
    if config.out:
        check_folder(Path(config.out), overwrite=config.overwrite)
    if config.model is None and config.recording is None:
        raise ModelError("measure: there is nothing to measure. Name a network with --model, or a recording with --recording.")
    recording = _recording_spectrum(config) if config.recording else None
    conditions = dict(_measurements(config)) if config.model else {}
    rows = [
        {"condition": condition, **summary_row(spectrum, ranks)}
        for condition, spectra in conditions.items()
        for spectrum in spectra.values()
    ]
    if recording is not None:
        rows.append({"condition": "recording", **summary_row(recording, ranks)})
    summary = pd.DataFrame(rows)
    recorded = None
    if recording is not None:
        recorded = {"file": config.recording, "neurons": recording.n_features, "stimuli": recording.n_samples}
    skipped = {
        (f"{spec}/{layer}" if len(conditions) > 1 else layer): reason
        for spec, spectra in conditions.items()
        for layer, reason in spectra.skipped.items()
    }
    record = measurement_record(
        summary,
        title=_title(config, conditions),
        configuration=asdict(config),
        ranks=ranks,
        seed=config.seed,
        skipped=skipped,
        recording=recorded,
    )
    page = None
    if config.out:
        page = write_report(Path(config.out), conditions=conditions, summary=summary, record=record, recording=recording)
    _print_results(config, summary, record, skipped)
    if page:
        print(f"Report: {page}", file=sys.stderr)
    if summary["alpha"].isna().all():
        raise SpectrumError(f"no exponent could be fitted: {summary['note'].iloc[0]}")


def _title(config: MeasureConfig, conditions: dict[str, Measurement]) -> str:
    parts = [config.model, config.data] if config.model else []
    parts += [f"{spectrum.n_images} images" for spectra in conditions.values() for spectrum in spectra.values()][:1]
    return " · ".join([*(part for part in parts if part), *([config.recording] if config.recording else [])])


def _measurements(config: MeasureConfig) -> Iterator[tuple[str, Measurement]]:
    import torch

    from eigencode import datasets, models
    from eigencode.measurement import measure

    device = config.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"--device {device} cannot be used ({str(error).splitlines()[0]}). Choose another.") from None
    images = datasets.load(
        config.data,
        split=config.split,
        count=config.count,
        seed=config.seed,
        root=config.data_root,
        image_size=config.image_size,
    )
    assert config.model is not None
    for spec in models.expand(config.model):
        model = _load_model(spec, config, images)
        with _progress_bar(spec) as progress:
            spectra = measure(
                model,
                images,
                layers=[layer.strip() for layer in config.layers.split(",")],
                units=config.units,
                tokens=config.tokens,
                batch_size=config.batch_size,
                memory_limit=config.memory_limit,
                half_samples=config.half_samples,
                device=device,
                seed=config.seed,
                progress=progress,
            )
        yield spec, spectra


def _load_model(spec: str, config: MeasureConfig, images: ImageSet) -> nn.Module:
    from eigencode import models

    return models.load(spec, weights=config.weights, image_shape=images.shape, classes=config.classes, seed=config.seed)


def _recording_spectrum(config: MeasureConfig) -> Eigenspectrum | CrossValidatedSpectrum:
    from eigencode.datasets import load_recording
    from eigencode.spectra import Eigenspectrum, cvpca

    assert config.recording is not None
    recording = load_recording(config.recording, variable=config.recording_variable)
    if len(recording.responses) == 2:
        return cvpca(recording.responses, seed=config.seed, name=recording.name)
    return Eigenspectrum.from_activations(
        recording.responses[0], half_samples=config.half_samples, seed=config.seed, name=recording.name
    )


def _print_results(config: MeasureConfig, summary: Any, record: dict[str, Any], skipped: dict[str, str]) -> None:
    from eigencode.reports import print_table

    if config.json:
        print(json.dumps(record, indent=2, allow_nan=False))
    else:
        window = f"ranks {record['ranks'][0]}-{record['ranks'][1]}, weights {record['weights']}"
        print_table(summary, title=f"{record['title']} ({window})")
    for note in dict.fromkeys(note for note in summary["note"] if note and not summary["alpha"].isna().all()):
        print(f"note: {note}", file=sys.stderr)
    for layer, reason in skipped.items():
        print(f"skipped {layer}: {reason}.", file=sys.stderr)


@contextmanager
def _progress_bar(title: str) -> Iterator[Progress]:
    """Progress on stderr with the time left; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(f"{title}: {stage}", total=total or None)
            bar.update(tasks[stage], completed=done, total=total or None)

        yield report


def _doctor(config: DoctorConfig) -> None:
    from eigencode.doctor import examine

    found = examine(config.data_root)
    for section in ("versions", "hardware", "data"):
        print(f"{section}:")
        for key, value in found[section].items():
            shown = {True: "there", False: "missing"}.get(value, value) if isinstance(value, bool) else value
            print(f"  {key}: {shown}")
    print(f"data root: {found['data_root']}")
    print("missing:" if found["missing"] else "missing: nothing")
    for what, remedy in found["missing"].items():
        print(f"  {what}: {remedy}")


_COMMANDS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "measure": (MeasureConfig, _measure),
    "doctor": (DoctorConfig, _doctor),
}


if __name__ == "__main__":
    sys.exit(main())
