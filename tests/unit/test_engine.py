"""Which engine there is for which configuration."""

from typing import Any

import pytest

from mailshed.config.schema import Config
from mailshed.engine import OWN, STOCK, choose
from mailshed.errors import StartError
from mailshed.listener.server import SessionFactory
from mailshed.listener.stock import StockFactory

SERVER = {"name": "exch", "host": "127.0.0.1", "port": 2526}


def config(*, listener: dict[str, Any] | None = None, **backend: Any) -> Config:
    return Config.model_validate(
        {
            "version": 1,
            "hostname": "mx.example.org",
            "domains": ["example.net"],
            "listeners": [{"name": "smtp", "bind": "127.0.0.1:0"} | (listener or {})],
            "backends": [SERVER | backend],
            "tls": {"certificate": "/etc/tls.pem", "key": "/etc/tls.key"},
            "trusted_proxies": ["192.0.2.0/24"],
            "authentication": {"dovecot_socket": "/run/auth"},
            "spool": {"path": "/var/spool/mailshed"},
            "metrics": {"bind": "127.0.0.1:0"},
        }
    )


def test_mail_goes_through_our_own() -> None:
    assert choose("own", config()) is OWN
    assert choose("own", config(protocol="lmtp")) is OWN
    assert OWN.new_factory is SessionFactory
    assert OWN.warning == ""


def test_the_stock_engine_is_a_choice_and_warns() -> None:
    engine = choose("stock", config(tls="starttls", chunking="auto"))
    assert engine is STOCK
    assert engine.new_factory is StockFactory
    assert "--engine stock" in engine.warning


def test_a_maildir_has_no_dialog() -> None:
    assert choose("stock", config(host=None, port=25, maildir="/var/mail")) is STOCK


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"listener": {"tls": "implicit"}}, "listener smtp with tls: implicit"),
        ({"listener": {"tls": "starttls"}}, "listener smtp with tls: starttls"),
        ({"listener": {"proxy": "xclient"}}, "listener smtp with proxy: xclient"),
        ({"protocol": "lmtp"}, "backend exch with protocol: lmtp"),
        ({"identity": "xforward"}, "backend exch with identity: xforward"),
        ({"credentials_file": "/etc/login"}, "backend exch with credentials_file"),
        (
            {"listener": {"tls": "starttls", "auth": "required"}},
            "listener smtp with tls: starttls; listener smtp with auth: required",
        ),
        (
            {"listener": {"tls": "starttls"}, "identity": "xclient"},
            "listener smtp with tls: starttls; backend exch with identity: xclient",
        ),
    ],
)
def test_what_the_libraries_cannot_do_is_refused_and_not_done_without(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(StartError) as raised:
        choose("stock", config(**changes))
    assert str(raised.value) == f"--engine stock cannot serve {said}"
