"""``eigencode study``."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from eigencode.commands.choosing import chosen_study
from eigencode.commands.options import StudyConfig
from eigencode.studies.yaml import to_yaml

if TYPE_CHECKING:
    from eigencode.studies import Store


def run(config: StudyConfig) -> None:
    """Lists, shows, plans, runs or merges."""
    if config.action == "list":
        _list(config)
        return
    if config.action == "show":
        print(to_yaml(chosen_study(config)), end="")
        return
    from eigencode.commands import study_runs

    if config.action == "merge":
        study_runs.merge(config)
    elif config.action == "plan":
        study_runs.plan(config, chosen_study(config), _store_of(config))
    else:
        study_runs.run(config, chosen_study(config))


def _store_of(config: StudyConfig) -> Store | None:
    """The store, to be read, if there is one."""
    if "://" not in config.store and not os.path.exists(config.store):
        return None
    from eigencode.studies import Store

    return Store(config.store, make=False) if Store.is_there(config.store) else None


def _list(config: StudyConfig) -> None:
    from eigencode.papers.listing import listed
    from eigencode.reports.terminal import print_rows

    store = _store_of(config)
    title = "Studies that come with eigencode, with their cells at each scale"
    title += f" that are finished in {store.address}" if store else ""
    rows = listed(store)
    if config.json:
        print(json.dumps({"title": title, "rows": rows}, indent=2))
    else:
        print_rows(rows, title=title)
