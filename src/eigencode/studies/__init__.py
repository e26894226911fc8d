"""Studies: the papers as data, cells run by engines, results in a store, and claims measured again.

Names are loaded when they are first used: a study itself needs no torch.
"""

from typing import TYPE_CHECKING

from eigencode._lazy import public_names

if TYPE_CHECKING:
    from eigencode.papers.registry import from_yaml as from_yaml, load as load, paper as paper
    from eigencode.perturbations.specification import PerturbationSpec as PerturbationSpec
    from eigencode.studies.cell import (
        CellConfig as CellConfig,
        ImagesSpec as ImagesSpec,
        NetworkSpec as NetworkSpec,
        Readout as Readout,
    )
    from eigencode.studies.definition import Block as Block, Study as Study, smoke_version as smoke_version
    from eigencode.studies.execution.engines import Local as Local, RayEngine as RayEngine
    from eigencode.studies.execution.scheduling import plan_groups as plan_groups, run_study as run_study
    from eigencode.studies.results.claim import Claim as Claim, Finding as Finding
    from eigencode.studies.results.store import Store as Store
    from eigencode.studies.results.table import StudyResults as StudyResults
    from eigencode.studies.yaml import overridden as overridden, to_yaml as to_yaml

__all__, __getattr__, __dir__ = public_names(__name__)
