"""Studies: the papers as data, cells run by engines, results in a store, and claims measured again.

Names are loaded when they are first used: a study itself needs no torch.
"""

from typing import TYPE_CHECKING

from eigencode._lazy import loader

if TYPE_CHECKING:
    from eigencode.papers.registry import from_yaml, load, paper
    from eigencode.perturbations.specification import PerturbationSpec
    from eigencode.studies.cell import CellConfig, ImagesSpec, NetworkSpec, Readout
    from eigencode.studies.definition import Block, Study, smoke_version
    from eigencode.studies.execution.engines import Local, RayEngine
    from eigencode.studies.execution.scheduling import plan_groups, run_study
    from eigencode.studies.results.claim import Claim, Finding, Part
    from eigencode.studies.results.store import Store
    from eigencode.studies.results.table import StudyResults
    from eigencode.studies.yaml import overridden, to_yaml

_HOME = {
    "Block": "eigencode.studies.definition",
    "Claim": "eigencode.studies.results.claim",
    "StudyResults": "eigencode.studies.results.table",
    "Finding": "eigencode.studies.results.claim",
    "ImagesSpec": "eigencode.studies.cell",
    "Local": "eigencode.studies.execution.engines",
    "NetworkSpec": "eigencode.studies.cell",
    "Part": "eigencode.studies.results.claim",
    "PerturbationSpec": "eigencode.perturbations.specification",
    "CellConfig": "eigencode.studies.cell",
    "RayEngine": "eigencode.studies.execution.engines",
    "Readout": "eigencode.studies.cell",
    "Store": "eigencode.studies.results.store",
    "Study": "eigencode.studies.definition",
    "from_yaml": "eigencode.papers.registry",
    "load": "eigencode.papers.registry",
    "overridden": "eigencode.studies.yaml",
    "paper": "eigencode.papers.registry",
    "plan_groups": "eigencode.studies.execution.scheduling",
    "run_study": "eigencode.studies.execution.scheduling",
    "smoke_version": "eigencode.studies.definition",
    "to_yaml": "eigencode.studies.yaml",
}

__all__ = [
    "Block",
    "CellConfig",
    "Claim",
    "Finding",
    "ImagesSpec",
    "Local",
    "NetworkSpec",
    "Part",
    "PerturbationSpec",
    "RayEngine",
    "Readout",
    "Store",
    "Study",
    "StudyResults",
    "from_yaml",
    "load",
    "overridden",
    "paper",
    "plan_groups",
    "run_study",
    "smoke_version",
    "to_yaml",
]

__getattr__ = loader(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
