"""Figures, tables and pages of what was measured."""

from eigencode.reports.figures import plot_along_layers, plot_spectra, plot_spectrum
from eigencode.reports.page import check_folder, write_report
from eigencode.reports.tables import print_table

__all__ = ["check_folder", "plot_along_layers", "plot_spectra", "plot_spectrum", "print_table", "write_report"]
