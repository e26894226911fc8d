"""Figures -> what files and pages hold of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

_DPI = 150


@dataclass(frozen=True)
class Drawing:
    """A figure as it is written.

    Attributes:
        png: Its pixels.
        svg: Its lines.
        caption: What it shows, in words.
    """

    png: bytes
    svg: bytes
    caption: str = ""

    @property
    def source(self) -> str:
        """For the image of a page."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode()


def drawn(figures: Mapping[str, Figure]) -> dict[str, Drawing]:
    """Draws each figure as pixels and as lines. Its layout, which takes as long as drawing it, is found once for both."""
    return {name: _drawn(figure) for name, figure in figures.items()}


def _drawn(figure: Figure) -> Drawing:
    if engine := figure.get_layout_engine():
        engine.execute(figure)
    figure.set_layout_engine(None)  # else each file is laid out anew
    return Drawing(png=_saved(figure, "png"), svg=_saved(figure, "svg"))


def _saved(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=_DPI if kind == "png" else "figure")
    return buffer.getvalue()
