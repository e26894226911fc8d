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
from eigencode.spectra import Window
from eigencode.studies import Block, Store, StudyResults, load
from eigencode.studies.cell import with_field
from eigencode.studies.execution.readout import ROW
from eigencode.studies.results.claim import Claim, Finding, Part, StatedNumber
from eigencode.studies.results.judging import study_record
from eigencode.studies.results.table import NotTestedError
from paper_networks import (
    ACCURACIES,
    ALPHAS,
    NOISE_IS_STEEPER,
    ONE_MEAN_IS_STEEPER,
    PAPERS_INPUTS,
    SLOPES,
    at_another_layer,
    by_a_little,
    deep,
    evidence,
    gerum,
    grid,
    imagenet,
    library,
    mlps,
    nets,
    never_reached,
    on_sets,
    released,
    resnet,
    schaeffer,
    still_rising,
    to_target,
    untouched,
    upside_down,
    without,
)

OTHERS = ("torchvision:squeezenet1_1", "timm:tf_efficientnet_lite0")

BOTH = [*(schaeffer(seed, alpha=1.03, conditions=PAPERS_INPUTS) for seed in range(3)), resnet(gaussian=1.7, pure_noise=1.8)]


def told_by(member):
    return member.seed, member.beta, member.target


def finding_of(claims, name, found):
    """What came out for a part, such as J1a, or for a claim that has one part."""
    ((claim, part),) = ((claim, part) for claim in claims for part in claim.parts if claim.name + part.name == name)
    return replace(claim, parts=(part,)).judged(found).as_dict()["parts"][0]


def assert_verdicts(claims, found, verdicts):
    """Verdict -> parts that have it."""
    wanted = {name: verdict for verdict, names in verdicts.items() for name in names.split()}
    assert {name: finding_of(claims, name, found)["verdict"] for name in wanted} == wanted


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


YES, NO, OPEN, NONE = "holds", "does not hold", "undecided", "not tested"

LOW = [0.85, 0.9, 0.95, *[0.9] * 5]
"""Exponents of layers that all lie below 1."""


