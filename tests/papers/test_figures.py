"""What the drawings of papers show: their series, values and labels, held against the results."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from eigencode.papers.gerum2022.curves import published
from eigencode.reports.study_figures import caption, draw
from eigencode.spectra.intervals import Interval
from eigencode.studies import Store, StudyResults, load
from eigencode.studies.cell import with_field
from eigencode.studies.results.judging import study_record
from eigencode.studies.results.recorded import RecordedSpectrum
from paper_networks import PAPERS_INPUTS, deep, evidence, grid, mlps, nets, on_sets, schaeffer


def drawn(name, records, folder):
    study, results = load(name), evidence(records, folder)
    return draw(study, study.figure, results), results


def line(panel, label):
    """Heights of the one line of a name."""
    (found,) = [each for each in panel.lines if each.get_label() == label]
    return found.get_xdata(), found.get_ydata()


def test_accuracy_against_the_exponent(tmp_path):
    """Gerum Fig. 2: clean, under FGSM and under PGD at the strength that the paper shows; a line of means for each strength."""
    figure, results = drawn("gerum2022.fig2", mlps(), tmp_path)
    assert [panel.get_ylabel() for panel in figure.axes] == [
        "accuracy",
        *(f"accuracy under {k}, ε = 0.05" for k in ("FGSM", "PGD")),
    ]
    conditions = [{"perturbation": "held_out"}, *({"perturbation": kind, "strength": 0.05} for kind in ("fgsm", "pgd"))]
    alpha = results.select("alpha", perturbation="training").set_index("network")["value"]
    for panel, condition in zip(figure.axes, conditions, strict=True):
        assert panel.get_xlabel() == "exponent α of the last epoch's batches"
        rows = results.select("accuracy", **condition)
        rows = rows.assign(alpha=rows["network"].map(alpha))
        for beta, own in rows.groupby("beta"):
            wanted = own.groupby("target")[["alpha", "value"]].mean().sort_values("alpha")
            heights = line(panel, f"β = {beta:g}")
            np.testing.assert_allclose(heights, [wanted["alpha"], wanted["value"]])
    betas = {"β = 0", "β = 0.1", "β = 1"}
    named = {text.get_text() for text in figure.axes[1].get_legend().get_texts()}
    assert named == betas | {f"published, {beta}" for beta in betas}
    own = published()
    own = own[(own["panel"] == "2b") & (own["beta"] == 1)]
    (curve,) = [each for each in figure.axes[1].containers if each.get_label() == "published, β = 1"]
    np.testing.assert_allclose(curve.lines[0].get_xydata(), own[["alpha", "accuracy"]])


def test_learning(tmp_path):
    """Gerum Fig. 2d: exponents over epochs for each target, and accuracy over the strengths of PGD."""
    figure, results = drawn("gerum2022.fig2d", mlps(), tmp_path)
    *learning, attacked = figure.axes
    assert [panel.get_title() for panel in learning] == ["β = 0.1", "β = 1"]
    epochs, heights = line(learning[0], "target 2")
    rows = results.select("alpha", perturbation="training", beta=0.1, target=2.0, epoch=None)
    wanted = rows.groupby("epoch")["value"].mean()
    np.testing.assert_allclose([epochs, heights], [wanted.index, wanted])
    strengths, heights = line(attacked, "baseline")
    wanted = results.select("accuracy", perturbation="pgd", beta=0.0).groupby("strength")["value"].mean()
    np.testing.assert_allclose(heights[np.isin(strengths, wanted.index)], wanted[wanted.index.isin(strengths)])


def test_exponents_at_every_setting(tmp_path):
    """What Jiang et al. leave open: exponents along the layers, a panel for each number of epochs, a line for each setting."""
    records = []
    for epochs, rate in ((10, 0.5), (10, 0.1), (60, 0.5)):
        for record in nets(2):
            plan = with_field(with_field(record.plan, "training.epochs", epochs), "member.learning_rate", rate)
            records.append(replace(record, plan=plan, rows=record.rows.assign(epoch=record.rows["epoch"].replace(60, epochs))))
    figure, results = drawn("jiang2020.settings", records, tmp_path)
    assert [panel.get_title() for panel in figure.axes] == ["10 epochs", "60 epochs"]
    labels = [[each.get_label() for each in panel.containers] for panel in figure.axes]
    assert labels == [["rate 0.1", "rate 0.5"], ["rate 0.5"]]
    alpha = results.select("alpha", perturbation="unperturbed", epochs=60)
    wanted = alpha.groupby("layer")["value"].mean()
    heights = np.asarray(figure.axes[1].containers[0].lines[0].get_ydata(), dtype=float)
    np.testing.assert_allclose(heights, wanted)


def test_error_over_training_at_every_layer(tmp_path):
    """Jiang Fig. 2."""
    figure, results = drawn("jiang2020.fig2", nets(), tmp_path)
    (panel,) = figure.axes
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("epoch", "error rate")
    rows = results.select("accuracy", perturbation="training", epoch=None)
    for number, layer in enumerate(dict.fromkeys(rows["layer"]), 1):
        wanted = 1 - rows[rows["layer"] == layer].groupby("epoch")["value"].mean()
        np.testing.assert_allclose(line(panel, f"layer {number}"), [wanted.index, wanted])


def test_response_to_noise_at_every_layer(tmp_path):
    """Jiang Fig. 6: accuracy, exponent, and one against the other."""
    figure, results = drawn("jiang2020.fig6", nets(), tmp_path)
    assert [(panel.get_xlabel(), panel.get_ylabel()) for panel in figure.axes] == [
        ("ε", "test accuracy"),
        ("ε", "exponent α"),
        ("test accuracy", "exponent α"),
        ("test accuracy", "exponent α"),
    ]
    means = [
        results.select(name, perturbation="layer_gaussian", layer="layers.3").groupby("strength")["value"].mean()
        for name in ("accuracy", "alpha")
    ]
    wanted = pd.concat(means, axis=1).dropna()
    np.testing.assert_allclose(figure.axes[3].lines[0].get_xydata()[-len(wanted) + 1 :], wanted[1:])
    fits = [text.get_text() for text in figure.axes[2].get_legend().get_texts()]
    assert [text.partition(":")[0] for text in fits] == ["layer 1", "layer 2", "layer 3"]
    for panel, quantity in zip(figure.axes, ("accuracy", "alpha"), strict=False):
        rows = results.select(quantity, perturbation="layer_gaussian")
        for number, layer in enumerate(dict.fromkeys(rows["layer"]), 1):
            wanted = rows[rows["layer"] == layer].groupby("strength")["value"].mean()
            strengths, heights = line(panel, f"layer {number}")
            np.testing.assert_allclose(heights[np.isin(strengths, wanted.index)], wanted)


@pytest.mark.parametrize(("place", "strength"), [(0, 4 / 255), (1, 8 / 255)])
def test_accuracy_under_attack_against_the_exponent(place, strength, tmp_path):
    """Schaeffer Fig. 8: a panel for each strength, a mark for each network, its colour c1 and its shape c2."""
    figure, results = drawn("schaeffer2020.fig8", grid(), tmp_path)
    panel = figure.axes[place]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("exponent α", f"accuracy under PGD, ε = {strength:.3f}")
    rows = results.with_alpha(results.select("accuracy", perturbation="pgd", strength=strength), "unperturbed")
    marks = [each for each in panel.lines if len(each.get_xdata()) and each.get_linestyle() == "None"]
    found = sorted(pair for each in marks for pair in zip(each.get_xdata(), each.get_ydata(), strict=True))
    np.testing.assert_allclose(found, sorted(map(tuple, rows[["alpha", "value"]].to_numpy())))
    named = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    weights = [f"c1 = {c1}" for c1 in ("0", "0.01", "0.05", "0.1")] + [f"c2 = {c2}" for c2 in ("0", "0.5", "1", "3")]
    assert named == ["bound of about 1", *weights]
    assert len({(each.get_color()[:3], each.get_marker()) for each in map(_style, marks)}) == 16


def _style(mark):
    mark.set_color(tuple(mark.get_color()))
    return mark


def test_exponents_against_the_dimension_of_images(tmp_path):
    """Schaeffer Fig. 4, left: the network's means, the paper's values, the mouse's as printed, and 1 + 2/d."""
    records = [schaeffer(seed, alpha=1.03, conditions=PAPERS_INPUTS) for seed in range(3)]
    figure, results = drawn("schaeffer2020.fig4", records, tmp_path)
    panel = figure.axes[0]
    (own,) = panel.containers
    alpha = results.select("alpha", perturbation=["pca", "unperturbed"])
    wanted = alpha.assign(d=alpha["strength"].replace(0, 3072)).groupby("d")["value"].mean()
    np.testing.assert_allclose(own.lines[0].get_xydata(), np.column_stack([wanted.index, wanted]))
    assert dict(zip(*line(panel, "mouse V1, as printed"), strict=True)) == {8: 1.49, 4: 1.65, 1: 3.51, 3072: 1.04}
    dimensions, heights = line(panel, "1 + 2/d")
    np.testing.assert_allclose(heights, 1 + 2 / dimensions)


