"""How handshakes end: in words, in the metrics and in the log. The rest is in tests/protocol."""

import ssl
from io import StringIO
from ipaddress import ip_address
from pathlib import Path
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry

from mailshed.listener.handshakes import Handshake, Result, _in_words, recorder
from mailshed.mail.envelope import Client, TlsState
from mailshed.maillog import MailLog
from mailshed.metrics import Metrics
from tests.support.certificates import Authority, make_authority
from tests.support.tls import new_handshakes


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


def client(*, is_trusted: bool = True, address: str = "192.0.2.1") -> Client:
    return Client(
        session_id="s1", listener="smtp", address=ip_address(address), port=1, is_trusted=is_trusted
    )


def ssl_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] something (_ssl.c:1006)")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ssl_error("NO_SHARED_CIPHER"), "the client offers no cipher that is spoken here"),
        (ssl_error("SOMETHING_QUITE_NEW"), "something quite new"),
        (ssl.SSLError(1, "no reason given"), "the client left"),
        (ConnectionResetError(104, "Connection reset by peer"), "the client left"),
        (BrokenPipeError(), "the client left"),
    ],
)
def test_why_it_failed_is_said_in_words(error: OSError, words: str) -> None:
    assert _in_words(error) == words


def test_a_place_is_taken_until_the_handshake_has_ended(
    authority: Authority, tmp_path: Path
) -> None:
    notes: list[Handshake] = []
    door = new_handshakes(authority.issue(), notes, handshakes_max=2)
    assert door.enter(client())
    assert door.under_way == 1
    assert not door.enter(client())
    assert [(note.result, note.detail) for note in notes] == [
        ("refused", "too many handshakes at the same time")
    ]


async def test_a_connection_that_is_lost_already_gives_its_place_back(authority: Authority) -> None:
    notes: list[Handshake] = []
    door = new_handshakes(authority.issue(), notes)
    assert door.enter(client())
    gone = Mock()
    gone.is_closing.return_value = True
    assert await door.finish(door.begin(gone, Mock()), client()) is None
    assert door.under_way == 0
    assert [(note.result, note.detail) for note in notes] == [("failed", "the client left")]


@pytest.mark.parametrize("result", ["failed", "timeout", "refused"])
@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_failure_is_counted_and_told(result: Result, is_trusted: bool) -> None:
    registry, log = CollectorRegistry(), StringIO()
    note = recorder(Metrics(registry), MailLog(log, level="info"))
    note(Handshake(client=client(is_trusted=is_trusted), result=result, detail="of its own"))
    assert registry.get_sample_value("mailshed_tls_handshakes_total", {"result": result}) == 1
    line = f'event=tls_failed result={result} client=192.0.2.1 listener=smtp detail="of its own"'
    assert (line in log.getvalue()) is is_trusted, "strangers' failures are for level debug"


def test_a_success_is_counted_by_version_and_not_told() -> None:
    registry, log = CollectorRegistry(), StringIO()
    note = recorder(Metrics(registry), MailLog(log, level="debug"))
    state = TlsState(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384")
    note(Handshake(client=client(), result="ok", state=state))
    assert registry.get_sample_value("mailshed_tls_handshakes_total", {"result": "ok"}) == 1
    assert registry.get_sample_value("mailshed_tls_sessions_total", {"protocol": "TLSv1.3"}) == 1
    assert registry.get_sample_value("mailshed_tls_sessions_total", {"protocol": "TLSv1.2"}) == 0
    assert log.getvalue() == ""
