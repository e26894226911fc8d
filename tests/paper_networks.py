"""Finished networks as the papers describe them, and as they do not: made-up results for claims, tables and figures."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from eigencode.papers.schaeffer2020.study import NOISE_ALONE
from eigencode.perturbations.specification import MADE
from eigencode.spectra import Eigenspectrum, power_law_dimension
from eigencode.studies import Store, StudyResults, load
from eigencode.studies.cell import with_field
from eigencode.studies.execution.group import CellRecord
from eigencode.studies.execution.readout import ROW, SpectrumRecord


def evidence(records, folder):
    """Results of networks that differ by a little each: no two of a real study agree in all digits."""
    store = Store(folder / "store.sqlite")
    store.save([by_a_little(record, np.random.default_rng(number)) for number, record in enumerate(records)])
    return StudyResults(store, [record.plan for record in records])


def by_a_little(record, draw):
    rows = record.rows.assign(value=record.rows["value"] + 1e-6 * draw.standard_normal(len(record.rows)))
    spectra = [
        replace(
            each, spectrum=replace(each.spectrum, eigenvalues=each.spectrum.eigenvalues * (1 + 1e-6 * draw.standard_normal()))
        )
        for each in record.spectra
    ]
    return replace(record, rows=rows, spectra=spectra)


ACCURACIES = [0.978, 0.981, 0.980, 0.980, 0.979, 0.979, 0.979, 0.978]


ALPHAS = [0.85, 0.98, 1.05, 1.10, 1.12, 1.15, 1.2, 1.25]


EPSILONS = (0.1, 0.5, 1.0, 2.0, 3.0, 4.0)


SLOPES = (0.56, 0.86, 1.04)
"""Of the exponent against accuracy, in the first three layers."""


def jiang(
    seed,
    *,
    accuracies=ACCURACIES,
    alphas=ALPHAS,
    width=200,
    spread=0.001,
    deeper=1.0,
    bump=0.1,
    bump_in_noise=0.0,
    price=0.02,
    dimension=1.0,
    counted="dimension_population",
    falls=True,
    share=0.97,
    waterfall=0.1,
    straight=3,
    slopes=SLOPES,
    fluctuation=0.1,
):
    """A network as the paper describes it, with some noise of its own; from layer 3 on ``deeper`` times as much.

    Its exponent is linear in its accuracy under noise in the first ``straight`` layers.
    """
    draw = np.random.default_rng([seed, width])
    plan = with_field(with_field(load("jiang2020.fig6").blocks[0].plan, "member.seed", seed), "network.options.width", width)
    rows, spectra = [], []
    for layer, (accuracy, alpha) in enumerate(zip(accuracies, alphas, strict=True)):
        name, own = f"layers.{layer}", spread * (deeper if layer > 1 else 1)
        accuracy, alpha = accuracy + own * draw.standard_normal() / 5, alpha + own * draw.standard_normal()
        first = accuracy - 0.05 if falls else accuracy + 0.01
        rows += [(name, "held_out", 0.0, 1, "accuracy", first), (name, "held_out", 0.0, 60, "accuracy", accuracy)]
        rows += [
            (name, "unperturbed", 0.0, 60, "alpha", alpha),
            (name, "unperturbed", 0.0, 60, counted, dimension * power_law_dimension(alpha, 32)),
            (name, "unperturbed", 0.0, 60, "variance_first_ten", share[layer] if isinstance(share, list) else share),
        ]
        for kind in ("layer_gaussian", "layer_fgsm"):
            for epsilon in (0.0, *EPSILONS):
                weaker = alpha - 0.1 * epsilon / (1 + layer)
                peak = (bump if kind == "layer_fgsm" else bump_in_noise) if epsilon == 0.1 else 0.0
                slope = slopes[min(layer, 2)]
                lost = (alpha - weaker) / slope if layer < straight else 50 * (alpha - weaker) ** 3
                paid = price if kind == "layer_fgsm" and epsilon else 0.0
                rows.append((name, kind, epsilon, 60, "accuracy", accuracy - lost - paid))
                if epsilon:
                    size = 35 if kind == "layer_gaussian" else 30
                    rows.append((name, kind, epsilon, 60, "alpha", weaker + peak))
                    rows.append((name, kind, epsilon, 60, counted, dimension * power_law_dimension(weaker + peak, size)))
        ranks = torch.arange(1, 41, dtype=torch.float64)
        values = ranks**-alpha * torch.where(ranks > 10, 10.0 ** -(waterfall * (layer + 1)), 1.0)
        spectrum = Eigenspectrum(values.sort(descending=True).values, 50, 40, 40, "covariance")
        spectra.append(SpectrumRecord(name, "unperturbed", 0.0, spectrum))
    rows += [
        (f"layers.{layer}", "stimuli", count, 60, "alpha_stderr", fluctuation * spread * 2000 / count)
        for layer in range(8)
        for count in (500, 2000)
    ]
    return CellRecord(plan, pd.DataFrame(rows, columns=ROW), spectra)


def upside_down(record):
    """Deeper layers as robust as shallow ones were."""
    swapped = record.rows["layer"].map(lambda layer: f"layers.{7 - int(layer[-1])}")
    noisy = record.rows["perturbation"] == "layer_gaussian"
    return replace(record, rows=record.rows.assign(layer=record.rows["layer"].mask(noisy, swapped)))


def untouched(record):
    """The same record, but that noise changes nothing."""
    rows = record.rows
    noisy = rows["perturbation"] == "layer_gaussian"
    first = {"accuracy": rows[noisy & (rows["strength"] == 0)], "alpha": rows[rows["perturbation"] == "unperturbed"]}
    for quantity, own in first.items():
        values = own[own["quantity"] == quantity].set_index("layer")["value"]
        replaced = noisy & (rows["quantity"] == quantity)
        rows = rows.assign(value=rows["value"].mask(replaced, rows["layer"].map(values)))
    return replace(record, rows=rows)


def still_rising(record):
    """The same record, but that α under FGSM is highest at a strong ε, before it falls."""
    rows = record.rows
    strong = (rows["perturbation"] == "layer_fgsm") & (rows["quantity"] == "alpha") & (rows["strength"] == 2.0)
    return replace(record, rows=rows.assign(value=rows["value"].mask(strong, rows["value"] + 0.5)))


def nets(count=6, **options):
    return [jiang(seed, **options) for seed in range(count)]


def gerum(
    seed, beta, target, *, weak_gain=0.002, strong_gain=-0.005, best=3.0, slope=0.05, strong_first=True, baseline_alpha=1.5
):
    """A shallow MLP as the paper describes it."""
    plan = load("gerum2022.fig2").blocks[0].plan
    for name, value in (("seed", seed), ("beta", beta), ("target", target)):
        plan = with_field(plan, f"member.{name}", value)
    alpha = target if beta else baseline_alpha
    accuracy = 0.940 + 0.0001 * seed
    if beta == 0.1:
        accuracy += weak_gain - 0.001 * max(2 * (best - target), 0.3 * (target - best))
    if beta == 1:
        accuracy += strong_gain
    rows = [("tanh1", "held_out", 0.0, 50, "accuracy", accuracy)]
    quick = beta == 1 if strong_first else beta == 0.1
    for epoch in range(1, 51):
        reached = min(1.0, epoch / (5 if quick else 20))
        rows.append(("tanh1", "training", 0.0, epoch, "alpha", baseline_alpha + reached * (alpha - baseline_alpha)))
    for epsilon in (0.01, 0.03, 0.05, 0.1, 0.15):
        for kind in ("fgsm", "pgd"):
            value = 0.9 - 4 * epsilon + slope * (alpha - baseline_alpha) * (0.5 + beta)
            rows.append(("", kind, epsilon, 50, "accuracy", value))
    spectrum = Eigenspectrum(torch.arange(1, 101, dtype=torch.float64) ** -alpha, 3000, 100, 3000, "covariance")
    return CellRecord(plan, pd.DataFrame(rows, columns=ROW), [SpectrumRecord("tanh1", "unperturbed", 0.0, spectrum)])


def mlps(**options):
    cells = [(0.0, 1.0), *((beta, target) for beta in (0.1, 1.0) for target in (0.6, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0))]
    return [gerum(seed, beta, target, **options) for seed in range(3) for beta, target in cells]


def deep(figure, *, best_beta=0.1, best_alpha=2.0, falls=True, helps=True, lost=(), fgsm=1.0, sharp=0.01):
    """Networks of Fig. 3 whose accuracy and robustness have their best where they are told; the penalty's gain under FGSM."""
    base = load(f"gerum2022.{figure}").blocks[0].plan
    best_accuracy = 0.6 if figure == "fig3g" else 3.0
    records = []
    for seed in range(3):
        for beta, target in [(0.0, 1.0), *((beta, target) for beta in (0.1, 1.0) for target in (0.6, 1.0, 2.0, 3.0, 4.0))]:
            plan = base
            for name, value in (("seed", seed), ("beta", beta), ("target", target)):
                plan = with_field(plan, f"member.{name}", value)
            accuracy = 0.95 + 0.001 * seed + (0.01 if beta == best_beta else 0) - 0.002 * abs(target - best_accuracy)
            if figure == "fig3d":
                accuracy = 0.95 + 0.001 * seed - (0.005 if falls else -0.005) * target
            robust = 0.3 + 0.01 * seed - (sharp * abs(target - best_alpha) if beta else 0.03)
            gains = {"fgsm": fgsm * (0.1 if helps else -0.1) * beta, "pgd": (0.1 if helps else -0.1) * beta}
            rows = [("tanh3", "held_out", 0.0, 50, "accuracy", accuracy)]
            rows += [("tanh3", "training", 0.0, 50, "alpha", target if beta else 1.4)] if (beta, target) not in lost else []
            rows += [
                ("", kind, epsilon, 50, "accuracy", robust + gain)
                for kind, gain in gains.items()
                for epsilon in (0.01, 0.05, 0.1)
            ]
            records.append(CellRecord(plan, pd.DataFrame(rows, columns=ROW)))
    return records