def test_ratios_of_spectra_on_made_images(tmp_path):
    """Schaeffer Fig. 5: each spectrum, and what it is of the one on test images."""
    record = on_sets(0, [1.4, 1.5, 1.5, 1.5])
    record = replace(record, spectra=[*schaeffer(0).spectra, *record.spectra])
    figure, results = drawn("schaeffer2020.fig5", [record], tmp_path)
    heights = line(figure.axes[1], "robust")[1]
    spectra = results.spectra.set_index("perturbation")["eigenvalues"]
    np.testing.assert_allclose(heights, spectra["robust"] / spectra["unperturbed"])


@pytest.mark.parametrize(
    ("name", "record"), [("jiang2020.fig3", "nets"), ("gerum2022.fig1e", "mlps"), ("schaeffer2020.fig4", "")]
)
def test_a_recording_beside_networks(name, record, tmp_path):
    records = {"nets": nets, "mlps": mlps, "": lambda: [schaeffer(0, conditions=PAPERS_INPUTS)]}[record]()
    values = 3.0 * np.arange(1, 41) ** -1.1
    recording = RecordedSpectrum("v4.npy", values, Interval(1.1, 1.05, np.inf), 60)
    study, results = load(name), evidence(records, tmp_path)
    alone = draw(study, study.figure, results)
    results = StudyResults(Store(tmp_path / "store.sqlite"), [each.plan for each in records], recording=recording)
    both = draw(study, study.figure, results)
    panels = [*both.axes, *(inset for panel in both.axes for inset in panel.child_axes)]
    assert len(panels) == len(alone.axes) + 1
    (panel,) = [each for each in panels if any(mark.get_label().startswith("v4.npy") for mark in each.lines)]
    np.testing.assert_allclose(line(panel, "v4.npy")[1], values / values.sum())
    exponent = "α 1.10 [1.05, ∞] of what repeats share, by its moments"
    law = np.arange(1, 61) ** -1.1  # over all neurons, of which fewer ranks may be cross-validated
    np.testing.assert_allclose(line(panel, "α 1.10 [1.05, ∞] of what repeats\nshare, by its moments")[1], law / law.sum())
    assert f"The recording is v4.npy: {exponent}." in caption(study, study.figure, results)
    assert replace(recording, bends=True).exponent == f"{exponent}, which is no power law"


