import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from threading import Timer

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
import torch
from sqlalchemy.exc import OperationalError

from eigencode.errors import StudyError
from eigencode.spectra import Eigenspectrum
from eigencode.studies import CellConfig, Local, Store, run_study
from eigencode.studies.cell import with_field
from eigencode.studies.execution.group import CellRecord
from eigencode.studies.execution.readout import ROW, SpectrumRecord
from eigencode.studies.results import only_reading
from eigencode.training.saving import load_tensors
from small_study import PLAN, STUDY


def record(seed, *, value=1.5, error=None):
    plan = with_field(CellConfig(), "member.seed", seed)
    rows = pd.DataFrame([("tanh1", "unperturbed", 0.0, 50, "alpha", value)], columns=ROW)
    code = torch.randn(30, 5, generator=torch.Generator().manual_seed(seed))
    spectrum = Eigenspectrum.from_activations(code, half_samples=0)
    return CellRecord(plan, rows, [SpectrumRecord("tanh1", "unperturbed", 0.0, spectrum)], error, 2.0)


class PostgreSQL:
    """A server of its own in a folder, started."""

    def __init__(self, binaries, folder):
        self.address = f"postgresql+psycopg://postgres@/postgres?host={folder}"
        self._options = {"check": True, "stdout": subprocess.DEVNULL}
        if os.geteuid() == 0:  # the server refuses to be run by root
            shutil.chown(folder, "postgres")
            self._options |= {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": folder}
        data = folder / "data"
        subprocess.run([binaries / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"], **self._options)
        self._server = [binaries / "pg_ctl", "-D", data, "-w"]
        self._settings = ["-l", folder / "log", "-o", f"-c listen_addresses='' -c unix_socket_directories={folder}"]
        self.start()

    def start(self):
        subprocess.run([*self._server, *self._settings, "start"], **self._options)

    def stop(self):
        subprocess.run([*self._server, "-m", "immediate", "stop"], **self._options)


@pytest.fixture(scope="session")
def server():
    """A PostgreSQL server, where Debian's package is installed; in a folder that its user may enter, as pytest's are not."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("needs PostgreSQL: install Debian's package postgresql")
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder:
        server = PostgreSQL(binaries[-1], Path(folder))
        yield server
        server.stop()


@pytest.fixture
def postgresql(server):
    execute(server.address, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return server.address


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path):
    if request.param == "sqlite":
        return str(tmp_path / "store.sqlite")
    return request.getfixturevalue("postgresql")


def execute(address, *statements):
    url = address if "://" in address else f"sqlite:///{address}"
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_a_new_file_that_another_process_is_making_is_waited_for(tmp_path):
    other = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    ended = Timer(0.5, other.execute, ["ROLLBACK"])
    ended.start()
    Store(tmp_path / "store.sqlite").save([record(0)])
    ended.join()
    other.close()


def test_a_cell_keeps_what_it_was_computed_with(tmp_path):
    elsewhere = {"code_revision": "0123456789ab", "versions": {"torch": "2.0"}, "hardware": {"processor": "another", "gpus": []}}
    store = Store(tmp_path / "store.sqlite")
    store.save([replace(record(0), computed_with=elsewhere)])
    (cell,) = store.cells().to_dict("records")
    assert {name: cell[name] for name in elsewhere} == elsewhere


def test_a_cell_comes_back_as_it_was(address):
    saved = record(3)
    store = Store(address)
    store.save([saved, record(4, error="it diverged")])
    again = Store(address)
    assert again.finished() == {saved.plan.identity: None, record(4).plan.identity: "it diverged"}
    (row,) = again.results([saved.plan.identity]).to_dict("records")
    assert row == {"cell": saved.plan.identity, **saved.rows.iloc[0].to_dict()}
    (spectrum,) = again.spectra([saved.plan.identity]).to_dict("records")
    assert np.array_equal(spectrum["eigenvalues"], saved.spectra[0].spectrum.eigenvalues.numpy())
    assert (spectrum["n_samples"], spectrum["n_features"]) == (30, 5)
    assert spectrum["floor"] == saved.spectra[0].spectrum.floor > 0
    (cell,) = again.cells([saved.plan.identity]).to_dict("records")
    assert (cell["seed"], cell["seconds"], cell["versions"]["torch"]) == (3, 2.0, version("torch"))
    assert cell["plan"]["member"]["seed"] == 3


def test_what_is_there_is_replaced_only_when_asked(address):
    store = Store(address)
    store.save([record(0, value=1.0)])
    store.save([record(0, value=2.0), record(1)])
    assert sorted(store.results()["value"]) == [1.0, 1.5]
    store.save([record(0, value=2.0)], again=True)
    assert sorted(store.results()["value"]) == [1.5, 2.0]
    assert len(store.spectra()) == 2


def test_a_failure_gives_way_to_a_result_and_never_the_other_way(address):
    store = Store(address)
    store.save([record(0, error="it diverged")])
    store.save([record(0)])
    assert store.finished() == {record(0).plan.identity: None}
    store.save([record(0, error="it diverged")])
    assert store.finished() == {record(0).plan.identity: None}


def test_stores_are_merged(address, tmp_path):
    store, other = Store(address), Store(tmp_path / "other.sqlite")
    store.save([record(0, value=1.0), record(1, error="it diverged"), record(2, value=1.0)])
    other.save([record(1), record(2, error="it diverged"), record(3), record(4, error="it diverged")])
    execute(other.address, "UPDATE cells SET finished = 'long ago', code_revision = 'theirs'")
    assert store.merge(other) == 3
    identities = [record(seed).plan.identity for seed in range(5)]
    assert [store.finished()[identity] for identity in identities] == [None, None, None, None, "it diverged"]
    assert sorted(store.results()["value"]) == [1.0, 1.0, 1.5, 1.5, 1.5]
    for read in (store.cells, store.results, store.spectra):
        copied, theirs = (
            table.to_dict("records") for table in (read([identities[3]]), getattr(other, read.__name__)([identities[3]]))
        )
        assert str(copied) == str(theirs)
    assert store.cells([identities[3]])["code_revision"].tolist() == ["theirs"]
    assert store.merge(other) == 0
    assert len(store.results()) == 5
    assert len(other.finished()) == 4


def test_other_numbers_are_not_merged(address, tmp_path):
    store, other = Store(address), Store(tmp_path / "other.sqlite")
    other.save([record(0)])
    execute(other.address, "UPDATE cells SET result_version = 1")
    with pytest.raises(StudyError, match=r"other\.sqlite holds cells of result version 1"):
        store.merge(other)
    assert store.finished() == {}


def test_readers_wait_for_no_writer(tmp_path):
    store = Store(tmp_path / "store.sqlite")
    store.save([record(0)])
    with store._writing.begin():
        assert len(Store(tmp_path / "store.sqlite").results()) == 1


def test_two_writers_lose_nothing(address):
    def write(first):
        store = Store(address)
        for seed in range(first, first + 30):
            store.save([record(seed)])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, (0, 15)))
    store = Store(address)
    assert len(store.finished()) == 45
    assert len(store.results()) == len(store.spectra()) == 45


def test_a_write_that_fails_leaves_nothing(address):
    store = Store(address)
    broken = record(1)
    broken.rows["layer"] = [object()]
    with pytest.raises(StudyError, match="What was finished before is unharmed"):
        store.save([record(0), broken])
    assert store.finished() == {}
    assert store.results().empty


def test_a_full_disk_leaves_what_was_there(tmp_path):
    store = Store(tmp_path / "store.sqlite")
    store.save([record(0)])
    sa.event.listen(store._engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 1"))
    with pytest.raises(StudyError, match=r"database or disk is full\. What was finished before is unharmed\.$"):
        store.save([record(seed) for seed in range(1, 100)])
    assert list(Store(tmp_path / "store.sqlite").finished()) == [record(0).plan.identity]


def test_many_cells_are_asked_for_at_once(address):
    store = Store(address)
    records = [record(seed) for seed in range(50)]
    store.save(records)
    asked = [each.plan.identity for each in records] + [f"nothing{number}" for number in range(2000)]
    assert len(store.results(asked)) == 50


def test_cells_of_another_result_version_are_refused(address):
    store = Store(address)
    store.save([record(0)])
    execute(address, "UPDATE cells SET result_version = 99")
    message = r"holds cells of result version 99; this eigencode makes version 2, whose numbers differ"
    with pytest.raises(StudyError, match=message):
        store.finished()
    with pytest.raises(StudyError, match=message):  # whichever are asked for: those of this version may be missing for that
        store.cells([record(1).plan.identity])


def test_an_older_schema_is_brought_up_to_date(address):
    saved = record(3)
    Store(address).save([saved])
    execute(address, "ALTER TABLE spectra DROP COLUMN floor", "UPDATE alembic_version SET version_num = '0001'")
    store = Store(address)
    store.save([record(4)])
    spectra = store.spectra().sort_values("floor", na_position="first")
    assert spectra["floor"].isna().tolist() == [True, False]
    assert np.array_equal(spectra["eigenvalues"].iloc[0], saved.spectra[0].spectrum.eigenvalues.numpy())


def test_a_newer_schema_is_refused(address):
    Store(address)
    execute(address, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StudyError, match=r"has schema 9999, of a newer eigencode; this one knows 0002"):
        Store(address)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("postgresql+psycopg://localhost:1/x", "connection refused|Connection refused"),
        ("nosuch://x", "Give a file, or the URL of a database whose driver is installed"),
        ("/proc/nowhere/store.sqlite", "cannot be made"),
        (__file__, r"file is not a database\. Name another file or database\."),
    ],
)
def test_databases_that_cannot_be_reached(address, message):
    with pytest.raises(StudyError, match=message):
        Store(address)


@pytest.mark.parametrize("table", ["cells", "letters"])
def test_another_database_is_left_alone(table, tmp_path):
    execute(str(tmp_path / "other.sqlite"), f"CREATE TABLE {table} (cell TEXT)")
    with pytest.raises(StudyError, match="is a database of something else"):
        Store(tmp_path / "other.sqlite")


def test_a_store_that_is_only_read_is_not_made(tmp_path):
    for address in (tmp_path / "no.sqlite", f"sqlite:///{tmp_path / 'no.sqlite'}"):
        with pytest.raises(StudyError, match="does not exist: nothing has been run into it yet"):
            Store(address, make=False)
    assert not list(tmp_path.iterdir())


def test_a_store_that_may_only_be_read(tmp_path, monkeypatch):
    """Such as that of somebody else: nothing is written beside it, and its path may hold what a URL may not."""
    path = tmp_path / "of #1?%20.sqlite"
    Store(path).save([record(0)])
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    store = Store(path, make=False)
    assert (len(store.results()), len(store.finished())) == (1, 1)
    with pytest.raises(StudyError, match="attempt to write a readonly database"):
        store.save([record(1)])
    assert list(tmp_path.iterdir()) == [path]


def test_a_server_that_is_stopped_in_the_course_of_a_run_is_waited_for(server, postgresql, tmp_path, capsys):
    engine = _Stopping(server, back_after=3)
    summary = run_study(STUDY, Store(postgresql), engine, stack=2, states=tmp_path / "states")
    assert (summary.finished, summary.new, summary.failed) == (4, 4, {})
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("Waiting up to 60 s for the store postgresql+psycopg://postgres@/postgres?host=")
    assert not list((tmp_path / "states").iterdir())


def test_a_server_that_stays_away_ends_a_run_and_nothing_computed_is_lost(server, postgresql, tmp_path, monkeypatch):
    monkeypatch.setattr("eigencode.studies.results.store.PATIENCE", 2.0)
    engine = _Stopping(server, back_after=None)
    with pytest.raises(StudyError, match=r"could not be reached for 2 s: .* What was finished before is unharmed\. Give the com"):
        run_study(STUDY, Store(postgresql), engine, stack=2, states=tmp_path / "states")
    (state,) = (tmp_path / "states").rglob("group.safetensors")
    assert load_tensors(state)[1]["epoch"] == PLAN.training.epochs
    server.start()
    assert run_study(STUDY, Store(postgresql), Local(), stack=2, states=tmp_path / "states").finished == 4


class _Stopping(Local):
    """The local engine, with a server that is stopped after the first group was computed, before it is stored."""

    def __init__(self, server, back_after):
        self.server, self.back_after, self.is_stopped = server, back_after, False

    def run(self, tasks, report=None):
        for done in super().run(tasks, report):
            if not self.is_stopped:
                self.is_stopped = True
                self.server.stop()
                if self.back_after:
                    Timer(self.back_after, self.server.start).start()
            yield done


def listing(folder):
    """Every file with all that reading could change."""
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_size, path.stat().st_ino, path.is_file() and path.read_bytes())
        for path in (folder, *folder.rglob("*"))
    }


@pytest.mark.parametrize("left", ["nothing", "log and index", "log", "empty log", "older schema", "nothing written"])
def test_reading_changes_no_file(tmp_path, left):
    path, folder = tmp_path / "here" / "store.sqlite", tmp_path / "there"
    store = Store(path)
    if left != "nothing written":
        store.save([record(0)])
    if left == "older schema":
        execute(str(path), "ALTER TABLE spectra DROP COLUMN floor", "UPDATE alembic_version SET version_num = '0001'")
    folder.mkdir()
    if "log" in left:  # as a kill leaves it: the second cell is in the log alone
        with sqlite3.connect(path) as holding:
            holding.execute("SELECT * FROM cells").fetchall()
            if left != "empty log":
                store.save([record(1)])
            for end in ("", "-wal", *(["-shm"] if "index" in left else [])):
                shutil.copy(f"{path}{end}", folder)
        holding.close()
    else:
        shutil.copy(path, folder)
    before, there = listing(folder), folder / "store.sqlite"
    found = Store(there, make=False)
    cells = {"nothing written": 0, "log": 2, "log and index": 2}.get(left, 1)
    assert (len(found.finished()), len(found.results()), len(found.spectra()), len(found.cells())) == (cells,) * 4
    assert Store(tmp_path / "mine.sqlite").merge(found) == cells
    assert listing(folder) == before


def test_reading_while_another_process_writes_is_of_one_moment(tmp_path):
    path = tmp_path / "store.sqlite"
    Store(path).save([record(0)])
    reader, counts = Store(path, make=False), []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, path, __file__], env=environment)
    while writer.poll() is None:
        counts.append(len(reader.results()))
    assert writer.returncode == 0
    counts.append(len(reader.results()))
    assert counts == sorted(counts)
    assert all(count % 2 for count in counts)
    assert counts[-1] == 119
    assert len(set(counts)) > 10


_WRITER = """
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location("test_store", sys.argv[2])
here = importlib.util.module_from_spec(spec)
spec.loader.exec_module(here)
store = here.Store(sys.argv[1])
for seed in range(1, 60):
    store.save([here.record(seed), here.record(1000 + seed)])
    time.sleep(0.02)  # so that readers see many of them
"""


@pytest.mark.parametrize(("failures", "succeeds"), [(3, True), (1000, False)])
def test_a_log_that_is_begun_between_two_statements_is_waited_for(tmp_path, monkeypatch, failures, succeeds):
    monkeypatch.setattr(only_reading, "_NEW_LOG", 0.5)
    (tmp_path / "s.sqlite").write_bytes(b"x")
    calls = []

    def what():
        calls.append(1)
        if len(calls) <= failures:
            error = sqlite3.OperationalError("attempt to write a readonly database")
            error.sqlite_errorcode = sqlite3.SQLITE_READONLY_RECOVERY
            raise OperationalError(None, None, error)
        return "read"

    reading = only_reading.OnlyReading(tmp_path / "s.sqlite")
    if succeeds:
        assert reading.read(what) == "read"
    else:
        with pytest.raises(OperationalError, match="readonly"):
            reading.read(what)


def test_a_password_is_not_told(tmp_path):
    for address in ("me:secret@localhost:1/none", "me:secret@host:port/none", "/none?host=localhost&port=1&password=secret"):
        with pytest.raises(StudyError) as caught:
            Store(f"postgresql+psycopg://{address}")
        assert "secret" not in str(caught.value)
        assert "***" in str(caught.value)
    with pytest.raises(StudyError, match="is a folder. Name a file in it, such as"):
        Store(tmp_path)


def test_a_writer_that_was_killed_with_a_journal_has_changed_nothing(tmp_path):
    """Where there is no log, as on some network disks, SQLite takes back what was not finished; so does who only reads."""
    path = tmp_path / "s.sqlite"
    Store(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        columns = "cell, layer, perturbation, strength, epoch, quantity, value"
        row = ("c", "l", "", 0.0, 1, "alpha", 1.0)
        connection.executemany(f"INSERT INTO results ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", [row] * 3000)
        connection.commit()
    killed = (
        f"import os, sqlite3; c = sqlite3.connect({str(path)!r}, isolation_level=None); c.execute('PRAGMA cache_size=5'); "
        "c.execute('BEGIN IMMEDIATE'); c.execute('UPDATE results SET value = 2.0'); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", killed], check=False)
    assert (tmp_path / "s.sqlite-journal").stat().st_size
    before = {each: each.stat().st_mtime_ns for each in tmp_path.iterdir()}
    assert set(Store(path, make=False).results()["value"]) == {1.0}
    assert {each: each.stat().st_mtime_ns for each in tmp_path.iterdir()} == before
    assert set(Store(path).results()["value"]) == {1.0}


@pytest.mark.parametrize(("column", "value"), [("result_version", "abc"), ("error", b"blob"), ("finished", b"5")])
def test_values_of_another_kind_are_damage_to_all_who_look(tmp_path, column, value):
    store = Store(tmp_path / "s.sqlite")
    store.save([record(0)])
    with contextlib.closing(sqlite3.connect(tmp_path / "s.sqlite")) as connection:
        connection.execute(f"UPDATE cells SET {column} = ?", (value,))
        connection.commit()
    look = store.stamps if column == "finished" else store.finished
    with pytest.raises(
        StudyError, match=rf"is damaged: cells\.{column} holds what eigencode did not write|holds cells of result version"
    ):
        look()
    with pytest.raises(StudyError, match="is damaged|of result version"):
        store.cells()


@pytest.mark.parametrize("address", [5, None, b"x"])
def test_an_address_is_a_path(address):
    with pytest.raises(StudyError, match=r"Store: `address` must be a text or a path; got"):
        Store(address)


@pytest.mark.parametrize("address", ["sqlite://", "sqlite:///:memory:"])
def test_a_store_is_not_kept_in_memory(address):
    with pytest.raises(StudyError, match=r"would be gone with each connection\. Name a file\."):
        Store(address)


def test_a_store_that_is_removed_in_the_course_of_a_run_is_told(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(StudyError, match=r"has lost its tables: its file was removed or replaced meanwhile\. Bring it back"):
        store.save([record(0)])


def test_a_schema_with_bytes_that_are_no_text(tmp_path):
    """SQLite says what is wrong with the bytes themselves, which Python cannot decode."""
    path = tmp_path / "s.sqlite"
    Store(path)
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE cells", b"CREATE TABL\x99 cells"))
    for make in (True, False):
        with pytest.raises(StudyError, match=r"is damaged: its schema holds what eigencode did not write\."):
            Store(path, make=make).finished()


@pytest.mark.parametrize("make", [True, False])
def test_another_database_keeps_every_byte(make, tmp_path):
    path = tmp_path / "other.sqlite"
    execute(str(path), "CREATE TABLE letters (body TEXT)", "INSERT INTO letters VALUES ('a')")
    before = path.read_bytes()
    with pytest.raises(StudyError, match="is a database of something else"):
        Store(path, make=make)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (before, [path])
