"""Figures, tables and pages of what was measured."""

from typing import TYPE_CHECKING

from eigencode._lazy import public_names

if TYPE_CHECKING:
    from eigencode.reports.drawing import drawn as drawn
    from eigencode.reports.figures import plot_along_layers as plot_along_layers, plot_spectra as plot_spectra
    from eigencode.reports.folder import (
        claimed as claimed,
        contents_of as contents_of,
        record_of as record_of,
        write_folder as write_folder,
    )
    from eigencode.reports.page import (
        render_markdown as render_markdown,
        render_page as render_page,
        write_report as write_report,
    )
    from eigencode.reports.perturbed_figures import (
        plot_accuracy_against_alpha as plot_accuracy_against_alpha,
        plot_examples as plot_examples,
        plot_overlaid_spectra as plot_overlaid_spectra,
        plot_response as plot_response,
    )
    from eigencode.reports.tables import print_table as print_table, rounded as rounded
    from eigencode.reports.terminal import print_rows as print_rows
    from eigencode.reports.training_figures import plot_learning as plot_learning, plot_outcome as plot_outcome
    from eigencode.spectra.plotting import plot_spectrum as plot_spectrum

__all__, __getattr__, __dir__ = public_names(__name__)
