"""Each check is given results in which its finding is plain, and results in which it is not."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from eigencode.errors import StudyError
from eigencode.papers.gerum2022 import claims as gerum2022_claims
from eigencode.papers.gerum2022 import stated as gerum2022_stated
from eigencode.papers.jiang2020 import claims as jiang2020_claims
from eigencode.papers.jiang2020 import stated as jiang2020_stated
from eigencode.papers.schaeffer2020 import claims as schaeffer2020_claims
from eigencode.perturbations.specification import MADE
from eigencode.studies import Store, StudyResults, load
from eigencode.studies.cell import with_field
from eigencode.studies.execution.readout import ROW
from eigencode.studies.results.claim import Claim, StatedNumber
from eigencode.studies.results.judging import study_record
from eigencode.studies.results.statistics import (
    Paired,
    correlation,
    interval,
    jackknife,
    kleene_and,
    kleene_nor,
    kleene_or,
    rank_correlation,
)
from eigencode.studies.results.table import NotTestedError
from paper_networks import (
    ACCURACIES,
    ALPHAS,
    NOISE_IS_STEEPER,
    PAPERS_INPUTS,
    at_another_layer,
    by_a_little,
    deep,
    evidence,
    gerum,
    grid,
    imagenet,
    mlps,
    nets,
    never_reached,
    on_sets,
    peaks_apart,
    resnet,
    schaeffer,
    to_target,
    upside_down,
    without,
)

BOTH = [*(schaeffer(seed, alpha=1.03, conditions=PAPERS_INPUTS) for seed in range(3)), resnet(gaussian=1.7, pure_noise=1.8)]


def told_by(member):
    return member.seed, member.beta, member.target


def judged(claims, name, found):
    return next(claim for claim in claims if claim.name == name).judged(found).verdict


def test_interval_is_students():
    found = interval([1.0, 2.0, 3.0, np.nan])
    assert (found.mean, found.count) == (2.0, 3)
    assert found.low == pytest.approx(2 - 4.302653 / 3**0.5, rel=1e-6)
    assert (found.above(), found.below(), found.above(-3), found.below(-3), found.within(5)) == (None, None, True, False, True)
    assert found.above(2 + 4.31 / 3**0.5) is False
    assert np.isnan(interval([1.0]).low)
    assert rank_correlation(pd.DataFrame([[1, 2, 3], [2, 4, 9]])).mean == 1


@pytest.mark.parametrize(
    ("low", "high", "values", "difference"),
    [(0.93, 0.95, [0.96, 0.98], "+0.020"), (0.93, 0.95, [0.94], "+0.000"), (1.2, None, [1.0], "-0.200"), (1.2, None, [], "")],
)
def test_published_numbers_are_told_with_their_difference(low, high, values, difference):
    told = StatedNumber("accuracy", "fig2", low, high, lambda _: pd.Series(values, dtype=float)).compared(
        SimpleNamespace(ranks=None)
    )
    assert told["difference"] == difference
    assert told["paper"] == (f"{low:g} to {high:g}" if high else f"{low:g}")
    assert (told["here"] == "not measured") == (not values)


@pytest.mark.parametrize(
    ("name", "records", "verdict"),
    [
        ("J1", lambda: nets(), "holds"),
        ("J1", lambda: nets(falls=False), "does not hold"),
        ("J1", lambda: nets(accuracies=sorted(ACCURACIES)), "does not hold"),
        ("J2", lambda: nets(), "holds"),
        ("J2", lambda: nets(waterfall=False), "does not hold"),
        ("J3", lambda: [*nets(), *nets(width=50, spread=0.02)], "holds"),
        ("J3", lambda: [*nets(spread=0.02), *nets(width=50)], "does not hold"),
        ("J3", lambda: nets(), "not tested"),
        ("J4", lambda: nets(), "holds"),
        ("J4", lambda: nets(alphas=ALPHAS[::-1]), "does not hold"),
        ("J5", lambda: nets(), "holds"),
        ("J5", lambda: nets(accuracies=ACCURACIES[::-1]), "does not hold"),
        ("J5", lambda: nets(count=1), "not tested"),
        ("J6", lambda: nets(), "holds"),
        ("J6", lambda: [upside_down(record) for record in nets()], "does not hold"),
        ("J7", lambda: nets(alphas=[alpha + 1 for alpha in ALPHAS]), "not tested"),
        ("J7", lambda: nets(), "holds"),
        ("J7", lambda: nets(straight=False), "does not hold"),
        ("J8", lambda: nets(), "holds"),
        ("J8", lambda: nets(bump=0.0), "does not hold"),
        ("J8", lambda: [peaks_apart(record) for record in nets()], "does not hold"),
        ("J9", lambda: nets(), "holds"),
        ("J9", lambda: nets(dimension=2.0), "does not hold"),
        ("J9", lambda: nets(counted="dimension"), "holds"),
        ("J10", lambda: nets(), "holds"),
        ("J10", lambda: nets(spread=0.1), "does not hold"),
    ],
)
def test_jiang(name, records, verdict, tmp_path):
    assert judged(jiang2020_claims.CLAIMS, name, evidence(records(), tmp_path)) == verdict


@pytest.mark.parametrize(
    ("name", "records", "verdict"),
    [
        ("G1", lambda: mlps(), "holds"),
        ("G1", lambda: [record for record in mlps() if record.plan.member.target != 3], "not tested"),
        ("G1", lambda: to_target(2.0), "not tested"),
        ("G2", lambda: to_target(2.0), "not tested"),
        ("G4", lambda: to_target(2.0), "not tested"),
        ("G2", lambda: [record for record in mlps() if record.plan.member.seed or record.plan.member.target != 2], "undecided"),
        (
            "G2",
            lambda: [record for record in mlps() if record.plan.member.seed == 1 or record.plan.member.target != 2],
            "not tested",
        ),
        ("G3", lambda: never_reached(), "does not hold"),
        ("G5", lambda: deep("fig3a"), "holds"),
        ("G5", lambda: [record for record in deep("fig3a") if told_by(record.plan.member) != (2, 1.0, 2.0)], "holds"),
        ("G5", lambda: deep("fig3a", best_beta=1.0), "does not hold"),
        ("G5", lambda: deep("fig3a", best_alpha=4.0), "does not hold"),
        ("G5", lambda: deep("fig3a", lost=[(0.1, 3.0)]), "not tested"),
        ("G7", lambda: deep("fig3g", best_alpha=3.0, lost=[(0.1, 0.6)]), "not tested"),
        ("G6", lambda: deep("fig3d"), "holds"),
        ("G6", lambda: deep("fig3d", falls=False), "does not hold"),
        ("G6", lambda: deep("fig3d", helps=False), "does not hold"),
        ("G6", lambda: deep("fig3d", lost=[(1.0, 2.0)]), "not tested"),
        ("G7", lambda: deep("fig3g", best_alpha=3.0), "holds"),
        ("G7", lambda: deep("fig3g", best_alpha=3.0, best_beta=1.0), "does not hold"),
        ("G7", lambda: deep("fig3g", best_alpha=1.0), "does not hold"),
        ("G7", lambda: [record for record in deep("fig3g") if record.plan.member.target != 0.6], "not tested"),
        ("G1", lambda: mlps(weak_gain=-0.004), "does not hold"),
        ("G1", lambda: mlps(weak_gain=0.02), "does not hold"),
        ("G2", lambda: mlps(), "holds"),
        ("G2", lambda: mlps(slope=-0.05), "does not hold"),
        ("G3", lambda: mlps(), "holds"),
        ("G3", lambda: mlps(strong_first=False), "does not hold"),
        ("G4", lambda: mlps(), "holds"),
        ("G4", lambda: mlps(slope=-0.05), "does not hold"),
        ("G5", lambda: mlps(), "not tested"),
        ("G8", lambda: mlps(), "holds"),
        ("G8", lambda: mlps(baseline_alpha=2.1, slope=0.5), "does not hold"),
        ("G8", lambda: mlps(baseline_alpha=2.5), "not tested"),
    ],
)
def test_gerum(name, records, verdict, tmp_path):
    assert judged(gerum2022_claims.CLAIMS, name, evidence(records(), tmp_path)) == verdict


@pytest.mark.parametrize(
    ("name", "records", "verdict"),
    [
        ("S1", lambda: grid(), "not tested"),
        ("S1", lambda: imagenet(*[1.4] * 11), "holds"),
        ("S1", lambda: imagenet(*[1.4] * 10, 0.9), "does not hold"),
        ("S1", lambda: imagenet(*[1.4] * 10), "not tested"),
        ("S4", lambda: [on_sets(seed, [1.5] * 4) for seed in range(3)], "holds"),
        ("S4", lambda: [on_sets(seed, [1.5] * 4, shift=0.2) for seed in range(3)], "does not hold"),
        ("S4", lambda: [on_sets(seed, [0.9] * 4) for seed in range(3)], "does not hold"),
        ("S4", lambda: grid(), "not tested"),
        ("S5", lambda: [on_sets(seed, [4, 4.1, 4.2, 4], budget=budget) for seed in range(3) for budget in (0.0, 1.0)], "holds"),
        ("S5", lambda: [on_sets(seed, [1.5] * 4, budget=budget) for seed in range(3) for budget in (0.0, 1.0)], "does not hold"),
        ("S5", lambda: [on_sets(seed, [4.0] * 4) for seed in range(3)], "not tested"),
        ("S2", lambda: [schaeffer(seed, alpha=1.03, conditions=PAPERS_INPUTS) for seed in range(3)], "not tested"),
        ("S2", lambda: BOTH, "holds"),
        ("S2", lambda: [*BOTH[:-1], resnet(gaussian=1.45, pure_noise=1.7)], "does not hold"),
        ("S2", lambda: [schaeffer(seed, alpha=1.25, conditions=PAPERS_INPUTS) for seed in range(3)], "does not hold"),
        ("S2", lambda: [schaeffer(seed, alpha=1.03, conditions=NOISE_IS_STEEPER) for seed in range(3)], "does not hold"),
        ("S2", lambda: [resnet(gaussian=1.6, pure_noise=1.7)], "not tested"),
        ("S2", lambda: [resnet(gaussian=1.6, pure_noise=1.5)], "does not hold"),
        ("S2", lambda: [resnet(gaussian=1.4, pure_noise=1.7)], "does not hold"),
        ("S2", lambda: grid(), "not tested"),
        ("S3", lambda: [schaeffer(0, alpha=1.03, conditions=PAPERS_INPUTS)], "not tested"),
        ("S4", lambda: [without(on_sets(seed, [1.5] * 4), MADE[seed]) for seed in range(3)], "not tested"),
        ("S6", lambda: [record for record in grid() if record.plan.member.seed == 0], "not tested"),
        ("S3", lambda: [schaeffer(seed, alpha=1.03, conditions=PAPERS_INPUTS) for seed in range(3)], "holds"),
        ("S3", lambda: [schaeffer(seed, alpha=1.5, conditions=PAPERS_INPUTS) for seed in range(3)], "does not hold"),
        ("S3", lambda: grid(), "not tested"),
        ("S6", lambda: grid(), "holds"),
        ("S6", lambda: grid(falling=False), "does not hold"),
        ("S5", lambda: [on_sets(0, [4, 4.1, 4.2, 4], budget=budget) for budget in (0.0, 1.0)], "not tested"),
        ("S7", lambda: grid(), "holds"),
        ("S7", lambda: grid(follows=True), "does not hold"),
        (
            "S7",
            lambda: [record for record in grid(follows=True) if record.plan.training.jacobian.kind == "column_sum"],
            "does not hold",
        ),
        ("S7", lambda: [record for record in grid() if record.plan.member.jacobian == 0], "not tested"),
        ("S8", lambda: [at_another_layer(record) for record in grid()], "not tested"),
        ("S8", lambda: grid(), "holds"),
        ("S8", lambda: grid(follows=True), "does not hold"),
    ],
)
def test_schaeffer(name, records, verdict, tmp_path):
    assert judged(schaeffer2020_claims.CLAIMS, name, evidence(records(), tmp_path)) == verdict


@pytest.mark.parametrize(
    "defect", [KeyError("nowhere"), IndexError("7"), ValueError("all NaN"), TypeError("no"), StudyError("a")]
)
def test_an_error_of_a_check_is_no_verdict(defect, tmp_path):
    def fail(_):
        raise defect

    found = evidence(nets(), tmp_path)
    for kind, judge in (
        ("claim X", Claim("X", "fig", "", fail).judged),
        ("fig: share", StatedNumber("share", "fig", 1, None, fail).compared),
    ):
        with pytest.raises(type(defect)) as caught:
            judge(found)
        assert kind in " ".join(caught.value.__notes__)


def test_what_a_claim_lacks_is_told(tmp_path):
    def lacks(_):
        raise NotTestedError("networks of width 7")

    finding = Claim("X", "fig", "", lacks).judged(evidence(nets(), tmp_path))
    assert (finding.verdict, finding.found) == ("not tested", "needs networks of width 7")
    finding = Claim("X", "fig", "", lacks).judged(evidence(nets(), tmp_path).of([]))
    assert finding.found == "needs networks of fig; none is finished here"


def test_the_network_that_stands_best_is_named(tmp_path):
    claim = next(each for each in schaeffer2020_claims.CLAIMS if each.name == "S7")
    found = claim.judged(evidence(grid(follows=True), tmp_path)).found
    assert "most accurate with c1 = 0.1, c2 = 3.0: 0.607 (paper: c1 = 0.01, c2 = 0); standard deviation" in found


def test_networks_without_an_exponent_are_named(tmp_path):
    records = [on_sets(seed, [4.0] * 4, budget=budget) for seed in range(2) for budget in (0.0, 0.25, 1.0)]
    variances = pd.DataFrame([("relu4", name, 0.0, 5, "total_variance", 1.0) for name in MADE], columns=ROW)
    records = [replace(record, rows=pd.concat([record.rows, variances])) for record in records]
    records[-1] = without(records[-1], "robust")
    records[-1] = replace(records[-1], rows=pd.concat([records[-1].rows, variances[variances["perturbation"] == "robust"]]))
    claim = next(each for each in schaeffer2020_claims.CLAIMS if each.name == "S5")
    found = claim.judged(evidence(records, tmp_path)).found
    assert "no variance left at the last rank of the fit on one of the sets at least: l2 1 (1 of 2)" in found


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
        found = StudyResults(store, study.cells())
        record = study_record(study, found.over(ranks) if ranks else found, configuration={})
        return {claim["claim"]: claim for claim in record["claims"] if claim["verdict"] != "not tested"}

    for ranks in (None, (10, 100)):
        whole = claims("schaeffer2020", ranks)
        parts = [claims(f"schaeffer2020.{figure}", ranks) for figure in ("fig3", "fig7", "fig8")]
        assert whole == parts[0] | parts[1] | parts[2]
        assert {"S6", "S7"} <= set(whole)


def test_a_figure_of_a_whole_paper_keeps_its_own_ranks(tmp_path):
    store = Store(tmp_path / "store.sqlite")
    store.save([by_a_little(record, np.random.default_rng(number)) for number, record in enumerate(mlps())])

    def claims(name):
        study = load(name)
        record = study_record(study, StudyResults(store, study.cells()).over((6, 50)), configuration={})
        return {claim["claim"]: claim for claim in record["claims"] if claim["figure"] == "fig2d"}

    assert claims("gerum2022") == claims("gerum2022.fig2d")
    assert claims("gerum2022")["G3"]["verdict"] == "holds"


def test_a_paper_without_a_figure_has_nothing_for_its_claims(tmp_path):
    whole = load("schaeffer2020")
    longer = load("schaeffer2020.fig3").blocks[0].plan
    store = Store(tmp_path / "store.sqlite")
    store.save([replace(schaeffer(seed), plan=with_field(longer, "member.seed", seed)) for seed in range(3)])
    part = replace(whole, blocks=tuple(block for block in whole.blocks if "fig3" in block.figures))
    record = study_record(part, StudyResults(store, part.cells()), configuration={})
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
    assert dict(zip(alphas["reading.ranks"], alphas["value"].round(3), strict=True)) == {"6-50": 1.0, "2-20": 2.0}
    with pytest.raises(NotTestedError, match="differ in more"):
        found.table("accuracy", columns="layer", perturbation="held_out")


def test_two_settings_differ_as_in_a_paired_t_test():
    values = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [0.5, 1.0, 3.5]})
    found, paired = Paired(values).difference("a", "b"), interval(values["a"] - values["b"])
    assert (found.mean, found.low, found.high) == pytest.approx((paired.mean, paired.low, paired.high))


def test_several_settings_are_averaged_within_each_seed():
    values = pd.DataFrame([[1.0, 2.0, 4.0], [2.0, 3.5, 4.5]], columns=["a", "b", "c"])
    found = Paired(values).difference("c", ["a", "b"])
    assert (found.mean, found.count) == (pytest.approx(2.125), 2)
    assert found.high - found.mean == pytest.approx(12.706205 * np.std([2.5, 1.75], ddof=1) / 2**0.5, rel=1e-6)
    assert (Paired(values).best("ab"), Paired(values).lead(["c"]).mean) == ("b", pytest.approx(1.5))


def test_equal_values_of_few_networks_decide_nothing():
    assert interval([0.3] * 5).above() is None
    assert interval([0.3] * 5).below(1) is None
    assert interval([0.3] * 6).above() is True
    assert interval([0.0] * 6).above() is False
    assert interval([0.3, 0.3, 0.3001]).above() is True


def test_few_rank_correlations_say_nothing_of_their_spread():
    rows = pd.DataFrame([[1, 2, 4, 3], [1, 2, 4, 3], [1, 2, 4, 3]])
    assert rank_correlation(rows).above() is None  # which agree by chance
    assert rank_correlation(pd.DataFrame([[1, 2, 3, 4]] * 2)).above() is None
    perfect = rank_correlation(pd.DataFrame([[1, 2, 3, 4]] * 3))
    almost = rank_correlation(pd.DataFrame([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 4, 3]]))
    assert (perfect.mean, perfect.low, perfect.high) == (1, pytest.approx(almost.low), 1)
    assert perfect.above() is True
    assert perfect.above(0.8) is None


def test_leaving_out_each_network_gives_the_interval_of_a_mean():
    values = dict(enumerate([1.0, 2.0, 4.0, 3.0]))
    found = jackknife(lambda some: float(np.mean([values[each] for each in some])), list(values))
    mean = interval(list(values.values()))
    assert (found.mean, found.low, found.high) == pytest.approx((mean.mean, mean.low, mean.high))
    with pytest.raises(NotTestedError, match="three networks"):
        jackknife(lambda some: 1.0, [0, 1])


def test_a_correlation_has_fishers_interval():
    draw = np.random.default_rng(0)
    inside = 0
    for _ in range(200):  # of pairs whose rank correlation is 6 / pi * arcsin(0.6 / 2)
        first = draw.standard_normal(30)
        second = 0.6 * first + 0.8 * draw.standard_normal(30)
        found = correlation(pd.Series(first), pd.Series(second))
        inside += found.low < 6 / np.pi * np.arcsin(0.3) < found.high
    assert 180 <= inside <= 198
    with pytest.raises(NotTestedError, match="five settings"):
        correlation(pd.Series([1.0, 2.0, 3.0, 4.0]), pd.Series([1.0, 2.0, 3.0, 4.0]))


def test_what_intervals_cannot_tell_is_undecided(tmp_path):
    """Accuracies that are noise alone: no kind of network can be called the best."""
    for draw in range(6):
        noise = np.random.default_rng(draw)
        records = [
            replace(
                record,
                rows=record.rows.assign(
                    value=record.rows["value"].mask(
                        record.rows["perturbation"] == "held_out", 0.98 + 0.001 * noise.standard_normal()
                    )
                ),
            )
            for record in deep("fig3a")
        ]
        folder = tmp_path / str(draw)
        folder.mkdir()
        claim = next(each for each in gerum2022_claims.CLAIMS if each.name == "G5")
        finding = claim.judged(evidence(records, folder))
        assert finding.verdict in ("does not hold", "undecided")


def test_decisions_of_three_values():
    assert (kleene_and(True, None), kleene_and(None, False), kleene_and(True, True), kleene_and()) == (None, False, True, True)
    assert (kleene_nor(False, None), kleene_nor(True, None), kleene_nor(False)) == (None, False, True)
    assert (kleene_or(False, None), kleene_or(True, None), kleene_or(False), kleene_or()) == (None, True, False, False)


def test_seeds_that_lack_a_setting_have_no_best(tmp_path):
    found = evidence([record for record in deep("fig3a") if told_by(record.plan.member) != (2, 1.0, 2.0)], tmp_path)
    numbers = [each.compared(found)["here"] for each in gerum2022_stated.STATED if each.quantity.startswith("α of the best")]
    assert sum("2.000 [2.000, 2.000], n = 2" in number for number in numbers) == 2  # of the most robust
    assert sum("n = 3" in number for number in numbers) == 1  # of weak ones, which are all there


def test_two_strengths_make_no_slope(tmp_path):
    records = [
        replace(record, rows=record.rows[~record.rows["perturbation"].eq("layer_gaussian") | record.rows["strength"].le(0.5)])
        for record in nets()
    ]
    found = evidence(records, tmp_path)
    strengths = set(found.select("alpha", perturbation="layer_gaussian")["strength"])
    slopes = [each.compared(found)["here"] for each in jiang2020_stated.STATED if each.quantity.startswith("slope")]
    assert len(strengths) < 3
    assert slopes == ["not measured"] * 3


def test_the_layer_that_decides_is_told(tmp_path):
    (claim,) = (each for each in jiang2020_claims.CLAIMS if each.name == "J4")
    records = nets()
    for number, record in enumerate(records):  # layer 5 is the last to be above 1, though its mean is not the least
        fitted = (record.rows["layer"] == "layers.4") & (record.rows["perturbation"] == "unperturbed")
        fitted &= record.rows["quantity"] == "alpha"
        value = record.rows["value"].mask(fitted, record.rows["value"] + number - 2.5)
        records[number] = replace(record, rows=record.rows.assign(value=value))
    finding = claim.judged(evidence(records, tmp_path))
    assert finding.verdict == "undecided"
    assert "(layer 5)" in finding.found
