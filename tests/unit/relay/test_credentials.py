"""The file with our login; the dialog of AUTH is in tests/protocol/test_backend_tls.py."""

import re
from base64 import b64decode
from pathlib import Path

import pytest

from mailshed.errors import SecretFileError
from mailshed.relay.connection import Address, Connection, Timeouts, open_connection
from mailshed.relay.credentials import Credentials, Refusal, log_in, read_credentials
from tests.support.certificates import make_authority
from tests.support.outbound import DEADLINE
from tests.support.scripted_backend import say
from tests.support.tls_backend import TlsBackend, server_context

TIMEOUTS = Timeouts(connect=DEADLINE, command=DEADLINE, dot=DEADLINE)


def file(folder: Path, content: bytes) -> Path:
    path = folder / "credentials"
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"relay\ns3cret w\xc3\xb6rd \n",
        b"relay\r\ns3cret w\xc3\xb6rd \r\n",
        b"relay\ns3cret w\xc3\xb6rd ",
    ],
)
def test_two_lines_are_name_and_password(tmp_path: Path, content: bytes) -> None:
    """A space at the end belongs to the password."""
    found = read_credentials(file(tmp_path, content))
    assert (found.user, found.password) == ("relay", "s3cret w\u00f6rd ")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "two lines.* it has 1"),
        (b"relay:s3cret\n", "two lines.* it has 1"),
        (b"relay\ns3cret\n\n", "two lines.* it has 3"),
        (b"\ns3cret\n", "an empty line"),
        (b"relay\n\n", "an empty line"),
        (b"relay\ns3\0cret\n", "a NUL"),
        (b"relay\ns3cret\xff\n", "not UTF-8"),
        (b"x" * 5000, "longer than"),
    ],
)
def test_what_is_not_a_login_is_refused_without_being_told(
    tmp_path: Path, content: bytes, fault: str
) -> None:
    with pytest.raises(SecretFileError, match=fault) as caught:
        read_credentials(file(tmp_path, content))
    assert "cret" not in str(caught.value)
    assert caught.value.__cause__ is None, "whose text would quote the content"


def test_the_password_is_in_no_representation() -> None:
    login = Credentials(user="relay", password="s3cret")
    assert "s3cret" not in f"{login} {login!r}"
    assert "relay" in repr(login)


async def test_a_server_that_quotes_the_command_is_not_repeated(tmp_path: Path) -> None:
    """Nor is a part of it."""
    login = Credentials(user="relay", password="s3cret")
    pair = make_authority(tmp_path / "authority").issue()
    async with TlsBackend(server_context(pair), extensions=("AUTH PLAIN",)) as server:
        server.auth = say("500 5.5.2 unrecognized: AUTH PLAIN AHJlbGF5AHMzY3JldA==")
        where = Address(host="127.0.0.1", port=server.port, hostname="relay.test")
        opened = await open_connection(where, TIMEOUTS)
        assert isinstance(opened, Connection)
        failure = await log_in(opened.wire, opened.offers, login, DEADLINE)
        assert failure is not None
        assert failure.refusal is Refusal.WRONG
        assert failure.detail == "it said 500 5.5.2"
        await opened.quit()


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_a_long_password_waits_for_a_prompt(tmp_path: Path, mechanism: str) -> None:
    login = Credentials(user="relay", password="s3cret" * 100)
    pair = make_authority(tmp_path / "authority").issue()
    async with TlsBackend(server_context(pair), extensions=(f"AUTH {mechanism}",)) as server:
        server.accounts["relay"] = login.password
        where = Address(host="127.0.0.1", port=server.port, hostname="relay.test")
        opened = await open_connection(where, TIMEOUTS)
        assert isinstance(opened, Connection)
        assert await log_in(opened.wire, opened.offers, login, DEADLINE) is None
        first = next(each for each in server.commands if each.startswith(b"AUTH"))
        assert re.fullmatch(rb"AUTH (PLAIN|LOGIN)", first)
        assert login.password.encode() in b64decode(server.commands[-1])
        await opened.quit()