@pytest.mark.parametrize(
    ("records", "verdicts"),
    [
        (
            lambda: nets(),
            {YES: "J1a J1b J2a J2b J2c J4a J4b J4c J5a J5b J6a J6b J6c J7a J7b J7c J8a J8b J8c J9a J9b J10", NONE: "J3a"},
        ),
        (lambda: nets(falls=False), {NO: "J1a"}),
        (lambda: nets(accuracies=sorted(ACCURACIES)), {YES: "J1b"}),
        (lambda: nets(accuracies=[0.99, *ACCURACIES[1:]]), {NO: "J1b"}),
        (lambda: nets(accuracies=[*ACCURACIES[:-1], 0.9]), {NO: "J1b"}),
        (lambda: nets(share=0.93), {NO: "J2a"}),
        (lambda: nets(waterfall=0.0), {NO: "J2b"}),
        (lambda: nets(waterfall=-0.01), {NO: "J2c"}),
        (lambda: [*nets(), *nets(width=50, spread=0.02)], {YES: "J3a J3b"}),
        (lambda: [*nets(spread=0.02), *nets(width=50)], {NO: "J3a J3b"}),
        (lambda: [*nets(), *nets(width=100), *nets(width=50, spread=0.02)], {OPEN: "J3a"}),  # nothing from 100 to 200
        (lambda: [*nets(), *nets(width=50, spread=0.001, deeper=20.0)], {YES: "J3c"}),
        (lambda: [*nets(), *nets(width=50, spread=0.02, deeper=0.05)], {NO: "J3c"}),
        (lambda: nets(alphas=ALPHAS[::-1]), {NO: "J4a"}),
        (lambda: nets(alphas=[1.02, *ALPHAS[1:]]), {NO: "J4b"}),
        (lambda: nets(alphas=[*ALPHAS[:-1], 0.8]), {NO: "J4c"}),
        (lambda: nets(accuracies=[0.978, 0.981, 0.981, *ACCURACIES[3:]]), {YES: "J5a"}),  # layers 2 and 3 are equal
        (lambda: nets(accuracies=ACCURACIES[::-1]), {NO: "J5a"}),
        (lambda: nets(accuracies=[0.978, 0.980, 0.982, *ACCURACIES[3:]]), {NO: "J5a"}),
        (lambda: nets(count=1), {NONE: "J5a"}),
        (lambda: nets(accuracies=[*ACCURACIES[:-1], 0.93]), {NO: "J5b"}),
        (lambda: nets(accuracies=[*ACCURACIES[:-1], 0.99]), {NO: "J5b"}),
        (lambda: nets(slopes=[-slope for slope in SLOPES]), {NO: "J6a"}),
        (lambda: nets(bump_in_noise=0.1), {NO: "J6b J8c"}),
        (lambda: [upside_down(record) for record in nets()], {NO: "J6c"}),
        (lambda: nets(straight=0), {NO: "J7a"}),
        (lambda: nets(alphas=[alpha + 1 for alpha in ALPHAS]), {NONE: "J7a"}),
        (lambda: nets(slopes=(1 / 0.56, 1 / 0.86, 1 / 1.04)), {NO: "J7b"}),  # those of accuracy against the exponent
        (lambda: nets(alphas=LOW), {YES: "J7c"}),
        (lambda: nets(alphas=LOW, straight=8), {NO: "J7c"}),
        (lambda: nets(bump=0.0), {NO: "J8a J8b"}),
        (lambda: [untouched(record) for record in nets()], {OPEN: "J6a J6b"}),
        (lambda: nets(price=-0.5), {NO: "J8b"}),
        (lambda: nets(dimension=2.0), {NO: "J9a J9b"}),
        (lambda: nets(counted="dimension"), {YES: "J9a"}),
        (lambda: nets(fluctuation=2.0), {NO: "J10"}),
        (lambda: [*nets(), *nets(width=100, spread=0.001, deeper=20.0)], {NONE: "J3c"}),  # 100 units are not 50
        (lambda: [still_rising(record) for record in nets()], {NO: "J8a J8b"}),
        (lambda: nets(alphas=[0.85, 0.98, 1.05, *[1.05] * 5], spread=0.03), {OPEN: "J7c"}),  # some of them lie on 1
    ],
)
def test_jiang(records, verdicts, tmp_path):
    assert_verdicts(jiang2020_claims.CLAIMS, evidence(records(), tmp_path), verdicts)


