"""Who may begin TLS, and who must. The dialogs themselves are in tests/protocol/test_tls.py."""

from dataclasses import replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from mailshed.config.policy import ListenerPolicy, TlsMode
from mailshed.listener import starttls
from mailshed.mail import reply
from mailshed.mail.envelope import Client, TlsState

ARRIVED = Client(
    session_id="s1", listener="smtp", address=ip_address("192.0.2.1"), port=1, is_trusted=True
)
PROTECTED = replace(ARRIVED, tls=TlsState(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384"))


def session(client: Client, mode: TlsMode, *, is_required: bool = False) -> Any:
    policy = ListenerPolicy(name="smtp", tls=mode, is_tls_required=is_required)
    return SimpleNamespace(policy=policy, client=client, arrived=ARRIVED)


@pytest.mark.parametrize(
    ("client", "mode", "is_offered"),
    [
        (ARRIVED, TlsMode.STARTTLS, True),
        (ARRIVED, TlsMode.NONE, False),
        (PROTECTED, TlsMode.STARTTLS, False),
        (PROTECTED, TlsMode.IMPLICIT, False),
        (replace(ARRIVED, address=ip_address("192.0.2.2")), TlsMode.STARTTLS, False),
        (replace(ARRIVED, is_trusted=False), TlsMode.STARTTLS, False),
    ],
)
def test_it_is_offered_to_whom_it_is_of_use(
    client: Client, mode: TlsMode, is_offered: bool
) -> None:
    assert starttls.is_offered(session(client, mode)) is is_offered


@pytest.mark.parametrize(
    ("client", "is_required", "refusal"),
    [
        (ARRIVED, True, reply.TLS_REQUIRED),
        (ARRIVED, False, None),
        (PROTECTED, True, None),
        (PROTECTED, False, None),
    ],
)
def test_in_clear_mail_is_refused_where_tls_is_required(
    client: Client, is_required: bool, refusal: reply.Reply | None
) -> None:
    asked = session(client, TlsMode.STARTTLS, is_required=is_required)
    assert starttls.refusal(asked) is refusal


@pytest.mark.parametrize("mode", TlsMode)
def test_only_where_it_is_implicit_tls_comes_first(mode: TlsMode) -> None:
    assert starttls.is_first(session(ARRIVED, mode)) is (mode is TlsMode.IMPLICIT)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (reply.TLS_READY, "220 2.0.0"),
        (reply.TLS_TWICE, "503 5.5.1"),
        (reply.TLS_TOO_LATE, "503 5.5.1"),
        (reply.TLS_NOT_NOW, "454 4.7.0"),
        (reply.TLS_TOO_EAGER, "554 5.5.0"),
        (reply.TLS_REQUIRED, "530 5.7.0"),
    ],
)
def test_the_codes_are_those_of_the_standard(answer: reply.Reply, code: str) -> None:
    """RFC 3207, 4."""
    assert answer.text.startswith(f"{code} ")
