"""The ledger: what was made, from what, and how it ended. SQLite in WAL mode, written by one process at a time.

items     one row an item: its description, fingerprint, outputs with digests and stamps, remark, seconds
rows      one row a picture: status, reason, outputs, record
pending   items that are recorded but whose files may not all be in place yet
stages    per stage a revision that rises with every change, the one that its records file shows, under which
          circumstances its items were last listed, and when its folders were last looked into
shared    files that sum up a stage, with the digest that they were written with
digests   digests of files that no stage made (sources), by size and modification time
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bglora.engine.files import told
from bglora.errors import UserError

SCHEMA = 1
"""Version of the tables; a ledger with a higher one was written by a newer bglora."""

_TABLES = """
CREATE TABLE IF NOT EXISTS items(
    stage TEXT, item TEXT, fingerprint TEXT, about TEXT, inputs TEXT, outputs TEXT, remark TEXT, error TEXT,
    seconds REAL, bytes INTEGER, made INTEGER, dropped INTEGER, failed INTEGER, tries INTEGER,
    PRIMARY KEY(stage, item)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows(
    stage TEXT, picture TEXT, item TEXT, status TEXT, reason TEXT, outputs TEXT, record TEXT,
    PRIMARY KEY(stage, picture, item)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rows_by_item ON rows(stage, item);
CREATE TABLE IF NOT EXISTS pending(
    stage TEXT, item TEXT, moves TEXT, PRIMARY KEY(stage, item)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stages(
    stage TEXT PRIMARY KEY, revision INTEGER, published INTEGER, listing TEXT, folders TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shared(
    stage TEXT, path TEXT, digest TEXT, stamp TEXT, PRIMARY KEY(stage, path)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS digests(
    path TEXT PRIMARY KEY, stamp TEXT, digest TEXT) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item as recorded.

    Attributes:
        outputs: one line a file: path, digest, size, mtime_ns, separated by tabs.
        error: empty, or the three lines that the item failed with.
        seconds: wall time of making it; bytes: size of its outputs together.
        made, dropped, failed: pictures by status.
        tries: how often a person had asked to try it again when it was made; -1 if that is not known.
    """

    item: str
    fingerprint: str
    about: str
    inputs: str
    outputs: str
    remark: str
    error: str
    seconds: float
    bytes: int
    made: int
    dropped: int
    failed: int
    tries: int = 0


PictureRow = tuple[str, str, str, str, str, str]
"""picture, item, status, reason, outputs (one path a line), record (JSON)."""

_ITEM = "item, fingerprint, about, inputs, outputs, remark, error, seconds, bytes, made, dropped, failed, tries"


class Ledger:
    """One open ledger. Texts in, texts out; what they mean is the business of the modules around it.

    Args:
        path: the database file, or None for one in memory that is never stored.
        readonly: open what is there without writing a byte.
    """

    def __init__(self, path: Path | None, *, readonly: bool = False) -> None:
        self.path, self.readonly = path, readonly
        where = path or ":memory:"
        with told(where):
            if path is None:
                self._db = sqlite3.connect(":memory:", isolation_level=None)
            elif readonly:
                self._db = _connect_readonly(path)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
            try:
                self._open(where)
            except BaseException:
                self._db.close()
                raise

    def _open(self, where: Path | str) -> None:
        version = int(self._one("PRAGMA user_version"))
        if version > SCHEMA:
            raise UserError(
                f"This project's ledger was written by a newer bglora (format {version}; this one knows {SCHEMA}).",
                where=str(where),
                cure="Update bglora, or delete .bglora: the work is then found again by content, not redone.",
            )
        if self.readonly:
            return
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        if version < SCHEMA:
            with self.transaction():
                for statement in _TABLES.strip().split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={SCHEMA}")

    def _one(self, sql: str, values: Sequence[object] = ()) -> str | int:
        row = self._db.execute(sql, values).fetchone()
        return row[0] if row else 0

    def close(self) -> None:
        """Closes the database."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; told in three lines when the disk is full or refuses."""
        with told(self.path or ":memory:"):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite may have rolled back by itself, as on a full disk
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def empty_stage(self, stage: str) -> bool:
        """True when nothing of the stage is recorded."""
        return not self._one("SELECT EXISTS(SELECT 1 FROM items WHERE stage=?)", (stage,))

    # items

    def items(self, stage: str) -> dict[str, ItemRow]:
        """All items of a stage by name."""
        found = self._db.execute(f"SELECT {_ITEM} FROM items WHERE stage=?", (stage,))
        return {row[0]: ItemRow(*row) for row in found}

    def item(self, stage: str, item: str) -> ItemRow | None:
        """One item, None if it is not recorded."""
        found = self._db.execute(f"SELECT {_ITEM} FROM items WHERE stage=? AND item=?", (stage, item)).fetchone()
        return ItemRow(*found) if found else None

    def item_names(self, stage: str) -> list[str]:
        """The names of a stage's items, sorted."""
        return [row[0] for row in self._db.execute("SELECT item FROM items WHERE stage=? ORDER BY item", (stage,))]

    def outputs(self, stage: str) -> Iterator[tuple[str, str]]:
        """(item, outputs text) of every item of a stage."""
        yield from self._db.execute("SELECT item, outputs FROM items WHERE stage=?", (stage,))

    def remark(self, stage: str, item: str) -> str:
        """The item's remark as JSON, empty if it has none."""
        return str(self._one("SELECT remark FROM items WHERE stage=? AND item=?", (stage, item)) or "")

    def inputs(self, stage: str) -> Iterator[str]:
        """Inputs text of every item of a stage."""
        for row in self._db.execute("SELECT inputs FROM items WHERE stage=?", (stage,)):
            yield row[0]

    def put_item(self, stage: str, row: ItemRow, pictures: Iterable[PictureRow]) -> None:
        """Stores an item and its pictures in place of what was known about it."""
        self._db.execute(
            f"INSERT OR REPLACE INTO items(stage, {_ITEM}) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                stage, row.item, row.fingerprint, row.about, row.inputs, row.outputs, row.remark, row.error,
                row.seconds, row.bytes, row.made, row.dropped, row.failed, row.tries,
            ),
        )  # fmt: skip
        self._db.execute("DELETE FROM rows WHERE stage=? AND item=?", (stage, row.item))
        self._db.executemany(
            "INSERT INTO rows(stage, picture, item, status, reason, outputs, record) VALUES(?,?,?,?,?,?,?)",
            ((stage, *picture) for picture in pictures),
        )
        self.bump(stage)

    def forget_item(self, stage: str, item: str) -> None:
        """Deletes an item and its pictures."""
        self._db.execute("DELETE FROM items WHERE stage=? AND item=?", (stage, item))
        self._db.execute("DELETE FROM rows WHERE stage=? AND item=?", (stage, item))
        self.bump(stage)

    def put_tries(self, stage: str, item: str, tries: int) -> None:
        """Stores how often a person has asked to try the item again."""
        self._db.execute("UPDATE items SET tries=? WHERE stage=? AND item=?", (tries, stage, item))

    def put_texts(self, stage: str, item: str, about: str, inputs: str) -> None:
        """Stores how an item is described now where its fingerprint is the same."""
        self._db.execute("UPDATE items SET about=?, inputs=? WHERE stage=? AND item=?", (about, inputs, stage, item))

    def put_outputs(self, stage: str, item: str, outputs: str) -> None:
        """Stores an item's outputs text with fresh stamps."""
        self._db.execute("UPDATE items SET outputs=? WHERE stage=? AND item=?", (outputs, stage, item))

    # pictures

    def rows(self, stage: str) -> Iterator[PictureRow]:
        """Pictures of a stage sorted by name."""
        yield from self._db.execute(
            "SELECT picture, item, status, reason, outputs, record FROM rows WHERE stage=? ORDER BY picture, item",
            (stage,),
        )

    def ends(self, stage: str, statuses: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
        """(item, picture, status, reason) of the pictures that ended in one of the statuses."""
        marks = ",".join("?" * len(statuses))
        yield from self._db.execute(
            f"SELECT item, picture, status, reason FROM rows WHERE stage=? AND status IN ({marks}) ORDER BY picture",
            (stage, *statuses),
        )

    # pending moves

    def put_pending(self, stage: str, item: str, moves: str) -> None:
        """Stores which files have to be put in place for an item."""
        self._db.execute("INSERT OR REPLACE INTO pending VALUES(?,?,?)", (stage, item, moves))

    def pending(self) -> list[tuple[str, str, str]]:
        """(stage, item, moves) of all items whose files may not be in place."""
        return list(self._db.execute("SELECT stage, item, moves FROM pending ORDER BY stage, item"))

    def settle(self, stage: str, item: str) -> None:
        """Says that an item's files are in place."""
        self._db.execute("DELETE FROM pending WHERE stage=? AND item=?", (stage, item))

    # revisions and shared files

    def bump(self, stage: str) -> None:
        """Raises the stage's revision."""
        self._db.execute(
            "INSERT INTO stages VALUES(?,1,0,'','') ON CONFLICT(stage) DO UPDATE SET revision=revision+1", (stage,)
        )

    def unpublished(self, stage: str) -> bool:
        """True when the stage changed since its records file was written."""
        return bool(self._one("SELECT revision<>published FROM stages WHERE stage=?", (stage,)))

    def published(self, stage: str) -> None:
        """Says that the records file shows the present revision."""
        self._db.execute("UPDATE stages SET published=revision WHERE stage=?", (stage,))

    def revision(self, stage: str) -> int:
        """A number that differs whenever the stage's items or pictures do; 0 if it never ran."""
        return int(self._one("SELECT revision FROM stages WHERE stage=?", (stage,)))

    def listing(self, stage: str) -> str:
        """Under which circumstances the recorded items were the listed ones; empty if that is not known."""
        return str(self._one("SELECT listing FROM stages WHERE stage=?", (stage,)) or "")

    def put_listing(self, stage: str, circumstances: str) -> None:
        """Says that the recorded items are the listed ones under these circumstances."""
        self._db.execute("UPDATE stages SET listing=? WHERE stage=?", (circumstances, stage))

    def folders(self, stage: str) -> str:
        """`folder<TAB>mtime_ns` lines of the output folders in which everything was as recorded."""
        return str(self._one("SELECT folders FROM stages WHERE stage=?", (stage,)) or "")

    def put_folders(self, stage: str, folders: str) -> None:
        """Stores when which folders were as recorded."""
        self._db.execute("UPDATE stages SET folders=? WHERE stage=?", (folders, stage))

    def shared(self, stage: str) -> dict[str, tuple[str, str]]:
        """path → (digest, stamp) of the stage's shared files as they were written."""
        found = self._db.execute("SELECT path, digest, stamp FROM shared WHERE stage=?", (stage,))
        return {path: (digest, stamp) for path, digest, stamp in found}

    def put_shared(self, stage: str, path: str, digest: str, stamp: str) -> None:
        """Stores with which content a shared file was written."""
        self._db.execute("INSERT OR REPLACE INTO shared VALUES(?,?,?,?)", (stage, path, digest, stamp))

    def forget_shared(self, stage: str, path: str) -> None:
        """Deletes a shared file's entry."""
        self._db.execute("DELETE FROM shared WHERE stage=? AND path=?", (stage, path))

    # files that no stage made

    def digests(self) -> dict[str, tuple[str, str]]:
        """path → (stamp, digest) of all files that were read for their own sake."""
        found = self._db.execute("SELECT path, stamp, digest FROM digests")
        return {path: (stamp, digest) for path, stamp, digest in found}

    def put_digest(self, path: str, stamp: str, digest: str) -> None:
        """Stores a file's digest."""
        self._db.execute("INSERT OR REPLACE INTO digests VALUES(?,?,?)", (path, stamp, digest))

    # history

    def history(self, stage: str) -> tuple[float, int, int, int]:
        """(seconds, pictures, items, bytes) of all items of the stage whose making time is known."""
        row = self._db.execute(
            "SELECT TOTAL(seconds), TOTAL(made+dropped), COUNT(*), TOTAL(bytes) FROM items"
            " WHERE stage=? AND seconds>0 AND error=''",
            (stage,),
        ).fetchone()
        return float(row[0]), int(row[1]), int(row[2]), int(row[3])

    def pictures(self) -> int:
        """Pictures made, all stages together."""
        return int(self._one("SELECT TOTAL(made) FROM items"))

    def items_count(self, stage: str) -> int:
        """Items of the stage."""
        return int(self._one("SELECT COUNT(*) FROM items WHERE stage=?", (stage,)))

    def counts(self, stage: str) -> tuple[int, int, int]:
        """Pictures made, dropped and failed in the stage."""
        row = self._db.execute(
            "SELECT TOTAL(made), TOTAL(dropped), TOTAL(failed) FROM items WHERE stage=?", (stage,)
        ).fetchone()
        return int(row[0]), int(row[1]), int(row[2])

    def readable(self) -> bool:
        """True if all tables are there and can be read."""
        try:
            for table in ("items", "rows", "pending", "stages", "shared", "digests"):
                self._db.execute(f"SELECT * FROM {table} LIMIT 1").fetchall()
            return True
        except sqlite3.DatabaseError:
            return False

    def sound(self) -> bool:
        """SQLite's own quick check of the whole file."""
        try:
            return self._db.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        except sqlite3.DatabaseError:
            return False


def _connect_readonly(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing. Able to write if possible, so that closing it leaves no log behind."""
    uri = path.resolve().as_uri()
    for mode in ("mode=rw", "mode=ro"):
        db = sqlite3.connect(f"{uri}?{mode}", uri=True, isolation_level=None, timeout=30)
        try:
            db.execute("PRAGMA query_only=ON")
            db.execute("SELECT 1 FROM sqlite_master").fetchall()
            return db
        except sqlite3.OperationalError:  # a write-ahead log can't be opened on a read-only disk; nobody writes there
            db.close()
    return sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True, isolation_level=None)
