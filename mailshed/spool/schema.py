"""The spool's database: its tables, its settings, and how a connection is opened and verified.

A message is one row of `message`, a row of `recipient` for each forward-path that has not ended,
and rows of `chunk` with its content. The message row comes last and makes the message valid. The
chunks of a large message enter earlier commits, so its id stands in `incoming` until then; what is
found there at start was never acknowledged and is swept. `ledger` has the terms of the
conservation law, and `holding` how much there is of each class in each state for each backend; both
are changed in the transaction that moves the recipients.

Keys are made for appending: `message_id` grows, and the key of a chunk is its message's id,
shifted, plus its place, so that one range holds a message. The partial indexes hold only messages
with a recipient that may be tried, so that finding what is due stays logarithmic however much is
held; a query must repeat their condition word for word, or SQLite ignores them.

Settings. `synchronous=FULL` is what makes COMMIT durable in WAL mode (NORMAL does not sync at all);
it and the others are read back, since SQLite ignores what it does not like without a word. There
is one writing connection, and only it checkpoints: SQLite before 3.51.3 can corrupt a WAL that two
connections reset at once.

Cost: what changes is written twice, to the WAL and at a checkpoint to the database, in whole pages
of 4 KiB. Measured as octets written to disk per octet of content: 19 for messages of 3 KB one by
one, 3.4 for a hundred at a time, 2.1 for a message of 5 MB.
"""

import os
import sqlite3
from pathlib import Path

from mailshed.errors import SpoolSick
from mailshed.spool.rows import is_damage

DATABASE = "spool.db"
"""Name of the database file in the spool's folder."""

CHUNK_OCTETS = 256 * 1024
"""Largest piece of content in one row."""
CHUNK_BITS = 16
"""Bits of a chunk's key that count the chunks of one message: 16 GiB of content."""
CHUNKS_MAX = 1 << CHUNK_BITS

RESTORE_ADVICE = (
    "; with the service stopped, restore the folder or move it aside, which starts with an empty"
    ' spool (docs/operating.md, "The spool: look, empty, move, restore")'
)
APPLICATION_ID = 0x6D736864  # "mshd", for file(1) and for people
BUSY_TIMEOUT_SECONDS = 5.0
# After a checkpoint the WAL file is cut to this size.
JOURNAL_SIZE_LIMIT = 64 * 1024**2
# Pages the writer keeps in memory: the upper levels of all indexes of a million messages.
WRITER_CACHE_KIB = 16 * 1024

# What `holding` says, counted: reads every message.
COUNT = """
    SELECT traffic_class, state, backend, count(*), sum(recipients), sum(size) FROM (
        SELECT traffic_class, state, backend, size, (
            SELECT count(*) FROM recipient WHERE recipient.message_id = message.message_id
        ) AS recipients FROM message
    ) GROUP BY traffic_class, state, backend
"""

