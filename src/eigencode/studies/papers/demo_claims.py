"""What the demonstration shows, as checks."""

from __future__ import annotations

import pandas as pd

from eigencode.studies.claims import Claim, Finding, verdict
from eigencode.studies.evidence import Evidence, NotTestedError
from eigencode.studies.papers.demo import EPSILON

_REACHED = 0.2
_PRICE = 0.05


def _d1(evidence: Evidence) -> Finding:
    rows = evidence.select("alpha", perturbation="training")
    rows = rows[rows["beta"] > 0]
    if rows.empty:
        raise NotTestedError("regularised networks")
    means = rows.groupby("target")["value"].agg(["mean", "std"])
    means["shown"] = means["mean"].map("{:.2f}".format) + means["std"].map(lambda sd: "" if pd.isna(sd) else f" ± {sd:.2f}")
    found = ", ".join(f"{shown} (target {target})" for target, shown in means["shown"].items())
    reached = bool(((rows["value"] - rows["target"]).abs() < _REACHED).all())
    test = f"every network within {_REACHED:g} of its target"
    return Finding(verdict(reached), f"α of the last epoch's batches, mean ± standard deviation over seeds: {found}", test)


def _d2(evidence: Evidence) -> Finding:
    rows = evidence.select("accuracy", perturbation="held_out")
    base, regularised = rows[rows["beta"] == 0]["value"].mean(), rows[rows["beta"] > 0].groupby("target")["value"].mean()
    if regularised.empty or pd.isna(base):
        raise NotTestedError("regularised networks")
    found = f"baseline {base:.3f}; " + ", ".join(f"{value:.3f} (target {target})" for target, value in regularised.items())
    return Finding(verdict(bool((regularised > base - _PRICE).all())), found, f"no target costs more than {_PRICE:g}")


def _d3(evidence: Evidence) -> Finding:
    rows = evidence.select("accuracy", perturbation="pgd", strength=EPSILON)
    means = rows[rows["beta"] > 0].groupby("target")["value"].mean()
    if len(means) < 2:
        raise NotTestedError("networks of two targets at least")
    base = rows[rows["beta"] == 0]["value"].mean()
    found = f"baseline {base:.3f}; " + ", ".join(f"{value:.3f} (target {target})" for target, value in means.items())
    return Finding(verdict(bool((means.diff().iloc[1:] > 0).all())), found, "accuracy under PGD grows from target to target")


CLAIMS = (
    Claim("D1", "spectra", "The penalty pulls the exponent to its target.", _d1, window="own"),
    Claim("D2", "outcome", "Accuracy hardly suffers.", _d2, window="none"),
    Claim("D3", "outcome", f"The steeper the code, the more robust to PGD at {EPSILON:g}.", _d3, window="none"),
)
