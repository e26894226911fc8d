"""The findings of Schaeffer et al. 2020, in their words, each with its check."""

from __future__ import annotations

from eigencode.papers.schaeffer2020 import imagenet, inputs, penalised
from eigencode.studies.results.claim import Claim, Part

CLAIMS = (
    Claim(
        "S1",
        "fig2",
        "All eleven ImageNet networks decay faster than the bound.",
        (
            Part(
                "“All CNNs have exponents below α* ≈ 1”, as slopes (Fig. 2): “lower than the Stringer-Pachitariu bound” (3.1)",
                imagenet.bound,
            ),
        ),
    ),
    Claim(
        "S2",
        "fig3",
        "Noise makes spectra steeper.",
        (
            Part(
                "ImageNet: “The slope increases as we add more noise, and is highest for the pure noise input” (3.2.1)",
                imagenet.noise_on_imagenet,
                "a",
            ),
            Part(
                "CIFAR-10: “a similar behavior as for ImageNet, but the changes were less pronounced” (3.2.1)",
                inputs.noise_on_cifar,
                "b",
            ),
            Part("CIFAR-10: “pure noise had … very similar slope” to images “with the same δ” (3.2.1)", inputs.pure_noise, "c"),
            Part("CIFAR-10: “inputs of pure noise had different y-intercept” (3.2.1)", inputs.intercept_of_noise, "d"),
        ),
        ("fig3_imagenet",),
    ),
    Claim(
        "S3",
        "fig4",
        "The network hardly responds to the dimension of its images.",
        (
            Part("α 1.03 on images; “1.21, 1.20, 1.20” on 8, 4, 1 components; whitened 1.51 (3.2.2)", inputs.exponents, "a"),
            Part(
                "“our artificial neurons were largely non-responsive to stimuli dimension” (3.2.2)", inputs.hardly_responds, "b"
            ),
        ),
        window="own",
    ),
    Claim(
        "S4",
        "fig5",
        "Robust and non-robust images give one spectrum.",
        (
            Part("“all slopes … obey power law decays with a slope larger than 1” (3.2.3)", inputs.all_above_one, "a"),
            Part("“the eigenspectra for all four datasets were identical to each other” (3.2.3)", inputs.identical, "b"),
        ),
        ("released",),
    ),
    Claim(
        "S5",
        "fig6",
        "Adversarially trained ResNet-50s decay with a slope near 4.",
        (
            Part("“the slopes lying in the vicinity of 4” (3.3)", inputs.near_four, "a"),
            Part("“The steep decay in the slope is also present in the ϵ = 0 model” (3.3)", inputs.near_four_untrained, "b"),
            Part(
                "“slightly different eigenspectra decays with the four Ilyas et al datasets” (3.3)",
                inputs.slightly_different,
                "c",
            ),
        ),
        ("released",),
        window="own",
    ),
    Claim(
        "S6",
        "fig7",
        "Covariance penalisation lowers α and the spectrum.",
        (
            Part("“penalizing off-diagonal covariance decreased α” (3.4)", penalised.lowers_alpha, "a"),
            Part("“pushing the representations into the fractal regime” (3.4)", penalised.below_one, "b"),
            Part("“we also observed that the y-axis shifted down” (3.4)", penalised.lowers_spectrum, "c"),
        ),
    ),
    Claim(
        "S7",
        "fig7",
        "Jacobian penalisation does nothing for robustness.",
        (
            Part(
                "“Jacobian penalization appears to have no relationship with accuracy” (Fig. 7), by column sums",
                penalised.unrelated("column_sum"),
                "a",
            ),
            Part(
                "the same with “the norm of the Jacobian”, which the authors could not penalise (3.4)",
                penalised.unrelated("exact"),
                "b",
            ),
        ),
        window="none",
    ),
    Claim(
        "S8",
        "fig8",
        "Robustness does not follow α.",
        (
            Part(
                "“fractal representations have both higher and lower adversarial accuracy than non-fractal” (3.4)",
                penalised.does_not_follow,
            ),
        ),
    ),
)
