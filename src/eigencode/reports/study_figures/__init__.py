"""Figures of studies, like the papers': drawn from results alone."""

from __future__ import annotations

from matplotlib.figure import Figure

from eigencode.reports.study_figures import gerum2022, jiang2020, schaeffer2020
from eigencode.reports.study_figures.own import spectra_of_networks
from eigencode.studies.evidence import Evidence, NotTestedError

_FIGURES = {
    "demo": gerum2022.DEMO,
    "gerum2022": gerum2022.FIGURES,
    "jiang2020": jiang2020.FIGURES,
    "schaeffer2020": schaeffer2020.FIGURES,
}


def draw(name: str, evidence: Evidence) -> Figure | None:
    """The figure of a study, such as jiang2020.fig5; of a study of a user's own, its spectra; None without results.

    Args:
        name: Paper and figure.
        evidence: Results.

    Returns:
        Figure.

    Raises:
        Exception: whatever a drawing raises but ``NotTestedError``, with a note that names the figure.
    """
    paper, _, figure = name.partition(".")
    maker = _FIGURES.get(paper, {}).get(figure, spectra_of_networks)
    try:
        return None if evidence.rows.empty else maker(evidence)
    except NotTestedError:  # an unfinished study, or one's own, lacks what the paper's has
        return None
    except Exception as error:
        error.add_note(f"Raised by the drawing of {name}.")
        raise
