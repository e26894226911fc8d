"""What Schaeffer et al. 2020 find of trained ImageNet networks: checks of their Figs 2 and 3, left."""

from __future__ import annotations

import pandas as pd

from eigencode.papers.schaeffer2020.study import ELEVEN, NEED_FILES, NOISE_ALONE, RESNET
from eigencode.studies.results.claim import Finding, agreed, finding
from eigencode.studies.results.table import NotTestedError, StudyResults, single

_RISE = 0.1
"""Difference of exponents from which a spectrum is called steeper."""


def bound(evidence: StudyResults) -> Finding:
    """S1: exponents of the ImageNet networks."""
    rows = of_imagenet(evidence.select("alpha", perturbation="unperturbed"))
    alpha = single(rows, "model").set_index("model")["value"].sort_values()
    if alpha.empty:
        raise NotTestedError(NEED_FILES["fig2"])
    ends = " to ".join(f"{alpha.iloc[place]:.2f} ({name_of(str(alpha.index[place]))})" for place in (0, -1))
    if set(alpha.index) < set(ELEVEN):
        raise NotTestedError(f"all eleven networks; so far {len(alpha)}, α {ends}")
    found = finding(
        f"α {ends}", "all above 1, which is faster than the bound (one network of each kind)", bool((alpha > 1).all())
    )
    if set(ELEVEN) <= set(alpha.index):
        return found
    return found.of_a_substitute("the paper's eleven networks", f"{len(alpha)} others")


def noise_on_imagenet(evidence: StudyResults) -> Finding:
    """S2a: noise makes the ImageNet network's spectrum steeper, noise alone most of all."""
    changes = _under_noise(evidence)
    own = changes.loc[[RESNET]] if RESNET in changes.index else changes
    readings = []
    for kind, mean in NOISE_ALONE.items():
        if kind in own and own[kind].notna().all():
            found = f"strongest noise {_range(own['rise'])}, noise alone (mean {mean:g}) beyond noisy images {_range(own[kind])}"
            test = f"α rises by more than {_RISE:g}, and by more under noise alone (one trained network of each kind)"
            readings.append(finding(found, test, bool((own["rise"] > _RISE).all()), bool((own[kind] > 0).all())))
    if not readings:
        raise NotTestedError("ImageNet networks that are shown noise alone")
    found_both = agreed(readings, "the mean of the noise")
    return found_both if RESNET in changes.index else found_both.of_a_substitute("ResNet-50", f"{len(own)} others")


def rise_on_imagenet(evidence: StudyResults) -> float:
    """By how much the strongest noise raises the exponent of ResNet-50 on ImageNet.

    Raises:
        NotTestedError: it was not read.
    """
    changes = _under_noise(evidence)
    if RESNET not in changes.index:
        raise NotTestedError("ResNet-50 on ImageNet")
    return float(changes["rise"][RESNET])


def _under_noise(evidence: StudyResults) -> pd.DataFrame:
    """Of each ImageNet network, how far the strongest noise raises its exponent, and noise alone beyond its steepest with images.

    Raises:
        NotTestedError: none was read.
    """
    rows = {}
    for model, own in of_imagenet(evidence.select("alpha")).groupby("model"):
        images = own[own["perturbation"].isin(["unperturbed", "gaussian"])].set_index("strength")["value"].sort_index()
        if len(images) > 1:
            alone = own[own["perturbation"].isin(list(NOISE_ALONE))].groupby("perturbation")["value"].max()
            rows[model] = {"rise": images.iloc[-1] - images.iloc[0], **(alone - images.max())}
    if not rows:
        raise NotTestedError("ResNet-50 on ImageNet, which schaeffer2020.fig3_imagenet reads")
    return pd.DataFrame.from_dict(rows, orient="index")


def of_imagenet(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of networks of other libraries, which come with their weights."""
    chosen: pd.DataFrame = rows[rows["model"].astype(str).str.contains(":")]
    return chosen


def name_of(model: str) -> str:
    """A network's name without its library."""
    return model.partition(":")[2]


def _range(values: pd.Series) -> str:
    low, high = f"{values.min():+.2f}", f"{values.max():+.2f}"
    return low if low == high else f"{low} to {high}"