@pytest.mark.parametrize(("count", "said"), [(1, False), (3, True)])
def test_a_caption_says_where_one_network_of_several_is_drawn(count, said, tmp_path):
    results = evidence(nets(count), tmp_path)
    sentence = "Spectra are those of one network of each setting."
    assert (sentence in caption(load("jiang2020.fig3"), "fig3", results)) == said
    assert sentence not in caption(load("jiang2020.fig5"), "fig5", results)  # it draws means


def test_networks_that_have_collapsed_have_no_slope(tmp_path):
    """Their accuracy is the same at every strength."""
    records = []
    for record in nets(3):
        noisy = (record.rows["perturbation"] == "layer_gaussian") & (record.rows["quantity"] == "accuracy")
        records.append(replace(record, rows=record.rows.assign(value=record.rows["value"].mask(noisy, 0.1))))
    store = Store(tmp_path / "store.sqlite")
    store.save(records)
    study, results = load("jiang2020.fig6"), StudyResults(store, [each.plan for each in records])
    assert draw(study, "fig6", results) is not None
    record = study_record(study, results, configuration={})
    verdicts = {part["part"]: part["verdict"] for claim in record["claims"] for part in claim["parts"]}
    assert verdicts["J7a"] == verdicts["J7b"] == "not tested"
    assert {row["here"] for row in record["published"]} == {"not measured"}


