"""What the writer does between commits; groups and faults are tested through the whole store."""

from contextlib import closing
from pathlib import Path

from mailshed.spool.schema import DATABASE, open_writer, pragma
from mailshed.spool.writer import Writer


def test_free_pages_are_given_back_so_many_at_a_time(tmp_path: Path) -> None:
    """Python's execute() would stop after the first page."""
    with closing(open_writer(tmp_path / DATABASE)) as connection:
        connection.execute("INSERT INTO chunk VALUES (1, zeroblob(4096 * 200))")
        connection.execute("DELETE FROM chunk")
        writer = Writer(lambda: connection, lambda _: None)
        writer._connection = connection
        before = int(pragma(connection, "freelist_count"))
        writer._vacuum(50)
        assert pragma(connection, "freelist_count") == before - 50
