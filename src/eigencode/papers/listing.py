"""What studies there are, and what a store has of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eigencode.papers.registry import PAPERS, load
from eigencode.studies.definition import SCALES, Study, smoke_version

if TYPE_CHECKING:
    from eigencode.studies.results.store import Store


def listed(store: Store | None) -> list[dict[str, str]]:
    """Every shipped figure: study, what it shows, and its cells at each scale; with a store, how many of them are finished.

    Cells of a store that are of no shipped study follow by network, data and epochs, under "own".

    Args:
        store: Store; None for the studies alone.

    Returns:
        Rows with the same columns, one per figure or kind of network; an entry is the number of cells, or "finished of cells",
        or empty.

    Raises:
        StudyError: the store cannot be read, or has cells of another result version.
    """
    there = store.finished() if store else {}
    shipped: set[str] = set()
    rows = []
    for name, paper in PAPERS.items():
        for figure, title in paper.figures.items():
            row = {"study": f"{name}.{figure}", "what": title}
            for scale, study in _sizes(f"{name}.{figure}").items():
                cells = {plan.identity for plan in study.cells()}
                shipped |= cells
                row[scale] = _counted(cells, there) if store else str(len(cells))
            rows.append(row)
    if store and (own := sorted(there.keys() - shipped)):
        kept = store.cells(own)
        for kind, ids in kept.groupby(kept["plan"].map(kind_of))["id"]:
            rows.append({"study": "own", "what": str(kind), "own": _counted(set(ids), there)})
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, "") for name in columns} for row in rows]


def kind_of(plan: dict[str, Any]) -> str:
    """Network, data and epochs of a cell from its nested values, in words."""
    trained = "not trained" if plan["network"]["weights"] else f"{plan['training']['epochs']} epochs"
    return f"{plan['network']['model']} · {plan['images']['data']} · {trained}"


def _sizes(name: str) -> dict[str, Study]:
    return {"smoke": smoke_version(load(name)), **{scale: load(name, scale) for scale in reversed(SCALES)}}


def _counted(cells: set[str], there: dict[str, str | None]) -> str:
    """Finished and failed cells in words, nothing if there are none."""
    finished = sum(cell in there and there[cell] is None for cell in cells)
    failed = sum(bool(there.get(cell)) for cell in cells)
    text = f"{finished} of {len(cells)}" if finished or failed else ""
    return f"{text}, {failed} failed" if failed else text
