"""Each check is given results in which its finding is plain, and results in which it is not."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from eigencode.spectra import Eigenspectrum, power_law_dimension
from eigencode.studies import Block, Evidence, Store, Study, load
from eigencode.studies.claims import Claim, Published, interval, rank_correlation
from eigencode.studies.doubts import doubts
from eigencode.studies.evidence import NotTestedError
from eigencode.studies.judging import claims_of, figures_of, mixture, part, published_of, study_record
from eigencode.studies.papers import gerum2022_claims, jiang2020_claims, schaeffer2020_claims
from eigencode.studies.reading import ROW, SpectrumRecord
from eigencode.studies.running import CellRecord
from eigencode.studies.study import MADE, Perturbed, with_field
from eigencode.studies.tables import perturbed_tables


def evidence(records, folder):
    store = Store(folder / "store.sqlite")
    store.save(records)
    return Evidence(store, [record.plan for record in records])


def judged(claims, name, found):
    return next(claim for claim in claims if claim.name == name).judged(found).verdict


def test_interval_is_students():
    found = interval([1.0, 2.0, 3.0, np.nan])
    assert (found.mean, found.count) == (2.0, 3)
    assert found.low == pytest.approx(2 - 4.302653 / 3**0.5, rel=1e-6)
    assert not found.above_zero
    assert np.isnan(interval([1.0]).low)
    assert rank_correlation(pd.DataFrame([[1, 2, 3], [2, 4, 9]])).mean == 1


@pytest.mark.parametrize(
    ("low", "high", "values", "difference"),
    [(0.93, 0.95, [0.96, 0.98], "+0.020"), (0.93, 0.95, [0.94], "+0.000"), (1.2, None, [1.0], "-0.200"), (1.2, None, [], "")],
)
def test_published_numbers_are_told_with_their_difference(low, high, values, difference):
    told = Published("accuracy", "fig2", low, high, lambda _: pd.Series(values, dtype=float)).compared(
        SimpleNamespace(ranks=None)
    )
    assert told["difference"] == difference
    assert told["paper"] == (f"{low:g} to {high:g}" if high else f"{low:g}")
    assert (told["here"] == "not measured") == (not values)


ACCURACIES = [0.978, 0.981, 0.980, 0.980, 0.979, 0.979, 0.979, 0.978]
ALPHAS = [0.85, 0.98, 1.05, 1.10, 1.12, 1.15, 1.2, 1.25]
EPSILONS = (0.1, 0.5, 1.0, 2.0, 3.0)


def jiang(
    seed, *, accuracies=ACCURACIES, alphas=ALPHAS, width=200, spread=0.001, bump=0.1, dimension=1.0, falls=True, waterfall=True
):
    """A network as the paper describes it, with some noise of its own."""
    draw = np.random.default_rng([seed, width])
    plan = with_field(with_field(load("jiang2020.fig6").blocks[0].plan, "member.seed", seed), "network.options.width", width)
    rows, spectra = [], []
    for layer, (accuracy, alpha) in enumerate(zip(accuracies, alphas, strict=True)):
        name = f"layers.{layer}"
        accuracy, alpha = accuracy + spread * draw.standard_normal() / 5, alpha + spread * draw.standard_normal()
        first = accuracy - 0.05 if falls else accuracy + 0.01
        rows += [(name, "held_out", 0.0, 1, "accuracy", first), (name, "held_out", 0.0, 60, "accuracy", accuracy)]
        rows += [
            (name, "unperturbed", 0.0, 60, "alpha", alpha),
            (name, "unperturbed", 0.0, 60, "dimension", dimension * power_law_dimension(alpha, 32)),
            (name, "unperturbed", 0.0, 60, "variance_first_ten", 0.93 + 0.04 * (layer > 1)),
        ]
        for kind in ("layer_gaussian", "layer_fgsm"):
            for epsilon in (0.0, *EPSILONS):
                weaker = alpha - 0.3 * epsilon / (1 + layer)
                peak = bump if kind == "layer_fgsm" and epsilon == 0.1 else 0.0
                read = accuracy - 0.3 * (alpha - weaker) + 0.5 * peak
                rows.append((name, kind, epsilon, 60, "accuracy", read))
                if epsilon:
                    size = 35 if kind == "layer_gaussian" else 30
                    rows.append((name, kind, epsilon, 60, "alpha", weaker + peak))
                    rows.append((name, kind, epsilon, 60, "dimension", dimension * power_law_dimension(weaker + peak, size)))
        ranks = torch.arange(1, 41, dtype=torch.float64)
        values = ranks**-alpha * torch.where(ranks > 10, 10.0 ** -(0.1 * (layer + 1) if waterfall else 0.0), 1.0)
        spectrum = Eigenspectrum.from_activations(torch.randn(50, 40), half_samples=0)
        spectra.append(SpectrumRecord(name, "unperturbed", 0.0, replace(spectrum, eigenvalues=values)))
    rows += [
        (f"layers.{layer}", "stimuli", count, 60, "alpha_stderr", 20 * spread * 100 / count)
        for layer in range(8)
        for count in (500, 2000)
    ]
    return CellRecord(plan, pd.DataFrame(rows, columns=ROW), spectra)


def upside_down(record):
    """Deeper layers as robust as shallow ones were."""
    swapped = record.rows["layer"].map(lambda layer: f"layers.{7 - int(layer[-1])}")
    noisy = record.rows["perturbation"] == "layer_gaussian"
    return replace(record, rows=record.rows.assign(layer=record.rows["layer"].mask(noisy, swapped)))


def nets(count=6, **options):
    return [jiang(seed, **options) for seed in range(count)]


@pytest.mark.parametrize(
    ("name", "records", "verdict"),
    [
        ("J1", nets(), "holds"),
        ("J1", nets(falls=False), "does not hold"),
        ("J1", nets(accuracies=sorted(ACCURACIES)), "does not hold"),
        ("J2", nets(), "holds"),
        ("J2", nets(waterfall=False), "does not hold"),
        ("J3", [*nets(), *nets(width=50, spread=0.02)], "holds"),
        ("J3", [*nets(spread=0.02), *nets(width=50)], "does not hold"),
        ("J3", nets(), "not tested"),
        ("J4", nets(), "holds"),
        ("J4", nets(alphas=ALPHAS[::-1]), "does not hold"),
        ("J5", nets(), "holds"),
        ("J5", nets(accuracies=ACCURACIES[::-1]), "does not hold"),
        ("J5", nets(count=1), "not tested"),
        ("J6", nets(), "holds"),
        ("J6", [upside_down(record) for record in nets()], "does not hold"),
        ("J7", nets(alphas=[alpha + 1 for alpha in ALPHAS]), "not tested"),
        ("J7", nets(), "holds"),
        ("J7", nets(spread=0.2), "does not hold"),
        ("J8", nets(), "holds"),
        ("J8", nets(bump=0.0), "does not hold"),
        ("J9", nets(), "holds"),
        ("J9", nets(dimension=2.0), "does not hold"),
        ("J10", nets(), "holds"),
        ("J10", nets(spread=0.1), "does not hold"),
    ],
)
def test_jiang(name, records, verdict, tmp_path):
    assert judged(jiang2020_claims.CLAIMS, name, evidence(records, tmp_path)) == verdict


def gerum(seed, beta, target, *, weak_gain=0.004, slope=0.05, strong_first=True, baseline_alpha=1.5):
    """A shallow MLP as the paper describes it."""
    plan = load("gerum2022.fig2").blocks[0].plan
    for name, value in (("seed", seed), ("strength", beta), ("target", target)):
        plan = with_field(plan, f"member.{name}", value)
    alpha = target if beta else baseline_alpha
    accuracy = 0.940 + 0.0001 * seed
    if beta == 0.1:
        accuracy += weak_gain - 0.001 * abs(target - 3)
    if beta == 1:
        accuracy -= 0.005
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


def deep(figure, *, best_beta=0.1, best_alpha=2.0, falls=True, helps=True, lost=()):
    """Networks of Fig. 3 whose accuracy and robustness have their best where they are told."""
    base = load(f"gerum2022.{figure}").blocks[0].plan
    best_accuracy = 0.6 if figure == "fig3g" else 3.0
    records = []
    for seed in range(2):
        for beta, target in [(0.0, 1.0), *((beta, target) for beta in (0.1, 1.0) for target in (0.6, 1.0, 2.0, 3.0, 4.0))]:
            plan = base
            for name, value in (("seed", seed), ("strength", beta), ("target", target)):
                plan = with_field(plan, f"member.{name}", value)
            accuracy = 0.95 + 0.001 * seed + (0.01 if beta == best_beta else 0) - 0.002 * abs(target - best_accuracy)
            if figure == "fig3d":
                accuracy = 0.95 + 0.001 * seed - (0.005 if falls else -0.005) * target
            robust = 0.3 + 0.01 * seed + (0.1 * beta if helps else -0.1 * beta) - 0.01 * abs(target - best_alpha)
            rows = [("tanh3", "held_out", 0.0, 50, "accuracy", accuracy)]
            rows += [("tanh3", "training", 0.0, 50, "alpha", target if beta else 1.4)] if (beta, target) not in lost else []
            rows += [("", kind, epsilon, 50, "accuracy", robust) for kind in ("fgsm", "pgd") for epsilon in (0.01, 0.05, 0.1)]
            records.append(CellRecord(plan, pd.DataFrame(rows, columns=ROW)))
    return records


def to_target(last, **options):
    """Shallow networks with targets up to one."""
    return [record for record in mlps(**options) if record.plan.member.target <= last]


def never_reached():
    """Strong networks that do not come near the targets of 2 and more, which weak ones reach."""
    records = mlps()
    for number, record in enumerate(records):
        if record.plan.member.strength == 1.0 and record.plan.member.target >= 2:
            training = record.rows["perturbation"] == "training"
            records[number] = replace(record, rows=record.rows.assign(value=record.rows["value"].mask(training, 1.5)))
    return records


@pytest.mark.parametrize(
    ("name", "records", "verdict"),
    [
        ("G1", mlps(), "holds"),
        ("G1", [record for record in mlps() if record.plan.member.target != 3], "not tested"),
        ("G1", to_target(2.0), "not tested"),
        ("G2", to_target(2.0), "not tested"),
        ("G4", to_target(2.0), "not tested"),
        ("G2", [record for record in mlps() if record.plan.member.seed or record.plan.member.target != 2], "holds"),
        ("G2", [record for record in mlps() if record.plan.member.seed == 1 or record.plan.member.target != 2], "not tested"),
        ("G3", never_reached(), "does not hold"),
        ("G5", deep("fig3a"), "holds"),
        ("G5", deep("fig3a", best_beta=1.0), "does not hold"),
        ("G5", deep("fig3a", best_alpha=4.0), "does not hold"),
        ("G5", deep("fig3a", lost=[(0.1, 3.0)]), "not tested"),
        ("G7", deep("fig3g", best_alpha=3.0, lost=[(0.1, 0.6)]), "not tested"),
        ("G6", deep("fig3d"), "holds"),
        ("G6", deep("fig3d", falls=False), "does not hold"),
        ("G6", deep("fig3d", helps=False), "does not hold"),
        ("G6", deep("fig3d", lost=[(1.0, 2.0)]), "not tested"),
        ("G7", deep("fig3g", best_alpha=3.0), "holds"),
        ("G7", deep("fig3g", best_alpha=3.0, best_beta=1.0), "does not hold"),
        ("G7", deep("fig3g", best_alpha=1.0), "does not hold"),
        ("G7", [record for record in deep("fig3g") if record.plan.member.target != 0.6], "not tested"),
        ("G1", mlps(weak_gain=-0.004), "does not hold"),
        ("G1", mlps(weak_gain=0.02), "does not hold"),
        ("G2", mlps(), "holds"),
        ("G2", mlps(slope=-0.05), "does not hold"),
        ("G3", mlps(), "holds"),
        ("G3", mlps(strong_first=False), "does not hold"),
        ("G4", mlps(), "holds"),
        ("G4", mlps(slope=-0.05), "does not hold"),
        ("G5", mlps(), "not tested"),
        ("G8", mlps(), "holds"),
        ("G8", mlps(baseline_alpha=2.1, slope=0.5), "does not hold"),
        ("G8", mlps(baseline_alpha=2.5), "not tested"),
    ],
)
def test_gerum(name, records, verdict, tmp_path):
    assert judged(gerum2022_claims.CLAIMS, name, evidence(records, tmp_path)) == verdict


def schaeffer(seed, covariance=0.0, jacobian=0.0, kind="column_sum", *, alpha=1.5, robust=0.3, conditions=()):
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
    ranks = torch.arange(1, 401, dtype=torch.float64)
    spectrum = Eigenspectrum(alpha * ranks**-1.0, 3000, 400, 3000, "covariance")
    return CellRecord(plan, pd.DataFrame(rows, columns=ROW), [SpectrumRecord("relu4", "unperturbed", 0.0, spectrum)])


def grid(falling=True, follows=False):
    cells = [(c1, c2, "column_sum") for c1 in (0.0, 0.01, 0.1) for c2 in (0.0, 0.5, 1.0, 3.0)]
    cells += [(0.0, c2, kind) for kind in ("exact", "projected") for c2 in (0.5, 1.0, 3.0)]
    draw = np.random.default_rng(0)
    return [
        schaeffer(
            seed,
            c1,
            c2,
            kind,
            alpha=1.5 - (2 if falling else -2) * c1,
            robust=0.3 + (0.02 * c2 + 3 * c1 if follows else 0.01 * draw.standard_normal()),
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


def without(record, perturbation):
    return replace(record, rows=record.rows[record.rows["perturbation"] != perturbation])


def at_another_layer(record):
    """The same record, read at one more layer."""
    return replace(record, rows=pd.concat([record.rows, record.rows[record.rows["layer"] == "relu4"].assign(layer="relu3")]))


def imagenet(*alphas):
    plans = load("schaeffer2020.fig2").cells()
    rows = [[("fc", "unperturbed", 0.0, 0, "alpha", alpha)] for alpha in alphas]
    return [CellRecord(plan, pd.DataFrame(own, columns=ROW)) for plan, own in zip(plans, rows, strict=False)]


PAPERS_INPUTS = (
    ("pca", 8, 1.21),
    ("pca", 4, 1.20),
    ("pca", 1, 1.20),
    ("zca", 0.01, 1.51),
    ("gaussian", 0.5, 1.2),
    ("pure_noise", 0.5, 1.3),
)


@pytest.mark.parametrize(
    ("name", "records", "verdict"),
    [
        ("S1", grid(), "not tested"),
        ("S1", imagenet(*[1.4] * 11), "holds"),
        ("S1", imagenet(*[1.4] * 10, 0.9), "does not hold"),
        ("S1", imagenet(*[1.4] * 10), "not tested"),
        ("S4", [on_sets(seed, [1.5] * 4) for seed in range(3)], "holds"),
        ("S4", [on_sets(seed, [1.5] * 4, shift=0.2) for seed in range(3)], "does not hold"),
        ("S4", [on_sets(seed, [0.9] * 4) for seed in range(3)], "does not hold"),
        ("S4", grid(), "not tested"),
        ("S5", [on_sets(seed, [4, 4.1, 4.2, 4], budget=budget) for seed in range(3) for budget in (0.0, 1.0)], "holds"),
        ("S5", [on_sets(seed, [1.5] * 4, budget=budget) for seed in range(3) for budget in (0.0, 1.0)], "does not hold"),
        ("S5", [on_sets(seed, [4.0] * 4) for seed in range(3)], "not tested"),
        ("S2", [schaeffer(seed, alpha=1.03, conditions=PAPERS_INPUTS) for seed in range(3)], "holds"),
        ("S2", [schaeffer(seed, alpha=1.25, conditions=PAPERS_INPUTS) for seed in range(3)], "does not hold"),
        ("S3", [schaeffer(0, alpha=1.03, conditions=PAPERS_INPUTS)], "not tested"),
        ("S4", [without(on_sets(seed, [1.5] * 4), MADE[seed]) for seed in range(3)], "not tested"),
        ("S6", [record for record in grid() if record.plan.member.seed == 0], "not tested"),
        ("S3", [schaeffer(seed, alpha=1.03, conditions=PAPERS_INPUTS) for seed in range(3)], "holds"),
        ("S3", [schaeffer(seed, alpha=1.5, conditions=PAPERS_INPUTS) for seed in range(3)], "does not hold"),
        ("S3", grid(), "not tested"),
        ("S6", grid(), "holds"),
        ("S6", grid(falling=False), "does not hold"),
        ("S7", grid(), "holds"),
        ("S7", grid(follows=True), "does not hold"),
        ("S7", [record for record in grid(follows=True) if record.plan.training.jacobian.kind == "column_sum"], "does not hold"),
        ("S7", [record for record in grid() if record.plan.member.jacobian == 0], "not tested"),
        ("S8", [at_another_layer(record) for record in grid()], "not tested"),
        ("S8", grid(), "holds"),
        ("S8", grid(follows=True), "does not hold"),
    ],
)
def test_schaeffer(name, records, verdict, tmp_path):
    assert judged(schaeffer2020_claims.CLAIMS, name, evidence(records, tmp_path)) == verdict


@pytest.mark.parametrize(
    ("missing", "needs"), [(3, "more of its cells to be finished"), (0, "other networks or readings than these")]
)
def test_what_a_claim_lacks_is_told(missing, needs):
    claim = Claim("X", "fig", "", lambda found: found.rows["nowhere"])
    some = pd.DataFrame({"cell": ["a"]})
    finding = claim.judged(SimpleNamespace(ranks=None, missing=missing, rows=pd.DataFrame(), cells=some))
    assert (finding.verdict, finding.found) == ("not tested", f"needs {needs} (KeyError: 'nowhere')")
    finding = claim.judged(SimpleNamespace(ranks=None, missing=missing, rows=pd.DataFrame(), cells=some[:0]))
    assert finding.found == "needs networks of fig; none is finished here"


def test_the_network_that_stands_best_is_named(tmp_path):
    claim = next(each for each in schaeffer2020_claims.CLAIMS if each.name == "S7")
    found = claim.judged(evidence(grid(follows=True), tmp_path)).found
    assert found.endswith("most accurate with c1 = 0.1, c2 = 3.0: 0.661 (paper: c1 = 0.01, c2 = 0)")


def test_networks_without_an_exponent_are_named(tmp_path):
    records = [on_sets(seed, [4.0] * 4, budget=budget) for seed in range(2) for budget in (0.0, 0.25, 1.0)]
    variances = pd.DataFrame([("relu4", name, 0.0, 5, "total_variance", 1.0) for name in MADE], columns=ROW)
    records = [replace(record, rows=pd.concat([record.rows, variances])) for record in records]
    records[-1] = without(records[-1], "robust")
    records[-1] = replace(records[-1], rows=pd.concat([records[-1].rows, variances[variances["perturbation"] == "robust"]]))
    claim = next(each for each in schaeffer2020_claims.CLAIMS if each.name == "S5")
    found = claim.judged(evidence(records, tmp_path)).found
    assert found.endswith("networks whose code has no variance left at the last rank of the fit: l2 1 (1 of 2)")


def test_a_whole_paper_is_judged_figure_by_figure(tmp_path):
    """Networks of Fig. 7 are trained for fewer epochs than those of Fig. 3, and are like them in all else."""
    longer = load("schaeffer2020.fig3").blocks[0].plan
    conditions = (("gaussian", 0.5, 1.5), ("pure_noise", 0.5, 1.6))
    records = grid()
    records += [
        replace(schaeffer(seed, alpha=1.1, conditions=conditions), plan=with_field(longer, "member.seed", seed))
        for seed in range(3)
    ]
    store = Store(tmp_path / "store.sqlite")
    store.save(records)

    def claims(name, ranks):
        study = load(name)
        found = Evidence(store, study.cells())
        record = study_record(study, found.over(ranks) if ranks else found, configuration={})
        return {claim["claim"]: claim for claim in record["claims"] if claim["verdict"] != "not tested"}

    for ranks in (None, (10, 100)):
        whole = claims("schaeffer2020", ranks)
        parts = [claims(f"schaeffer2020.{figure}", ranks) for figure in ("fig3", "fig7", "fig8")]
        assert whole == parts[0] | parts[1] | parts[2]
        assert {"S6", "S7"} <= set(whole)


def test_a_figure_of_a_whole_paper_keeps_its_own_ranks(tmp_path):
    store = Store(tmp_path / "store.sqlite")
    store.save(mlps())

    def claims(name):
        study = load(name)
        record = study_record(study, Evidence(store, study.cells()).over((6, 50)), configuration={})
        return {claim["claim"]: claim for claim in record["claims"] if claim["figure"] == "fig2d"}

    assert claims("gerum2022") == claims("gerum2022.fig2d")
    assert claims("gerum2022")["G3"]["verdict"] == "holds"


def test_a_paper_without_a_figure_has_nothing_for_its_claims(tmp_path):
    whole = load("schaeffer2020")
    longer = load("schaeffer2020.fig3").blocks[0].plan
    store = Store(tmp_path / "store.sqlite")
    store.save([replace(schaeffer(seed), plan=with_field(longer, "member.seed", seed)) for seed in range(3)])
    part = replace(whole, blocks=tuple(block for block in whole.blocks if "fig3" in block.figures))
    record = study_record(part, Evidence(store, part.cells()), configuration={})
    verdicts = {claim["claim"]: claim["verdict"] for claim in record["claims"]}
    assert {verdicts[name] for name in ("S5", "S6", "S7", "S8")} == {"not tested"}
    assert record["published"][-1]["here"] == "not measured"


def test_the_last_epoch_is_that_of_the_network(tmp_path):
    record = gerum(0, 1.0, 2.0)
    lost = record.rows[(record.rows["quantity"] != "alpha") | (record.rows["epoch"] <= 10)]
    found = evidence([replace(record, rows=lost)], tmp_path)
    assert found.select("alpha", perturbation="training").empty
    assert len(found.select("alpha", perturbation="training", epoch=None)) == 10


def test_two_readings_of_a_network_are_two(tmp_path):
    first = gerum(0, 0.0, 1.0)
    other = replace(first, plan=with_field(first.plan, "reading.ranks", (2, 20)))
    records = [
        replace(
            record, rows=pd.concat([record.rows, pd.DataFrame([("tanh1", "unperturbed", 0.0, 50, "alpha", alpha)], columns=ROW)])
        )
        for record, alpha in ((first, 1.0), (other, 2.0))
    ]
    found = evidence(records, tmp_path)
    alphas = found.select("alpha", perturbation="unperturbed")
    assert dict(zip(alphas["reading.ranks"], alphas["value"], strict=True)) == {"6-50": 1.0, "2-20": 2.0}
    with pytest.raises(NotTestedError, match="differ in more"):
        found.table("accuracy", columns="layer", perturbation="held_out")


def test_attacks_that_are_not_to_be_trusted(tmp_path):
    records = [gerum(seed, 0.0, 1.0) for seed in range(3)]
    assert doubts(evidence(records, tmp_path), [record.plan for record in records]) == []
    strange = (records[0].rows["perturbation"] == "pgd") & (records[0].rows["strength"] == 0.1)
    records[0] = replace(records[0], rows=records[0].rows.assign(value=records[0].rows["value"] + 0.02 * strange))
    short = tuple(replace(told, steps=4) for told in records[1].plan.reading.perturbations)
    records[1] = replace(records[1], plan=with_field(records[1].plan, "reading.perturbations", short))
    (tmp_path / "store.sqlite").unlink()
    found = doubts(evidence(records, tmp_path), [record.plan for record in records])
    told = {(each["attack"], each["flag"]): each["networks"] for each in found}
    assert told == {
        ("pgd 0.1", "weaker_than_fgsm"): "1 of 3",
        ("pgd 0.05", "budget_out_of_reach"): "1 of 3",
        ("pgd 0.1", "budget_out_of_reach"): "1 of 3",
        ("pgd 0.15", "budget_out_of_reach"): "1 of 3",
    }


def test_results_under_perturbations_are_means_over_seeds(tmp_path):
    tables = perturbed_tables(evidence(mlps(), tmp_path))
    assert list(tables) == ["Accuracy"]
    table = tables["Accuracy"]
    shown = [f"{kind} {strength}" for kind in ("fgsm", "pgd") for strength in (0.01, 0.03, 0.05, 0.1, 0.15)]
    assert list(table) == ["beta", "target", *shown]
    assert table["target"].tolist()[:3] == ["–", "0.6", "1"]
    assert table["fgsm 0.05"].iloc[0] == "0.700 ± 0.000"
    nets_ = perturbed_tables(evidence(nets(2), tmp_path / "other"))
    assert list(nets_["Exponent α"])[:2] == ["layer", "layer_gaussian 0.1"]
    assert len(nets_["Accuracy"]) == 8


def test_results_of_two_data_sets_are_told_apart(tmp_path):
    tables = perturbed_tables(evidence([*deep("fig3d"), *deep("fig3g")], tmp_path))
    table = tables["Accuracy"]
    assert list(table)[:4] == ["data", "epochs", "beta", "target"]
    assert table["data"].value_counts().to_dict() == {"mnist": 11, "cifar10": 11}


def test_of_many_strengths_those_of_all_networks_are_told(tmp_path):
    def attacked(seed, strengths):
        rows = [("tanh1", "held_out", 0.0, 50, "accuracy", 0.9)]
        rows += [("", "pgd", strength, 50, "accuracy", 0.5) for strength in strengths]
        plan = with_field(load("gerum2022.fig2").blocks[0].plan, "member.seed", seed)
        return CellRecord(plan, pd.DataFrame(rows, columns=ROW))

    every = [number / 100 for number in range(1, 20)]
    (table,) = perturbed_tables(evidence([attacked(0, every)], tmp_path / "one")).values()
    assert list(table) == [f"pgd {number / 100:g}" for number in range(1, 20, 2)]
    (table,) = perturbed_tables(evidence([attacked(0, every), attacked(1, [0.05, 0.1])], tmp_path / "two")).values()
    assert list(table) == ["pgd 0.05", "pgd 0.1"]


def mixed(records, tmp_path, name):
    """What claims and figures of a paper need beyond these networks, as one study without labels; empty for nothing."""
    study = Study(name, "", tuple(Block(record.plan, seeds=(record.plan.member.seed,)) for record in records))
    return study, evidence(records, tmp_path)


@pytest.mark.parametrize(
    ("name", "base", "field", "value"),
    [
        ("gerum2022.fig2", mlps, "training.batch_size", 100),
        ("gerum2022.fig2", mlps, "training.epochs", 10),
        ("gerum2022.fig2", mlps, "member.learning_rate", 0.1),
        ("jiang2020.fig5", nets, "images.data", "digits"),
        ("jiang2020.fig5", nets, "member.learning_rate", 0.5),
    ],
)
def test_networks_that_differ_in_more_than_the_papers_are_not_averaged(name, base, field, value, tmp_path):
    records = base()
    study, found = mixed(records, tmp_path / "same", name)
    assert mixture(study, found) == ""
    others = [CellRecord(with_field(record.plan, field, value), record.rows) for record in records[:3]]
    study, found = mixed([*records, *others], tmp_path / "mixed", name)
    column = field if field not in ("training.epochs", "images.data") else field.partition(".")[2]
    assert mixture(study, found).endswith(f"; these differ in {column}")
    record = study_record(study, found, configuration={"name": name, "scale": "own", "set": ""})
    assert {claim["verdict"] for claim in record["claims"]} == {"not tested"}
    assert {row["here"] for row in record["published"]} <= {"not measured"}


def attacked_by(records, **options):
    """The records as if they had been attacked in another way, and lost more accuracy."""
    others = []
    for record in records:
        told = tuple(replace(each, **options) for each in record.plan.reading.perturbations)
        rows = record.rows.assign(
            value=record.rows["value"].where(record.rows["perturbation"] != "pgd", record.rows["value"] - 0.3)
        )
        others.append(CellRecord(with_field(record.plan, "reading.perturbations", told), rows))
    return others


def test_attacks_in_two_ways_are_told_apart(tmp_path):
    records = mlps()
    study, found = mixed([*records, *attacked_by(records, count=None)], tmp_path, "gerum2022.fig2")
    assert mixture(study, found).endswith("; these differ in reading.perturbations")
    clean = found.select("accuracy", perturbation="held_out")
    assert len(clean) == len(records)  # each network once
    attacked = found.select("accuracy", perturbation="pgd", strength=0.05)
    assert attacked["reading.perturbations"].value_counts().to_dict() == {"count 2000": 45, "all images": 45}
    assert len(attacked) == 2 * len(records)
    table = perturbed_tables(found)["Accuracy"]
    assert len(table) == 2 * 15


def test_what_is_said_of_attacks_in_two_ways_is_of_the_cell_that_made_them(tmp_path):
    """Of PGD that is weaker than FGSM in few steps, and not in many."""
    records = mlps()[:2]
    for record in records:
        record.rows.loc[record.rows["perturbation"] == "pgd", "value"] += 0.05
    few = attacked_by(records, steps=4)
    for record in few:
        record.rows.loc[record.rows["perturbation"] == "pgd", "value"] += 0.3
    both = [*few, *attacked_by(records)]
    found = doubts(evidence(both, tmp_path), [record.plan for record in both])
    assert {each["attack"] for each in found if each["flag"] == "weaker_than_fgsm"} == {
        f"pgd {strength:g}" for strength in (0.01, 0.03, 0.05, 0.1, 0.15)
    }


@pytest.mark.parametrize(
    ("told", "way"),
    [
        (Perturbed("pgd", (0.1,)), "by default"),
        (Perturbed("pgd", (0.2, 0.1), steps=40, step_size=0.01), "by default"),
        (Perturbed("pgd", (0.1,), norm="l2", step_size=0.01), "l2, step_size 0.01"),
        (Perturbed("pgd", (0.1,), spectra=False), "all images"),
        (Perturbed("robust", (0.1,), steps=1000), "by default"),
        (Perturbed("robust", (0.1,), steps=100, count=9), "count 9, steps 100"),
    ],
)
def test_ways_of_perturbing_in_words(told, way):
    assert told.way == way


def test_baselines_of_two_trainings_are_told_apart(tmp_path):
    """Their targets play no part, and so tell nothing apart."""
    records = mlps()
    others = []
    for record in records[::15]:
        plan = with_field(with_field(record.plan, "training.batch_size", 100), "member.target", 2.0)
        others.append(CellRecord(plan, record.rows.assign(value=record.rows["value"] - 0.3)))
    study, found = mixed([*records, *others], tmp_path, "gerum2022.fig2")
    assert mixture(study, found).endswith("; these differ in training.batch_size")
    table = perturbed_tables(found)["Accuracy"]
    assert table[table["beta"] == "0"]["training.batch_size"].tolist() == ["100", "2500"]


def test_one_kind_of_network_has_one_setting(tmp_path):
    """Strong networks that were trained otherwise are not compared with weak ones."""
    records = []
    for record in mlps():
        size = 100 if record.plan.member.strength == 1 else 2500
        records.append(CellRecord(with_field(record.plan, "training.batch_size", size), record.rows))
    study, found = mixed(records, tmp_path, "gerum2022.fig2")
    assert mixture(study, found).endswith("; these differ in training.batch_size")


def test_fitted_again_a_network_that_was_read_over_two_windows_is_there_once(tmp_path):
    records = mlps()
    narrow = [CellRecord(with_field(record.plan, "reading.ranks", (2, 9)), record.rows, record.spectra) for record in records]
    found = evidence([*records, *narrow], tmp_path)
    assert len(found.select("accuracy", perturbation="held_out")) == 2 * len(records)
    again = found.over((3, 30))
    assert len(again.select("accuracy", perturbation="held_out")) == len(records)
    assert "reading.ranks" not in again.rows


@pytest.mark.parametrize("scale", ["paper", "cpu", "quick"])
@pytest.mark.parametrize("paper", ["jiang2020", "gerum2022", "schaeffer2020", "demo"])
def test_no_shipped_study_mixes_networks(paper, scale, tmp_path):
    rows = pd.DataFrame([("", "held_out", 0.0, 1, "accuracy", 1.0)], columns=ROW)
    for name in [paper, *figures_of(load(paper, scale))]:
        study = load(name if name.partition(".")[2] not in ("spectra", "outcome") else paper, scale)
        store = Store(tmp_path / f"{name}.sqlite")
        store.save([CellRecord(plan, rows) for plan in study.cells()])
        found = Evidence(store, study.cells())
        parts = [(claim.figure, *claim.also) for claim in claims_of(study)]
        parts += [(each.figure,) for each in published_of(study)]
        parts += [(each.partition(".")[2],) for each in figures_of(study)]
        assert [figures for figures in parts if mixture(study, part(study, found, *figures))] == []
