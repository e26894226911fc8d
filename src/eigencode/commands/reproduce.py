"""``eigencode reproduce``."""

from __future__ import annotations

from eigencode.commands import report
from eigencode.commands.choosing import chosen_study
from eigencode.commands.options import ReproduceConfig
from eigencode.commands.study_runs import engine_of, keeping, run_chosen, say
from eigencode.studies import Store


def run(config: ReproduceConfig) -> None:
    """Runs what is missing of a paper's study, then writes its report."""
    study = chosen_study(config)
    report.check(config, study)
    recording = report.recording_of(config, study)  # told before hours of training
    engine = engine_of(config)
    with keeping("finished cells are", config.store):
        store = Store(config.store)
        summary = run_chosen(config, study, store, engine)
        if summary.finished:
            report.write(config, study, store, recording)
        say(summary, store)
