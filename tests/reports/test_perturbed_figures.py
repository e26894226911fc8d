import pandas as pd
import pytest
import torch

from eigencode.reports import plot_accuracy_against_alpha, plot_examples, plot_overlaid_spectra, plot_response
from eigencode.spectra import Eigenspectrum


def table(strengths, name="fgsm"):
    rows = []
    for perturbation, strength in [("unperturbed", 0.0), *((name, strength) for strength in strengths)]:
        for depth, layer in enumerate(("conv1", "fc1")):
            alpha = 1 + depth - strength / 100
            rows.append(
                {
                    "perturbation": perturbation,
                    "strength": strength,
                    "layer": layer,
                    "accuracy": 0.9 - strength / 100,
                    "alpha": alpha,
                    "alpha_low": alpha - 0.1,
                    "alpha_high": alpha + 0.1,
                    "dimension": 5.0 + depth + strength / 10,
                }
            )
    return pd.DataFrame(rows)


def test_response_starts_from_the_unperturbed_images():
    figure = plot_response(table([0.2, 0.1]), baseline="unperturbed")
    top, middle, bottom = figure.axes
    assert top.get_lines()[0].get_xdata().tolist() == [0.0, 0.1, 0.2]
    assert top.get_lines()[0].get_ydata().tolist() == pytest.approx([0.9, 0.899, 0.898])
    assert len(top.get_lines()) == 1  # one accuracy for all layers
    assert [line.get_label() for line in middle.get_lines()] == ["conv1", "fc1"]
    assert bottom.get_yscale() == "log"
    assert bottom.get_xlabel() == "strength"


@pytest.mark.parametrize(("strengths", "name"), [([1.0, 4.0, 16.0], "pca"), ([0.0, 0.1], "zca")])
def test_unperturbed_images_are_a_dotted_line_where_zero_means_something_else(strengths, name):
    top, middle, bottom = plot_response(table(strengths, name), baseline="unperturbed").axes
    curve, level = top.get_lines()
    assert curve.get_xdata().tolist() == strengths
    assert level.get_linestyle() == ":"
    assert level.get_ydata() == [0.9, 0.9]
    assert len(middle.get_lines()) == len(bottom.get_lines()) == 4
    assert bottom.get_xlabel() == ("components" if name == "pca" else "strength")


def test_a_line_for_each_layer_where_accuracies_differ():
    summary = table([0.1])
    summary.loc[summary["layer"] == "fc1", "accuracy"] -= 0.2
    assert len(plot_response(summary, baseline="unperturbed").axes[0].get_lines()) == 2


def test_accuracy_against_alpha():
    (panel,) = plot_accuracy_against_alpha(table([0.2, 0.1]), baseline="unperturbed").axes
    line = panel.get_lines()[0]
    assert line.get_xdata().tolist() == pytest.approx([1.0, 0.999, 0.998])
    assert line.get_ydata().tolist() == pytest.approx([0.9, 0.899, 0.898])


def test_overlaid_spectra(power_law_code):
    conditions = {
        label: {f"layer{i}": Eigenspectrum.from_activations(power_law_code(1.0, 60, 40), half_samples=0) for i in range(20)}
        for label in ("unperturbed", "fgsm 0.1", "fgsm 0.2")
    }
    figure = plot_overlaid_spectra(conditions, ranks=(2, 20), title="fgsm")
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert len(panels) == 12
    assert (panels[0].get_title(loc="left"), panels[-1].get_title(loc="left")) == ("layer0", "layer19")
    assert all(len(axes.get_lines()) == 3 for axes in panels)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(conditions)


def test_examples_outside_the_range_are_stretched_and_say_so():
    images = torch.rand(3, 1, 8, 8)
    examples = {"unperturbed": images, "zca 0": 30 * images - 15, **{f"pgd {i}": images for i in range(20)}}
    figure = plot_examples(examples, title="x")
    labels = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert len(labels) == 8
    assert labels[0] == "unperturbed"
    figure = plot_examples({"unperturbed": images, "zca 0": 30 * images - 15}, title="x")
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["unperturbed", "zca 0\n(stretched)"]