def to_target(last, **options):
    """Shallow networks with targets up to one."""
    return [record for record in mlps(**options) if record.plan.member.target <= last]


def never_reached():
    """Strong networks that do not come near the targets of 2 and more, which weak ones reach."""
    records = mlps()
    for number, record in enumerate(records):
        if record.plan.member.beta == 1.0 and record.plan.member.target >= 2:
            training = record.rows["perturbation"] == "training"
            records[number] = replace(record, rows=record.rows.assign(value=record.rows["value"].mask(training, 1.5)))
    return records


def schaeffer(seed, covariance=0.0, jacobian=0.0, kind="column_sum", *, alpha=1.5, robust=0.3, conditions=(), apart=-1.0):
    """A CIFAR-10 network; noise alone gives it spectra whose intercept is so many decades from that of noisy images."""
    plan = load("schaeffer2020.fig7").blocks[0].plan
    for name, value in (("member.seed", seed), ("member.covariance", covariance), ("member.jacobian", jacobian)):
        plan = with_field(plan, name, value)
    plan = with_field(plan, "training.jacobian.kind", kind)
    rows = [
        ("relu4", "unperturbed", 0.0, 5, "alpha", alpha + 0.01 * seed),
        ("relu4", "unperturbed", 0.0, 5, "total_variance", alpha),
    ]
    rows += [("", "pgd", 4 / 255, 5, "accuracy", robust + 0.001 * seed), ("", "pgd", 8 / 255, 5, "accuracy", 0.0)]
    rows.append(("relu4", "held_out", 0.0, 5, "accuracy", 0.6))
    rows += [("relu4", name, strength, 5, "alpha", value) for name, strength, value in conditions]
    spectra = [SpectrumRecord("relu4", "unperturbed", 0.0, _law(alpha, 5 * alpha))]
    spectra += [
        SpectrumRecord("relu4", name, strength, _law(value, apart if name in NOISE_ALONE else 0.0))
        for name, strength, value in conditions
    ]
    return CellRecord(plan, pd.DataFrame(rows, columns=ROW), spectra)