# One tuple of statements for each version. A step and its version number are one transaction, so a
# crash in the middle of a migration leaves the version before it.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE message (
            message_id INTEGER PRIMARY KEY,
            queue_id TEXT NOT NULL UNIQUE,
            traffic_class TEXT NOT NULL,
            rank INTEGER NOT NULL,
            state TEXT NOT NULL,
            reverse_path BLOB NOT NULL,
            parameters BLOB NOT NULL,
            size INTEGER NOT NULL,
            digest BLOB NOT NULL,
            received REAL NOT NULL,
            expires REAL NOT NULL,
            next_attempt REAL NOT NULL,
            attempts INTEGER NOT NULL,
            reason TEXT NOT NULL,
            client_address TEXT NOT NULL,
            helo TEXT NOT NULL,
            is_trusted INTEGER NOT NULL,
            is_generated INTEGER NOT NULL,
            in_doubt INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE recipient (
            message_id INTEGER NOT NULL REFERENCES message ON DELETE CASCADE,
            position INTEGER NOT NULL,
            address BLOB NOT NULL,
            parameters BLOB NOT NULL,
            state TEXT NOT NULL,
            last_reply TEXT NOT NULL,
            PRIMARY KEY (message_id, position)
        ) WITHOUT ROWID
        """,
        "CREATE TABLE chunk (chunk_id INTEGER PRIMARY KEY, octets BLOB NOT NULL)",
        "CREATE TABLE incoming (message_id INTEGER PRIMARY KEY)",
        """
        CREATE TABLE ledger (
            traffic_class TEXT NOT NULL,
            term TEXT NOT NULL,
            recipients INTEGER NOT NULL,
            PRIMARY KEY (traffic_class, term)
        ) WITHOUT ROWID
        """,
        """
        CREATE INDEX message_due ON message (traffic_class, next_attempt, received)
            WHERE state IN ('queued', 'deferred')
        """,
        """
        CREATE INDEX message_expiry ON message (expires) WHERE state IN ('queued', 'deferred')
        """,
        "CREATE INDEX message_oldest ON message (traffic_class, state, received)",
    ),
    (
        # When the sender is to be told that the message is late; NULL: never, or has been told.
        "ALTER TABLE message ADD COLUMN report_at REAL",
        """
        CREATE INDEX message_report ON message (report_at)
            WHERE report_at IS NOT NULL AND state IN ('queued', 'deferred')
        """,
    ),
    (
        # Which backend it is for, by the name that the configuration gives it; empty: nobody has
        # said yet, as for all mail of before there could be several.
        "ALTER TABLE message ADD COLUMN backend TEXT NOT NULL DEFAULT ''",
        # The name that the client had authenticated as; empty: none.
        "ALTER TABLE message ADD COLUMN login TEXT NOT NULL DEFAULT ''",
        # Mail is due at a backend: that of one that is away must not be in the way of the others'.
        "DROP INDEX message_due",
        """
        CREATE INDEX message_due ON message (backend, traffic_class, next_attempt, received)
            WHERE state IN ('queued', 'deferred')
        """,
    ),
    (
        # Sums over `message`, so that a start and a count need not read all of it.
        """
        CREATE TABLE holding (
            traffic_class TEXT NOT NULL,
            state TEXT NOT NULL,
            backend TEXT NOT NULL,
            messages INTEGER NOT NULL,
            recipients INTEGER NOT NULL,
            octets INTEGER NOT NULL,
            PRIMARY KEY (traffic_class, state, backend)
        ) WITHOUT ROWID
        """,
        f"INSERT INTO holding {COUNT}",
    ),
)
SCHEMA_VERSION = len(MIGRATIONS)


def open_writer(
    database: Path,
    factory: type[sqlite3.Connection] = sqlite3.Connection,
    *,
    verify: bool = True,
) -> sqlite3.Connection:
    """Open the one connection that may write: create, verify, migrate.

    With `verify` the whole database is read once. Raises SpoolSick with a text for the operator.
    """
    try:
        # SQLite gives its own files the mode of the database, which is thus made before.
        os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            database,
            timeout=BUSY_TIMEOUT_SECONDS,
            isolation_level=None,  # transactions begin where the code says so
            check_same_thread=False,
            cached_statements=64,
            factory=factory,
        )
    except (OSError, sqlite3.Error) as error:
        raise SpoolSick(f"cannot open {database}: {error}") from error
    try:
        _identify(connection, database)
        _configure(connection)
        if verify:
            _verify(connection)  # before anything is written: what is damaged is left as it is
        _migrate(connection)
        sync_folder(database.parent)
    except sqlite3.DatabaseError as error:
        connection.close()
        advice = RESTORE_ADVICE if is_damage(error) else ""
        raise SpoolSick(f"{database}: {error}{advice}") from error
    except (OSError, sqlite3.Error) as error:
        connection.close()
        raise SpoolSick(f"{database}: {error}") from error
    except SpoolSick:
        connection.close()
        raise
    return connection


def open_reader(database: Path) -> sqlite3.Connection:
    """Open a connection that cannot write, beside a writer that is open."""
    connection = sqlite3.connect(
        f"{database.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=BUSY_TIMEOUT_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # closed by whoever closes the spool
        cached_statements=64,
    )
    connection.execute("PRAGMA query_only = ON")
    return connection


def pragma(connection: sqlite3.Connection, name: str) -> int | str:
    """The present value of a setting."""
    value: int | str = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def check_version(connection: sqlite3.Connection, database: Path) -> int:
    """The schema version of an existing spool, 0 for an empty file; SpoolSick if it is not ours."""
    application_id = int(pragma(connection, "application_id"))
    version = int(pragma(connection, "user_version"))
    if application_id == 0 and version == 0 and int(pragma(connection, "schema_version")) == 0:
        return 0
    if application_id != APPLICATION_ID:
        raise SpoolSick(f"{database} is not a mailshed spool{RESTORE_ADVICE}")
    if version > SCHEMA_VERSION:
        raise SpoolSick(
            f"{database} was written by a newer mailshed (format {version}, this one knows"
            f" {SCHEMA_VERSION}): install that version, or drain the spool with it first"
        )
    return version


def readable(connection: sqlite3.Connection, query: str) -> str:
    """Fit a query to a spool that is read as an older version left it: nobody migrates to look.

    Before version 3 there was no `message.backend`, and all mail was for the one there was.
    """
    if int(pragma(connection, "user_version")) >= 3:
        return query
    return query.replace("message.backend", "''")


def has_sums(connection: sqlite3.Connection) -> bool:
    """Whether there is a `holding`: not before version 4, as an older version left it."""
    return int(pragma(connection, "user_version")) >= 4


def _identify(connection: sqlite3.Connection, database: Path) -> None:
    if check_version(connection, database) == 0:
        # Both are fixed once the first table exists.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _configure(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_SIZE_LIMIT}")
    connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
    connection.execute("PRAGMA temp_store = MEMORY")
    # The writer checkpoints between commits, where no one waits for it.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    wanted: tuple[tuple[str, str, int | str], ...] = (
        ("journal_mode", "WAL", "wal"),
        ("synchronous", "FULL", 2),
        ("secure_delete", "ON", 1),
        ("foreign_keys", "ON", 1),
    )
    for name, value, _ in wanted:
        connection.execute(f"PRAGMA {name} = {value}")
    for name, value, expected in (*wanted, ("auto_vacuum", "INCREMENTAL", 2)):
        if (found := pragma(connection, name)) != expected:
            raise SpoolSick(f"SQLite refused {name}={value} (it says {found})")


def _migrate(connection: sqlite3.Connection) -> None:
    for version in range(int(pragma(connection, "user_version")), SCHEMA_VERSION):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in MIGRATIONS[version]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _verify(connection: sqlite3.Connection) -> None:
    finding = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if finding != "ok":
        # "*** in database main ***", then what it found on a line of its own
        found = str(finding).splitlines()[-1]
        damage = sqlite3.DatabaseError(f"the file is damaged: {found}")
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damage


def sync_folder(folder: Path) -> None:
    """Make the names of new files durable; a file whose name is lost is lost."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
