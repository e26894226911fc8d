"""Studies: the papers as data, cells run by engines, results in a store, and claims measured again.

Names are loaded when they are first used: a study itself needs no torch.
"""

from typing import TYPE_CHECKING

from eigencode._lazy import loader

if TYPE_CHECKING:
    from eigencode.studies.claims import Claim, Finding
    from eigencode.studies.engines import Local, RayEngine
    from eigencode.studies.evidence import Evidence
    from eigencode.studies.files import from_yaml, overridden, to_yaml
    from eigencode.studies.papers import load, paper
    from eigencode.studies.scheduling import plan_groups, run_study
    from eigencode.studies.store import Store
    from eigencode.studies.study import Block, Images, Network, Perturbed, Plan, Reading, Study, shrunk

_HOME = {
    "Block": "study",
    "Claim": "claims",
    "Evidence": "evidence",
    "Finding": "claims",
    "Images": "study",
    "Local": "engines",
    "Network": "study",
    "Perturbed": "study",
    "Plan": "study",
    "RayEngine": "engines",
    "Reading": "study",
    "Store": "store",
    "Study": "study",
    "from_yaml": "files",
    "load": "papers",
    "overridden": "files",
    "paper": "papers",
    "plan_groups": "scheduling",
    "run_study": "scheduling",
    "shrunk": "study",
    "to_yaml": "files",
}

__all__ = [
    "Block",
    "Claim",
    "Evidence",
    "Finding",
    "Images",
    "Local",
    "Network",
    "Perturbed",
    "Plan",
    "RayEngine",
    "Reading",
    "Store",
    "Study",
    "from_yaml",
    "load",
    "overridden",
    "paper",
    "plan_groups",
    "run_study",
    "shrunk",
    "to_yaml",
]

__getattr__ = loader(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
