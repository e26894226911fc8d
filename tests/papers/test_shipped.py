"""Every study that comes with eigencode, in its smallest size."""

import numpy as np
import pytest
from PIL import Image

from eigencode._torchvision import import_torchvision
from eigencode.papers.registry import PAPERS
from eigencode.papers.schaeffer2020.study import NOISE_ALONE
from eigencode.perturbations.specification import MADE
from eigencode.reports.study_figures import draw
from eigencode.studies import (
    Local,
    Store,
    StudyResults,
    overridden,
    run_study,
    smoke_version,
)
from eigencode.studies import (
    load as load_study,
)
from eigencode.studies.results.judging import claims_of, figures_of, part

READ = {
    "jiang2020": {"layer_gaussian", "layer_fgsm", "stimuli"},
    "gerum2022": {"fgsm", "pgd"},
    "schaeffer2020": {"gaussian", *NOISE_ALONE, "pca", "zca", "pgd", *MADE},
    "demo": {"fgsm", "pgd", "gaussian"},
}


@pytest.mark.parametrize("name", [name if name == "demo" else pytest.param(name, marks=pytest.mark.slow) for name in PAPERS])
def test_every_shipped_study_in_its_smallest_size(name, tmp_path):
    study, store = smoke_version(load_study(name)), Store(tmp_path / "store.sqlite")
    summary = run_study(study, store, Local(), states=tmp_path / "states")
    assert (summary.failed, summary.unstarted, summary.finished) == ({}, {}, len(study.cells()))
    found = StudyResults(store, study.cells())
    assert set(found.rows["perturbation"]) == {"training", "held_out", "unperturbed"} | READ[name]
    needing_files = {"fig2", "fig3_imagenet", "released"} if name == "schaeffer2020" else set()
    for figure in figures_of(study):
        own = part(study, found, figure)
        assert (draw(study, figure, own) is None) == (figure in needing_files), figure
    findings = [each.found for claim in claims_of(study) for each in claim.judged(found).findings]
    assert all(findings)
    assert not [told for told in findings if "Error" in told]  # which would stand for a check that fell over
    steeper = found.over((2, 5))
    no_spectrum = {"gerum2022": {"fig2d"}, "jiang2020": {"stimuli"}}.get(name, set())
    for figure in needing_files | no_spectrum | set(figures_of(study)[:1]):
        own = part(study, steeper, figure)
        assert (draw(study, figure, own) is None) == (figure in needing_files | no_spectrum), figure
    assert all(each.found for claim in claims_of(study) for each in claim.judged(steeper).findings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("figure", "networks", "claim", "lacks"),
    [("fig2", 2, "S1", "all eleven networks; so far"), ("fig3_imagenet", 1, "S2", "networks that are shown noise alone")],
)
def test_imagenet_networks_on_a_folder_of_images(figure, networks, claim, lacks, tmp_path, monkeypatch):
    """Their weights, which are a download, are random ones here, and the images small."""
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (400, 40, 40, 3), dtype=np.uint8)):
        path = tmp_path / "imagenet" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    models = import_torchvision("models")

    def random_weights(weights, *_, **__):
        name = type(weights).__name__.removesuffix("_Weights").lower()
        return models.get_model(name, weights=None).state_dict()

    monkeypatch.setattr(models.WeightsEnum, "get_state_dict", random_weights)
    monkeypatch.chdir(tmp_path)
    study = overridden(smoke_version(load_study(f"schaeffer2020.{figure}")), "images.size=64")
    store = Store("store.sqlite")
    summary = run_study(study, store, Local())
    assert (summary.failed, summary.unstarted, summary.finished) == ({}, {}, networks)
    found = StudyResults(store, study.cells())
    conditions = {"gaussian", *NOISE_ALONE} if figure == "fig3_imagenet" else set()
    assert set(found.rows["perturbation"]) == {"unperturbed"} | conditions
    assert draw(study, study.figure, found) is not None
    (own,) = [each for each in claims_of(study) if each.name == claim]
    assert lacks in own.judged(found).findings[-1].found