@pytest.mark.parametrize(
    ("records", "verdicts"),
    [
        (lambda: mlps(), {YES: "G1a G1b G1c G1d G2a G2b G3 G4 G8", NONE: "G5a"}),
        (lambda: mlps(weak_gain=0.03), {NO: "G1a"}),
        (lambda: mlps(weak_gain=-0.004), {NO: "G1b"}),
        (lambda: mlps(weak_gain=0.02), {NO: "G1b"}),  # it helps at low targets, too
        (lambda: to_target(1.0), {NONE: "G1b"}),
        (lambda: mlps(best=1.0), {NO: "G1c"}),
        (lambda: [record for record in mlps() if record.plan.member.target != 3], {NONE: "G1c"}),
        (lambda: to_target(2.0), {NONE: "G1c G2b G4"}),
        (lambda: mlps(strong_gain=0.005), {NO: "G1d"}),
        (lambda: mlps(slope=-0.05), {NO: "G2a G2b G4"}),
        (lambda: mlps(strong_first=False), {NO: "G3"}),
        (lambda: never_reached(), {NO: "G3"}),
        (lambda: deep("fig3a"), {YES: "G5a G5b"}),
        (lambda: [record for record in deep("fig3a") if told_by(record.plan.member) != (2, 1.0, 2.0)], {YES: "G5a"}),
        (lambda: deep("fig3a", best_beta=1.0), {NO: "G5a"}),
        (lambda: deep("fig3a", best_alpha=4.0), {NO: "G5b"}),
        (lambda: deep("fig3a", lost=[(0.1, 3.0)]), {NONE: "G5b"}),
        (lambda: deep("fig3d"), {YES: "G6a G6b G6d", NO: "G6c"}),
        (lambda: deep("fig3d", falls=False), {NO: "G6a"}),
        (lambda: deep("fig3d", lost=[(1.0, 2.0)]), {NONE: "G6a"}),
        (lambda: deep("fig3d", helps=False), {NO: "G6b"}),
        (lambda: deep("fig3d", fgsm=0.2), {YES: "G6c"}),
        (lambda: deep("fig3d", sharp=0.05), {NO: "G6d"}),
        (lambda: deep("fig3g", best_alpha=3.0), {YES: "G7a G7b"}),
        (lambda: deep("fig3g", best_alpha=3.0, best_beta=1.0), {NO: "G7a"}),
        (lambda: deep("fig3g", best_alpha=3.0, lost=[(0.1, 0.6)]), {NONE: "G7a"}),
        (lambda: [record for record in deep("fig3g") if record.plan.member.target != 0.6], {NONE: "G7a"}),
        (lambda: deep("fig3g", best_alpha=4.0), {YES: "G7b"}),  # as the paper's own curves have it on this grid
        (lambda: deep("fig3g", best_alpha=1.0), {NO: "G7b"}),
        (lambda: deep("fig3g", best_alpha=3.0, helps=False), {NO: "G7b"}),
        (lambda: mlps(baseline_alpha=2.1, slope=0.5), {NO: "G8"}),
        (lambda: mlps(baseline_alpha=2.5), {NONE: "G8"}),
    ],
)
def test_gerum(records, verdicts, tmp_path):
    assert_verdicts(gerum2022_claims.CLAIMS, evidence(records(), tmp_path), verdicts)


