"""Figures, tables and pages of what was measured."""

from typing import TYPE_CHECKING

from eigencode._lazy import loader

if TYPE_CHECKING:
    from eigencode.reports.drawing import drawn
    from eigencode.reports.figures import plot_along_layers, plot_spectra
    from eigencode.reports.folder import claimed, contents_of, record_of, remove_at_once, write_folder
    from eigencode.reports.page import render_markdown, render_page, write_report
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

_HOME = {
    "claimed": "eigencode.reports.folder",
    "contents_of": "eigencode.reports.folder",
    "drawn": "eigencode.reports.drawing",
    "plot_accuracy_against_alpha": "eigencode.reports.perturbed_figures",
    "plot_along_layers": "eigencode.reports.figures",
    "plot_examples": "eigencode.reports.perturbed_figures",
    "plot_learning": "eigencode.reports.training_figures",
    "plot_outcome": "eigencode.reports.training_figures",
    "plot_overlaid_spectra": "eigencode.reports.perturbed_figures",
    "plot_response": "eigencode.reports.perturbed_figures",
    "plot_spectra": "eigencode.reports.figures",
    "plot_spectrum": "eigencode.spectra.plotting",
    "print_rows": "eigencode.reports.terminal",
    "print_table": "eigencode.reports.tables",
    "record_of": "eigencode.reports.folder",
    "remove_at_once": "eigencode.reports.folder",
    "render_markdown": "eigencode.reports.page",
    "render_page": "eigencode.reports.page",
    "rounded": "eigencode.reports.tables",
    "write_folder": "eigencode.reports.folder",
    "write_report": "eigencode.reports.page",
}

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
    "remove_at_once",
    "render_markdown",
    "render_page",
    "rounded",
    "write_folder",
    "write_report",
]

__getattr__ = loader(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
