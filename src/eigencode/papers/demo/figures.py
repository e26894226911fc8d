"""Figures of the demonstration, which are like those of Gerum et al. 2022."""

from eigencode.papers.gerum2022.figures import accuracy_against_alpha, spectra_of_targets
from eigencode.reports.study_drawing import Draw

FIGURES: dict[str, Draw] = {
    "spectra": spectra_of_targets,
    "outcome": accuracy_against_alpha("gerum_shallow_mlp", 0.1),
}
