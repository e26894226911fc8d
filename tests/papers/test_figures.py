"""What the drawings of papers show: their series, values and labels, held against the results."""

from dataclasses import replace

import numpy as np
import pytest

from eigencode.papers.gerum2022.curves import published
from eigencode.reports.study_figures import draw
from eigencode.studies import load
from eigencode.studies.cell import with_field
from paper_networks import evidence, grid, mlps, nets


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
    ]
    for panel, quantity in zip(figure.axes, ("accuracy", "alpha"), strict=False):
        rows = results.select(quantity, perturbation="layer_gaussian")
        for number, layer in enumerate(dict.fromkeys(rows["layer"]), 1):
            wanted = rows[rows["layer"] == layer].groupby("strength")["value"].mean()
            strengths, heights = line(panel, f"layer {number}")
            np.testing.assert_allclose(heights[np.isin(strengths, wanted.index)], wanted)


@pytest.mark.parametrize("strength", [0.016, 0.031])
def test_accuracy_under_attack_against_the_exponent(strength, tmp_path):
    """Schaeffer Fig. 8."""
    figure, results = drawn("schaeffer2020.fig8", grid(), tmp_path)
    (panel,) = figure.axes
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("exponent α", "accuracy under PGD")
    rows = results.with_alpha(results.select("accuracy", perturbation="pgd"), "unperturbed")
    rows = rows[(rows["strength"] - strength).abs() < 1e-3]
    found = sorted(zip(*line(panel, f"ε = {strength:g}"), strict=True))
    settings = rows.groupby(["covariance", "jacobian", "jacobian_kind"])[["alpha", "value"]].mean()
    assert len(found) in (len(rows), len(settings))
    wanted = sorted(zip(*(rows if len(found) == len(rows) else settings)[["alpha", "value"]].to_numpy().T, strict=True))
    np.testing.assert_allclose(found, wanted)
