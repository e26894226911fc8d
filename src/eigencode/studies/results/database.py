"""How databases are addressed and reached: URLs, SQLite's transactions, what their errors mean, and migrations."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import ArgumentError as URLError
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

BUSY_SECONDS = 60


def without_password(address: str | Path) -> str:
    """The address of a store as it may be shown."""
    text = str(address)
    if "://" not in text:
        return text
    try:
        url = sa.make_url(text)
    except (URLError, ValueError):
        return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", text)
    shown = url.update_query_dict({"password": "***"}) if "password" in url.query else url
    return unquote(shown.render_as_string(hide_password=True))


def is_text(words: str) -> bool:
    """Whether a text can be written in UTF-8."""
    try:
        return bool(words.encode())
    except UnicodeEncodeError:
        return False


def file_of(address: str | Path) -> Path | None:
    """The file of a store; None for a database elsewhere."""
    if "://" not in str(address):
        return Path(os.path.expanduser(address))
    try:
        url = url_of(address)
    except (URLError, ValueError):
        return None
    path = url.database if url.get_backend_name() == "sqlite" else None
    return None if not path or path == ":memory:" or path.startswith("file:") else Path(path)


def url_of(address: str | Path) -> sa.URL:
    """The URL of a store; of a file, of an SQLite database."""
    if "://" in str(address):
        return sa.make_url(str(address))
    return sa.URL.create("sqlite", database=str(Path(os.path.expanduser(address)).absolute()))


def begin_ourselves(connection: Any, _record: Any) -> None:
    """Transactions that begin when we say so."""
    connection.isolation_level = None


def prepare_sqlite(connection: Any, _record: Any) -> None:
    """A log that readers need not wait for, and writes that survive a power cut."""
    begin_ourselves(connection, _record)
    cursor = connection.cursor()
    tables = {name for (name,) in cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and not {"alembic_version", "cells"} <= tables:
        return  # of something else, which is refused, and stays as it is
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:  # of a new file this does not wait by itself, as all else does
            cursor.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_READONLY:
                break
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.02)
    cursor.close()


def begin_sqlite(connection: sa.Connection) -> None:
    """Writers wait for each other at once; readers wait for nobody."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writing") else "BEGIN")


def reason_of(error: Exception) -> str:
    """The database's own words, in one line."""
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split()).rstrip(".?")[:300]


def is_away(error: SQLAlchemyError) -> bool:
    """Whether a server cannot be reached just now: it was stopped, is starting, or the connection to it broke."""
    original = getattr(error, "orig", None)
    if not isinstance(error, OperationalError | InterfaceError) or isinstance(original, sqlite3.Error):
        return False
    state = getattr(original, "sqlstate", None) or ""
    return not state or state.startswith(("08", "57P"))


def migrations_config() -> Config:
    """What alembic is told."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config


@cache
def migrations() -> ScriptDirectory:
    """All schemas that there have been."""
    return ScriptDirectory.from_config(migrations_config())
