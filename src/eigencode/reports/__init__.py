"""Figures, tables and pages of what was measured."""

from typing import TYPE_CHECKING

from eigencode._lazy import lazy

if TYPE_CHECKING:
    from eigencode.reports.drawing import drawn
    from eigencode.reports.figures import plot_along_layers, plot_spectra
    from eigencode.reports.folder import (
        claimed,
        contents_of,
        record_of,
        write_folder,
    )
    from eigencode.reports.page import (
        render_markdown,
        render_page,
        write_report,
    )
    from eigencode.reports.perturbed_figures import (
        plot_accuracy_against_alpha,
        plot_examples,
        plot_overlaid_spectra,
        plot_response,
    )
    from eigencode.reports.tables import print_table, rounded
    from eigencode.reports.terminal import print_rows
    from eigencode.reports.training_figures import plot_learning, plot_outcome
    from eigencode.spectra.plotting import plot_spectrum

__all__ = [
    "claimed",
    "contents_of",
    "drawn",
    "plot_accuracy_against_alpha",
    "plot_along_layers",
    "plot_examples",
    "plot_learning",
    "plot_outcome",
    "plot_overlaid_spectra",
    "plot_response",
    "plot_spectra",
    "plot_spectrum",
    "print_rows",
    "print_table",
    "record_of",
    "render_markdown",
    "render_page",
    "rounded",
    "write_folder",
    "write_report",
]

__getattr__, __dir__ = lazy(__name__)
