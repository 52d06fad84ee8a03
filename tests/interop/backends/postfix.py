"""Postfix, which knows its login from a Dovecot of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop.backends.backend import Backend, Pair
from tests.interop.clients import said_version
from tests.interop.ways import BACKEND_WAYS, LOGIN, PASSWORD, Way
from tests.support.debian import require
from tests.support.dovecot import Dovecot
from tests.support.postfix import Postfix


@contextmanager
def postfix(folder: Path, pair: Pair) -> Iterator[Backend]:
    """Start it."""
    with Dovecot(accounts={LOGIN: PASSWORD}) as users:
        wants_login = f"check_recipient_access regexp:{{{{/@{Way.AUTH.domain}/ reject}}}}"
        settings = {
            "smtputf8_enable": "yes",
            "virtual_mailbox_domains": " ".join(way.domain for way in BACKEND_WAYS),
            "smtpd_tls_security_level": "may",
            "smtpd_tls_cert_file": str(pair[0]),
            "smtpd_tls_key_file": str(pair[1]),
            "smtpd_tls_received_header": "yes",
            "smtpd_tls_auth_only": "yes",
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": str(users.auth_socket),
            "smtpd_sasl_authenticated_header": "yes",
            "smtpd_recipient_restrictions": (
                f"permit_sasl_authenticated, {wants_login}, permit_mynetworks, reject"
            ),
        }
        with Postfix(settings=settings) as server:
            yield Backend(
                name="Postfix",
                version=said_version(
                    require("postfix", binary="postconf"),
                    "-c",
                    server.root / "conf",
                    "mail_version",
                ),
                port=server.port,
                take=lambda: [each.content for each in server.take_delivered()],
                log=lambda: server.log_text,
                encrypted=r"\(using TLSv1",
                authenticated=rf"Authenticated sender: {LOGIN}\b",
                section={"preset": "postfix"},
            )