@pytest.mark.parametrize(
    ("records", "verdicts"),
    [
        (lambda: grid(), {NONE: "S1 S2b S3a S4a", YES: "S6a S6c S7a S8", NO: "S6b"}),
        (lambda: imagenet(*[1.4] * 11), {YES: "S1"}),
        (lambda: imagenet(*[1.4] * 10, 0.9), {NO: "S1"}),
        (lambda: imagenet(*[1.4] * 10), {NONE: "S1"}),
        (lambda: BOTH, {YES: "S2a S2b S2c S2d"}),
        (lambda: BOTH[:-1], {NONE: "S2a S2b", YES: "S3a S3b"}),
        (lambda: [resnet(gaussian=1.6, pure_noise=1.5)], {NO: "S2a"}),
        (lambda: [resnet(gaussian=1.4, pure_noise=1.7)], {NO: "S2a"}),
        (lambda: [schaeffer(seed, alpha=1.25, conditions=PAPERS_INPUTS) for seed in range(3)], {NO: "S2b"}),
        (lambda: [*BOTH[:-1], resnet(gaussian=1.45, pure_noise=1.7)], {NO: "S2b"}),
        (lambda: [schaeffer(seed, alpha=1.03, conditions=NOISE_IS_STEEPER) for seed in range(3)], {NO: "S2c"}),
        (lambda: [without(without(record, "pure_noise"), "grey_noise") for record in BOTH[:-1]], {NONE: "S2c"}),
        (lambda: [without(record, "pure_noise") for record in BOTH[:-1]], {NONE: "S2c"}),
        (lambda: [resnet(gaussian=1.6, pure_noise=1.7, grey_noise=1.5)], {OPEN: "S2a"}),
        (lambda: [without(resnet(gaussian=1.6, pure_noise=1.7), "grey_noise")], {NONE: "S2a"}),
        (lambda: [without(resnet(gaussian=1.6, pure_noise=1.7), "unperturbed")], {NONE: "S2a"}),
        (lambda: imagenet(*[1.4] * 11) + imagenet(0.9, models=OTHERS[:1]), {YES: "S1"}),
        (lambda: imagenet(*[1.4] * 10) + imagenet(0.9, models=OTHERS[:1]), {NONE: "S1"}),
        (lambda: [schaeffer(seed, alpha=1.03, conditions=ONE_MEAN_IS_STEEPER) for seed in range(3)], {OPEN: "S2c", YES: "S2d"}),
        (lambda: [schaeffer(seed, alpha=1.03, conditions=PAPERS_INPUTS, apart=0.01 * seed) for seed in range(3)], {NO: "S2d"}),
        (lambda: [schaeffer(seed, alpha=1.03, conditions=PAPERS_INPUTS, apart=0.1 * seed) for seed in range(3)], {OPEN: "S2d"}),
        (lambda: [schaeffer(seed, alpha=1.5, conditions=PAPERS_INPUTS) for seed in range(3)], {NO: "S3a"}),
        (lambda: BOTH[:1], {NONE: "S3a"}),
        (lambda: [schaeffer(seed, alpha=0.5, conditions=PAPERS_INPUTS) for seed in range(3)], {NO: "S3b"}),
        (lambda: released([1.5] * 4), {YES: "S4a S4b"}),
        (lambda: released([0.9] * 4), {NO: "S4a"}),
        (lambda: [without(record, MADE[0]) for record in released([1.5] * 4)], {NONE: "S4a"}),
        (lambda: released([1.5] * 4, shift=0.2), {NO: "S4b"}),
        (lambda: library(4, 4.1, 4.2, 4), {YES: "S5a S5b S5c"}),
        (lambda: library(*[1.5] * 4), {NO: "S5a S5b"}),
        (lambda: library(*[4.0] * 4)[:1], {NONE: "S5a"}),
        (lambda: library(*[4.0] * 4)[1:], {NONE: "S5b"}),
        (lambda: library(4, 5.5, 4.2, 4), {NO: "S5c"}),
        (lambda: grid(falling=False), {NO: "S6a S6c"}),
        (lambda: [record for record in grid() if record.plan.member.seed == 0], {NONE: "S6a"}),
        (lambda: grid(plain=1.1), {YES: "S6b"}),
        (lambda: grid(follows=True), {NO: "S7a S7b S8"}),
        (lambda: [record for record in grid(follows=True) if record.plan.training.jacobian.kind == "column_sum"], {NO: "S7a"}),
        (lambda: [record for record in grid() if record.plan.member.jacobian == 0], {NONE: "S7a"}),
        (lambda: [record for record in grid() if record.plan.training.jacobian.kind != "exact"], {NONE: "S7b"}),
        (lambda: [at_another_layer(record) for record in grid()], {NONE: "S8"}),
    ],
)
def test_schaeffer(records, verdicts, tmp_path):
    assert_verdicts(schaeffer2020_claims.CLAIMS, evidence(records(), tmp_path), verdicts)


def test_networks_that_have_collapsed_say_nothing_of_a_penalty(tmp_path):
    """Accuracy of chance at all strengths but two would be a relation, of dead networks."""
    records = [
        replace(record, rows=record.rows.assign(value=record.rows["value"].where(record.rows["quantity"] != "accuracy", 0.1)))
        if record.plan.training.jacobian.kind == "exact" and record.plan.member.jacobian > 0.5
        else record
        for record in grid()
    ]
    found = finding_of(schaeffer2020_claims.CLAIMS, "S7b", evidence(records, tmp_path))
    assert (found["verdict"], found["found"]) == (
        NONE,
        "needs networks that classify at three strengths at least, and two seeds",
    )


