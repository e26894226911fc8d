"""Figures, tables and pages of what was measured."""

from eigencode.reports.figures import plot_along_layers, plot_spectra, plot_spectrum
from eigencode.reports.page import check_folder, render_markdown, render_page, write_folder, write_report
from eigencode.reports.perturbed_figures import (
    plot_accuracy_against_alpha,
    plot_examples,
    plot_overlaid_spectra,
    plot_response,
)
from eigencode.reports.tables import print_rows, print_table, rounded
from eigencode.reports.training_figures import plot_learning, plot_outcome

__all__ = [
    "check_folder",
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
    "render_markdown",
    "render_page",
    "rounded",
    "write_folder",
    "write_report",
]
