"""Every study that comes with eigencode, in its smallest size."""

import pytest

from eigencode.reports.study_figures import draw
from eigencode.studies import (
    Evidence,
    Local,
    Store,
    run_study,
    shrunk,
)
from eigencode.studies import load as load_study
from eigencode.studies.judging import claims_of, figures_of, part
from eigencode.studies.papers import PAPERS
from eigencode.studies.study import MADE

READ = {
    "jiang2020": {"layer_gaussian", "layer_fgsm", "stimuli"},
    "gerum2022": {"fgsm", "pgd"},
    "schaeffer2020": {"gaussian", "pure_noise", "pca", "zca", "pgd", *MADE},
    "demo": {"fgsm", "pgd", "gaussian"},
}


@pytest.mark.parametrize("name", PAPERS)
def test_every_shipped_study_in_its_smallest_size(name, tmp_path):
    study, store = shrunk(load_study(name)), Store(tmp_path / "store.sqlite")
    summary = run_study(study, store, Local(), states=tmp_path / "states")
    assert (summary.failed, summary.unstarted, summary.finished) == ({}, {}, len(study.cells()))
    found = Evidence(store, study.cells())
    assert set(found.rows["perturbation"]) == {"training", "held_out", "unperturbed"} | READ[name]
    needing_files = {"schaeffer2020.fig2", "schaeffer2020.fig3_imagenet", "schaeffer2020.released"}
    for figure in figures_of(study):
        own = part(study, found, figure.partition(".")[2])
        assert (draw(figure, own) is None) == (figure in needing_files), figure
    findings = [claim.judged(found).found for claim in claims_of(study)]
    assert all(findings)
    assert not [told for told in findings if "Error" in told]  # which would stand for a check that fell over
    steeper = found.over((2, 5))
    no_spectrum = {"gerum2022.fig2d", "jiang2020.stimuli"}
    for figure in figures_of(study):
        own = part(study, steeper, figure.partition(".")[2])
        assert (draw(figure, own) is None) == (figure in needing_files | no_spectrum), figure
    assert all(claim.judged(steeper).found for claim in claims_of(study))