def _law(alpha, intercept):
    """A power law of 400 units; the intercept in decades."""
    ranks = torch.arange(1, 401, dtype=torch.float64)
    return Eigenspectrum(10**intercept * ranks**-alpha, 3000, 400, 3000, "covariance")


def grid(falling=True, follows=False, plain=1.5):
    cells = [(c1, c2, "column_sum") for c1 in (0.0, 0.01, 0.05, 0.1) for c2 in (0.0, 0.5, 1.0, 3.0)]
    cells += [(0.0, c2, kind) for kind in ("exact", "projected") for c2 in (0.5, 1.0, 3.0)]
    strengths = (0.0, 0.5, 1.0, 3.0)
    unrelated = [dict(zip(strengths, ranks, strict=True)) for ranks in ((3, 2, 1, 4), (2, 3, 4, 1))]  # correlations of 0.2, -0.2
    return [
        schaeffer(
            seed,
            c1,
            c2,
            kind,
            alpha=plain - (2 if falling else -2) * c1 + 1e-4 * c2,
            robust=0.3 + (0.002 * c2 + 3 * c1 if follows else 0.01 * unrelated[(seed + round(100 * c1)) % 2][c2]),
        )
        for seed in range(3)
        for c1, c2, kind in cells
    ]


def on_sets(seed, alphas, *, budget=0.0, shift=0.0):
    """A network read on the four data sets that networks make."""
    record = schaeffer(seed, conditions=[(name, 0.0, alpha) for name, alpha in zip(MADE, alphas, strict=True)])
    plan = with_field(record.plan, "training.adversarial.epsilon", budget)
    ranks = torch.arange(1, 401, dtype=torch.float64)
    spectra = [
        SpectrumRecord("relu4", name, 0.0, Eigenspectrum(10 ** (shift * number) * ranks**-alpha, 3000, 400, 3000, "covariance"))
        for number, (name, alpha) in enumerate(zip(MADE, alphas, strict=True))
    ]
    return replace(record, plan=plan, spectra=spectra)


