from dataclasses import replace

import pandas as pd

from eigencode.papers.listing import listed
from eigencode.studies import Store, load, smoke_version
from eigencode.studies.cell import with_field
from eigencode.studies.execution.group import CellRecord
from eigencode.studies.execution.readout import ROW


def record(plan, error=None):
    return CellRecord(plan, pd.DataFrame(columns=ROW), [], error, 1.0)


def test_without_a_store_each_scale_has_its_number_of_cells():
    table = pd.DataFrame(listed(None)).set_index("study")
    for scale in ("quick", "cpu", "paper"):
        assert int(table.loc["jiang2020.fig5", scale]) == len(load("jiang2020.fig5", scale).cells())
    assert int(table.loc["gerum2022.fig2", "smoke"]) == len(smoke_version(load("gerum2022.fig2")).cells())
    assert "own" not in table


def test_cells_of_a_store_are_counted_by_study_and_scale_and_the_rest_by_network(tmp_path):
    store = Store(tmp_path / "store.sqlite")
    small, large = smoke_version(load("jiang2020.fig6")).cells(), load("jiang2020.fig6").cells()
    mine = [with_field(large[0], "training.epochs", epochs) for epochs in (3, 5, 7)]
    read = replace(mine[0], network=replace(mine[0].network, weights="mine.pt"))
    store.save([record(plan) for plan in [*small, *large[:3], mine[0], read]])
    store.save([record(large[3], "out of memory"), record(mine[1], "diverged")])
    table = pd.DataFrame(listed(store))
    assert table.set_index("study").loc["jiang2020.fig6"].drop("what").to_dict() == {
        "smoke": "2 of 2",
        "quick": "",
        "cpu": "3 of 20, 1 failed",
        "paper": "3 of 20, 1 failed",  # the same cells: the paper's settings fit two cores
        "own": "",
    }
    assert table.set_index("study").loc["gerum2022.fig2"].drop("what").eq("").all()
    assert table[table["study"] == "own"].set_index("what")["own"].to_dict() == {
        "jiang_mlp · mnist · 3 epochs": "1 of 1",
        "jiang_mlp · mnist · 5 epochs": "0 of 1, 1 failed",
        "jiang_mlp · mnist · not trained": "1 of 1",
    }