def test_a_recording_without_variance_that_repeats_is_no_curve(tmp_path):
    values = np.array([0.5, 0.2, -0.3, -0.6])
    recording = RecordedSpectrum("noise.npy", values, Interval(np.nan, np.nan, np.nan), 0)
    records = nets(2)
    evidence(records, tmp_path)
    results = StudyResults(Store(tmp_path / "store.sqlite"), [each.plan for each in records], recording=recording)
    figure = draw(load("jiang2020.fig3"), "fig3", results)
    (inset,) = figure.axes[0].child_axes
    assert not inset.lines
    assert recording.exponent == "variance of single presentations, with noise; α not determined"


def test_fits_of_two_networks(tmp_path):
    """Gerum Fig. 1e: the baseline and the network with a target of 1, with the exponents of their fits."""
    figure, _ = drawn("gerum2022.fig1e", mlps(), tmp_path)
    named = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert named == ["baseline, α = 1.50", "target 1, α = 1.00", "ranks of the fit"]


def test_strengths_that_leave_nothing_are_no_panels(tmp_path):
    """Gerum Fig. S1: where one image in a thousand is a peak, there is nothing to see."""
    records = []
    for record in deep("fig3d"):
        left = record.rows["value"].where(record.rows["strength"] < 0.1, 0.001)
        records.append(replace(record, rows=record.rows.assign(value=left)))
    figure, _ = drawn("gerum2022.figS1", records, tmp_path)
    assert [panel.get_title() for panel in figure.axes] == 2 * ["ε = 0.01", "ε = 0.05"]


def test_exponents_of_networks_trained_in_every_way(tmp_path):
    """What Schaeffer et al. leave open: a line for each way of training, against components and against noise."""
    records = []
    for plan in load("schaeffer2020.settings").cells():
        alpha = 1 + plan.training.epochs / 10
        conditions = [(kind, strength, alpha) for kind, strength in (("gaussian", 0.5), ("grey_noise", 0.5), ("pca", 4.0))]
        records.append(replace(schaeffer(plan.member.seed, alpha=alpha, conditions=conditions), plan=plan))
    figure, _ = drawn("schaeffer2020.settings", records, tmp_path)
    for panel in figure.axes:
        means = {each.get_label(): each.lines[0].get_ydata()[0] for each in panel.containers}
        assert list(means) == ["5 epochs, adam", "11 epochs, sgd", "13 epochs, adam", "24 epochs, adam"]
        np.testing.assert_allclose(list(means.values()), [1.5, 2.1, 2.3, 3.4], atol=1e-5)
    assert sum(len(each.get_xdata()) == 1 and each.get_marker() == "+" for each in figure.axes[1].lines) == 4
