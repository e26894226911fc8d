"""What Schaeffer et al. 2020 find of trained ImageNet networks: checks of their Figs 2 and 3, left."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from eigencode.papers.schaeffer2020.study import ELEVEN, NEED_FILES, NOISE_ALONE, RESNET
from eigencode.studies.results.claim import Finding, agreed, finding
from eigencode.studies.results.table import NotTestedError, StudyResults, single

_RISE = 0.1
"""Difference of exponents from which a spectrum is called steeper."""


def bound(evidence: StudyResults) -> Finding:
    """S1: exponents of the ImageNet networks; others than the paper's are told where none of the paper's was read."""
    rows = of_imagenet(evidence.select("alpha", perturbation="unperturbed"))
    alpha = single(rows, "model").set_index("model")["value"].sort_values()
    if alpha.empty:
        raise NotTestedError(NEED_FILES["fig2"])
    own = alpha[alpha.index.isin(ELEVEN)]
    shown = alpha if own.empty else own
    ends = " to ".join(f"{shown.iloc[place]:.2f} ({name_of(str(shown.index[place]))})" for place in (0, -1))
    if 0 < len(own) < len(ELEVEN):
        raise NotTestedError(f"all eleven networks; so far {len(own)}, α {ends}")
    test = "all above 1, which is faster than the bound (one network of each kind)"
    found = finding(f"α {ends}", test, bool((shown > 1).all()))
    return found.of_a_substitute("the paper's eleven networks", f"{len(alpha)} others") if own.empty else found


def noise_on_imagenet(evidence: StudyResults) -> Finding:
    """S2a: noise makes the ImageNet network's spectrum steeper, noise alone most of all, whatever its mean."""
    changes = _under_noise(evidence)
    own = changes.loc[[RESNET]] if RESNET in changes.index else changes
    readings = []
    for kind, mean in NOISE_ALONE.items():
        if kind not in own or own[kind].isna().any():
            raise NotTestedError(f"ImageNet networks that are shown noise alone of mean {mean:g}")
        test = f"α rises by more than {_RISE:g}, and by more under noise alone (one trained network of each kind)"
        found = f"{_range(own[kind])} (mean {mean:g})"
        readings.append(finding(found, test, bool((own["rise"] > _RISE).all()), bool((own[kind] > 0).all())))
    both = agreed(readings, "the mean of the noise")
    both = replace(both, found=f"strongest noise {_range(own['rise'])}, noise alone beyond noisy images {both.found}")
    return both if RESNET in changes.index else both.of_a_substitute("ResNet-50", f"{len(own)} others")


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
    """Of each ImageNet network, by how much the strongest noise raises α, and noise alone above the steepest noisy images.

    Raises:
        NotTestedError: none was read, or one in several ways.
    """
    rows = {}
    for model, own in of_imagenet(evidence.select("alpha")).groupby("model"):
        own = single(own, "perturbation", "strength")
        images = own[own["perturbation"].isin(["unperturbed", "gaussian"])].set_index("perturbation")
        if {"unperturbed", "gaussian"} <= set(images.index):
            ordered = images.sort_values("strength")["value"]
            alone = own[own["perturbation"].isin(list(NOISE_ALONE))].groupby("perturbation")["value"].max()
            rows[model] = {"rise": ordered.iloc[-1] - ordered["unperturbed"], **(alone - ordered.max())}
    if not rows:
        raise NotTestedError("ResNet-50 on ImageNet, which schaeffer2020.fig3_imagenet reads")
    return pd.DataFrame.from_dict(rows, orient="index")


def of_imagenet(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of networks of other libraries on a folder of images."""
    libraries = rows["model"].astype(str).str.startswith(("torchvision:", "timm:", "hf:"))
    chosen: pd.DataFrame = rows[libraries & rows["data"].astype(str).str.startswith("image_folder:")]
    return chosen


def name_of(model: str) -> str:
    """A network's name without its library."""
    return model.partition(":")[2]


def _range(values: pd.Series) -> str:
    low, high = f"{values.min():+.2f}", f"{values.max():+.2f}"
    return low if low == high else f"{low} to {high}"
