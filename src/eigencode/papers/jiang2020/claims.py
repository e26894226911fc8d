"""The findings of Jiang, Zhou & Huang 2020, in their words, each with its check."""

from __future__ import annotations

from eigencode.papers.jiang2020 import layers, perturbed
from eigencode.studies.results.claim import Claim, Part

CLAIMS = (
    Claim(
        "J1",
        "fig2",
        "Test error falls over training and with depth.",
        (
            Part(
                "“the training error decreases as the test accuracy increases (before early stopping) during training” (III A)",
                layers.error_over_training,
                "a",
            ),
            Part(
                "“the test accuracy grows until saturation despite a slight deterioration” (III A)", layers.error_over_depth, "b"
            ),
        ),
        window="none",
    ),
    Claim(
        "J2",
        "fig3",
        "Ten components carry nearly all variance; behind them is a waterfall.",
        (
            Part(
                "“The first ten dimensions explain more than 95% of the total variance” (III B; the example is layer 5)",
                layers.share_of_ten,
                "a",
            ),
            Part("“A waterfall phenomenon appears at the position around the 10th dimension” (III B)", layers.waterfall, "b"),
            Part("“which is more evident at higher layers” (III B)", layers.waterfall_over_depth, "c"),
        ),
        window="none",
    ),
    Claim(
        "J3",
        "fig4",
        "Networks fluctuate less the wider they are.",
        (
            Part("“the test accuracy becomes more stable with increasing layer width” (III C)", layers.steadier("accuracy"), "a"),
            Part(
                "“the estimated exponent shows less fluctuations as the layer width increases” (III C)",
                layers.steadier("alpha"),
                "b",
            ),
            Part(
                "N = 50 “shows a large fluctuation of the test accuracy especially at deeper layers” (III C)", layers.narrow, "c"
            ),
        ),
    ),
    Claim(
        "J4",
        "fig5",
        "α grows along the depth, from below 1.",
        (
            Part("“α grows along the depth” (Fig. 5)", layers.alpha_over_depth, "a"),
            Part("“the exponent of the first layer is less than one” (III D)", layers.first_below_one, "b"),
            Part(
                "“clear separation of the α values between the earlier layer … and the deeper layers” (III D)",
                layers.first_apart,
                "c",
            ),
        ),
    ),
    Claim(
        "J5",
        "fig5",
        "Accuracy turns over at layer 2.",
        (
            Part("“the test accuracy has a turnover at the layer 2” (Fig. 5)", layers.turn_of_accuracy, "a"),
            Part("“and then decreases by a very small margin” (Fig. 5)", layers.decline_of_accuracy, "b"),
        ),
        window="none",
    ),
    Claim(
        "J6",
        "fig6",
        "Noise lowers accuracy and α, less in deeper layers.",
        (
            Part(
                "“the test accuracy decreases as the perturbation magnitude increases” (III E)", perturbed.falls("accuracy"), "a"
            ),
            Part("“increasing ϵ results in a clear decreasing in both” accuracy and α (III E)", perturbed.falls("alpha"), "b"),
            Part("“deeper layers become more robust against the black-box attacks” (III E)", perturbed.robust_over_depth, "c"),
        ),
    ),
    Claim(
        "J7",
        "fig6",
        "Below α of 1, α is linear in accuracy in the first three layers.",
        (
            Part("“The linear fitting coefficients R² are all larger than 0.99” (Fig. 6)", perturbed.linear, "a"),
            Part("“with the slopes of 0.56, 0.86, and 1.04 respectively” (Fig. 6), as dα/dA", perturbed.slopes, "b"),
            Part("“Beyond the third layer, the linear relationship is not evident” (Fig. 6)", perturbed.not_linear_beyond, "c"),
        ),
    ),
    Claim(
        "J8",
        "fig7",
        "Weak FGSM raises α before it lowers it; noise does not.",
        (
            Part("“The peak also appears in Fig. 7 (b)”, of α against ε (III F)", perturbed.peak_against_strength, "a"),
            Part("“a peak in Fig. 7 (c)”, of α against accuracy (III F)", perturbed.peak_against_accuracy, "b"),
            Part("“black-box attacks has no such properties” (III F)", perturbed.no_peak_under_noise, "c"),
        ),
    ),
    Claim(
        "J9",
        "fig8",
        "D agrees with D(α).",
        (
            Part(
                "“The theoretical prediction agrees roughly with simulations” (III G): Gaussian noise, N = 35",
                perturbed.dimension_agrees("layer_gaussian", 35),
                "a",
            ),
            Part("the same under FGSM, N = 30 (Fig. 8)", perturbed.dimension_agrees("layer_fgsm", 30), "b"),
        ),
        window="own",
    ),
    Claim(
        "J10",
        "stimuli",
        "2000 stimuli are enough.",
        (
            Part(
                "for k ≥ 2000 “the fluctuation of the estimated exponent due to stimulus selection can be neglected” (III B)",
                layers.enough_stimuli,
            ),
        ),
        window="own",
    ),
)