def test_networks_without_an_exponent_are_counted(tmp_path):
    records = [on_sets(seed, [4.0] * 4, budget=budget) for seed in range(2) for budget in (0.0, 0.25, 1.0)]
    variances = pd.DataFrame([("relu4", name, 0.0, 5, "total_variance", 1.0) for name in MADE], columns=ROW)
    records = [replace(record, rows=pd.concat([record.rows, variances])) for record in records]
    lost = records[-1].rows["perturbation"].eq("robust") & records[-1].rows["quantity"].eq("alpha")
    records[-1] = replace(records[-1], rows=records[-1].rows[~lost])
    found = finding_of(schaeffer2020_claims.CLAIMS, "S5a", evidence(records, tmp_path))
    assert "; 1 network has no exponent (holds there)" in found["found"]


@pytest.mark.parametrize(
    ("name", "records", "there"),
    [
        ("S4a", lambda: [on_sets(seed, [1.5] * 4) for seed in range(3)], YES),
        ("S4b", lambda: [on_sets(seed, [1.5] * 4, shift=0.2) for seed in range(3)], NO),
        ("S5a", lambda: [on_sets(seed, [4.0] * 4, budget=budget) for seed in range(3) for budget in (0.0, 1.0)], YES),
    ],
)
def test_what_stands_in_for_the_papers_own_does_not_test_it(name, records, there, tmp_path):
    found = finding_of(schaeffer2020_claims.CLAIMS, name, evidence(records(), tmp_path))
    assert found["verdict"] == NONE
    assert found["found"].startswith("not tested on the ")
    assert found["found"].endswith(f"({there} there)")


@pytest.mark.parametrize("name", ["jiang2020", "gerum2022", "schaeffer2020"])
def test_other_data_give_no_verdict_of_a_paper(name, tmp_path):
    made = {"jiang2020": nets, "gerum2022": mlps, "schaeffer2020": grid}[name]()
    records = [replace(record, plan=with_field(record.plan, "images.data", "fashion_mnist")) for record in made]
    store = Store(tmp_path / "store.sqlite")
    store.save([by_a_little(record, np.random.default_rng(number)) for number, record in enumerate(records)])
    block = Block(records[0].plan, {}, (records[0].plan.member.seed,))
    study = replace(load(name), blocks=(block,))
    found = study_record(study, StudyResults(store, [record.plan for record in records]), configuration={})
    assert {claim["verdict"] for claim in found["claims"]} == {NONE}
    parts = [part for claim in found["claims"] for part in claim["parts"]]
    assert any("fashion_mnist" in part["found"] for part in parts) or name != "jiang2020"


def test_the_weakest_part_decides():
    def part(name, verdict):
        return Part("“…” (1)", lambda _: Finding(verdict, "1", "above 0"), name)

    def judged(*verdicts):
        claim = Claim("X1", "fig", "", tuple(part(name, verdict) for name, verdict in zip("abc", verdicts, strict=False)))
        found = claim.judged(SimpleNamespace(cells=pd.DataFrame([0]), ranks=None)).as_dict()
        return found["verdict"], found["weakest"]

    assert judged(YES, YES) == (YES, "X1a, X1b")
    assert judged(YES, OPEN, YES) == (OPEN, "X1b")
    assert judged(OPEN, NONE, YES) == (NONE, "X1b")
    assert judged(NONE, NO, OPEN) == (NO, "X1b")
    with pytest.raises(StudyError, match="claim X has no parts"):
        Claim("X", "fig", "", ())


@pytest.mark.parametrize(
    "defect", [KeyError("nowhere"), IndexError("7"), ValueError("all NaN"), TypeError("no"), StudyError("a")]
)
def test_an_error_of_a_check_is_no_verdict(defect, tmp_path):
    def fail(_):
        raise defect

    found = evidence(nets(), tmp_path)
    for kind, judge in (
        ("claim Xb", Claim("X", "fig", "", (Part("", lambda _: Finding(YES, "", ""), "a"), Part("", fail, "b"))).judged),
        ("fig: share", StatedNumber("share", "fig", 1, None, fail).compared),
    ):
        with pytest.raises(type(defect)) as caught:
            judge(found)
        assert kind in " ".join(caught.value.__notes__)


