"""A study of small networks on the bundled digits, and what tests of studies look at."""

from eigencode.studies import (
    Block,
    CellConfig,
    ImagesSpec,
    Local,
    NetworkSpec,
    PerturbationSpec,
    Readout,
    Study,
    StudyResults,
)
from eigencode.training import MemberSettings, Settings, SpectralSettings

JIANG = SpectralSettings(ranks="jiang")


PLAN = CellConfig(
    network=NetworkSpec("gerum_cnn"),
    images=ImagesSpec(train_count=300, test_count=120),
    training=Settings(epochs=2, batch_size=100, spectral=JIANG),
    member=MemberSettings(learning_rate=1e-3),
    reading=Readout(
        ranks="jiang",
        count=100,
        perturbations=(
            PerturbationSpec("gaussian", (0.2,)),
            PerturbationSpec("pgd", (0.05, 0.1), count=60, steps=3, spectra=False),
            PerturbationSpec("fgsm", (0.1,), count=60),
        ),
    ),
)


STUDY = Study("mine", "Small networks", (Block(PLAN, {"member.beta": (0.0, 0.2)}, (0, 1)),))


class Counting(Local):
    """The local engine, which remembers what it was given."""

    def __init__(self):
        self.given = []

    def run(self, tasks, report=None):
        def noted():
            for task in tasks:
                self.given.append(len(task.plans))
                yield task

        yield from super().run(noted(), report)


def table(store, study=STUDY):
    columns = ["cell", "layer", "perturbation", "strength", "epoch", "quantity"]
    return StudyResults(store, study.cells()).rows.sort_values(columns).set_index(columns)["value"]
