"""``eigencode construct``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eigencode.attacks import ConstructedSet, Construction, construct
from eigencode.commands.common import results_folder
from eigencode.commands.inputs import load_both
from eigencode.commands.options import ConstructConfig
from eigencode.commands.progress import progress_bar, tell
from eigencode.datasets import ImageSet
from eigencode.errors import AttackError, UsageError
from eigencode.provenance import circumstances
from eigencode.reports import drawn, plot_examples, render_page, write_folder

_PREVIEW = 10


def run(config: ConstructConfig) -> None:
    """Builds the set, prints what it is, and writes images, record, preview and report."""
    fields = ("kind", "epsilon", "steps", "step_size", "layer", "seed")
    try:
        construction = Construction(**{name: getattr(config, name) for name in fields})
    except AttackError as error:
        raise UsageError(str(error)) from None
    with results_folder(config) as folder:
        assert folder is not None
        _run(config, construction, folder)


def _run(config: ConstructConfig, construction: Construction, folder: Path) -> None:
    model, images = load_both(config)
    with progress_bar("construct") as progress:
        made = construct(model, images, construction, batch_size=config.batch_size, progress=progress)
    record = {"title": f"{config.kind} set · {config.model} · {config.data}", **circumstances(asdict(config)), **made.record}
    page = _write(folder, images, made, record)
    if config.json:
        print(json.dumps(record, indent=2, allow_nan=False))
    else:
        for name, value in made.record.items():
            if isinstance(value, float):
                print(f"{name:28s} {value:.4f}")
    tell(
        f"Images: {folder / 'images.safetensors'} (load them with --data tensors:{folder / 'images.safetensors'})",
    )
    tell(f"Report: {page}")


def _write(folder: Path, images: ImageSet, made: ConstructedSet, record: dict[str, Any]) -> Path:
    first = slice(None, _PREVIEW)
    rows = {"started from": images.inputs[made.starts[first]], "constructed": made.images.inputs[first]}
    if made.record["construction"]["kind"] in ("robust", "non_robust"):
        rows["has the code of"] = images.inputs[made.originals[first]]
    labels = ", ".join(str(label) for label in made.images.labels[first].tolist())
    figures = drawn({"preview": plot_examples(rows, title=f"Labels of the set: {labels}")})
    page = render_page("constructed", record=record, figures=figures)
    return write_folder(
        folder, write_data=lambda partial: made.save(partial / "images.safetensors"), record=record, page=page, figures=figures
    )