@pytest.mark.parametrize(
    ("records", "part", "found"),
    [
        (
            lambda: imagenet(0.9, 1.4, models=OTHERS),
            "S1",
            "not tested on the paper's eleven networks; on 2 others: α 0.90 (squeezenet1_1) to 1.40 (tf_efficientnet_lite0) "
            "(does not hold there)",
        ),
        (
            lambda: [resnet(gaussian=1.6 + 0.1 * number, pure_noise=1.8, model=model) for number, model in enumerate(OTHERS)],
            "S2a",
            "not tested on ResNet-50; on 2 others: strongest noise +0.20 to +0.30, noise alone beyond noisy images "
            "+0.10 to +0.20 (mean 0); +0.10 to +0.20 (mean 0.5) (holds there)",
        ),
    ],
)
def test_other_imagenet_networks_stand_beside_the_papers(records, part, found, tmp_path):
    results = evidence(records(), tmp_path)
    (row,) = [
        row for claim in schaeffer2020_claims.CLAIMS for row in claim.judged(results).as_dict()["parts"] if row["part"] == part
    ]
    assert (row["verdict"], row["found"]) == (NONE, found)


def test_what_a_claim_lacks_is_told(tmp_path):
    def lacks(_):
        raise NotTestedError("networks of width 7")

    claim = Claim("X", "fig", "", (Part("", lacks),))
    (found,) = claim.judged(evidence(nets(), tmp_path)).findings
    assert (found.verdict, found.found) == (NONE, "needs networks of width 7")
    (found,) = claim.judged(evidence(nets(), tmp_path).of([])).findings
    assert found.found == "needs networks of fig; none is finished here"


def test_a_whole_paper_is_judged_figure_by_figure(tmp_path):
    """Networks of Fig. 7 are trained for fewer epochs than those of Fig. 3, and are like them in all else."""
    longer = load("schaeffer2020.fig3").blocks[0].plan
    conditions = (("gaussian", 0.5, 1.5), ("pure_noise", 0.5, 1.6), ("grey_noise", 0.5, 1.6))
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

    fig3 = load("schaeffer2020.fig3").cells()
    window = Window.of("10-100, weights inverse_rank")
    assert StudyResults(store, load("schaeffer2020").cells()).over(window).of(fig3).fit_window == window
    assert StudyResults(store, fig3).fit_window == Window(10, 316)
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
        found = finding_of(gerum2022_claims.CLAIMS, "G5a", evidence(records, folder))
        assert found["verdict"] in (NO, OPEN)


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
    slopes = [each.compared(found)["here"] for each in jiang2020_stated.STATED if each.quantity.startswith("slope dα/dA")]
    assert len(strengths) < 3
    assert slopes == ["not measured"] * 3


@pytest.mark.parametrize(
    ("share", "told"),
    [([0.9, 0.9, 0.94, 0.96, 0.97, 0.97, 0.97, 0.97], "mean above 95 % from layer 4 on"), (0.94, "last layer 94.0%")],
)
def test_the_layer_from_which_ten_components_suffice(share, told, tmp_path):
    found = finding_of(jiang2020_claims.CLAIMS, "J2a", evidence(nets(share=share), tmp_path))
    assert found["found"].endswith(told)


def test_the_layer_that_decides_is_told(tmp_path):
    records = nets()
    for number, record in enumerate(records):  # layer 5 is the last to be above layer 1, though its mean is not the least
        fitted = (record.rows["layer"] == "layers.4") & (record.rows["perturbation"] == "unperturbed")
        fitted &= record.rows["quantity"] == "alpha"
        value = record.rows["value"].mask(fitted, record.rows["value"] + number - 2.5)
        records[number] = replace(record, rows=record.rows.assign(value=value))
    found = finding_of(jiang2020_claims.CLAIMS, "J4c", evidence(records, tmp_path))
    assert found["verdict"] == OPEN
    assert "layer 5:" in found["found"]