def released(alphas, **options):
    """Networks read on the released sets, beside one of the library's."""
    return [*(on_sets(seed, alphas, **options) for seed in range(3)), *library(*alphas)]


def library(*alphas):
    """The Robustness library's networks read on the four sets, the usual one first."""
    records = []
    for number, plan in enumerate(load("schaeffer2020.released").blocks[1].cells()):
        rows = [("relu4", name, 0.0, 0, "alpha", alpha + 0.01 * number) for name, alpha in zip(MADE, alphas, strict=True)]
        records.append(CellRecord(plan, pd.DataFrame(rows, columns=ROW)))
    return records


def without(record, perturbation):
    return replace(record, rows=record.rows[record.rows["perturbation"] != perturbation])


def at_another_layer(record):
    """The same record, read at one more layer."""
    return replace(record, rows=pd.concat([record.rows, record.rows[record.rows["layer"] == "relu4"].assign(layer="relu3")]))


def imagenet(*alphas, models=()):
    """The ImageNet networks of Fig. 2, or others."""
    plans = load("schaeffer2020.fig2").cells()
    plans = [with_field(plans[0], "network.model", model) for model in models] or plans
    rows = [[("fc", "unperturbed", 0.0, 0, "alpha", alpha)] for alpha in alphas]
    return [CellRecord(plan, pd.DataFrame(own, columns=ROW)) for plan, own in zip(plans, rows, strict=False)]


PAPERS_INPUTS = (
    ("pca", 8, 1.21),
    ("pca", 4, 1.20),
    ("pca", 1, 1.20),
    ("zca", 0.01, 1.51),
    ("gaussian", 0.5, 1.2),
    ("grey_noise", 0.5, 1.22),
    ("pure_noise", 0.5, 1.25),
)


NOISE_IS_STEEPER = (*PAPERS_INPUTS[:-2], ("grey_noise", 0.5, 1.6), ("pure_noise", 0.5, 1.5))
"""Noise alone does to a CIFAR-10 network what the paper saw on ImageNet alone."""


ONE_MEAN_IS_STEEPER = (*PAPERS_INPUTS[:-1], ("pure_noise", 0.5, 1.5))
"""Noise of mean 0.5 is like noisy images, noise of mean 0 is not."""


def resnet(*, gaussian, pure_noise, grey_noise=None, model="torchvision:resnet50"):
    """The ImageNet network of Fig. 3, or another in its place."""
    (plan,) = load("schaeffer2020.fig3_imagenet").cells()
    plan = with_field(plan, "network.model", model)
    noise = {kind: (0.5, alpha) for kind, alpha in (("pure_noise", pure_noise), ("grey_noise", grey_noise or pure_noise))}
    under = {"unperturbed": (0.0, 1.4), "gaussian": (0.5, gaussian), **noise}
    rows = [("fc", name, strength, 0, "alpha", alpha) for name, (strength, alpha) in under.items()]
    return CellRecord(plan, pd.DataFrame(rows, columns=ROW))
