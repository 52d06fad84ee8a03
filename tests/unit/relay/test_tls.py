"""A client's context, and what its faults say; the handshakes happen in memory."""

import ssl
import warnings
from contextlib import suppress
from pathlib import Path

import pytest

from mailshed.errors import ConfigError
from mailshed.relay.tls import client_context, fault_of
from tests.support.certificates import Authority, make_authority
from tests.support.tls_backend import server_context

NAME = "mail.hospital.test"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str = NAME) -> ssl.SSLObject:
    """Let both talk until they are done; raises what the client's side raises."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(6):
        try:
            ours.do_handshake()
        except ssl.SSLWantReadError:
            pass
        else:
            return ours
        with suppress(ssl.SSLError):  # its alert is on its way to the client
            theirs.do_handshake()
    raise AssertionError("a handshake without end")


def fault(client: ssl.SSLContext, server: ssl.SSLContext, name: str = NAME) -> str:
    with pytest.raises(ssl.SSLError) as caught:
        handshake(client, server, name)
    return fault_of(caught.value, name)


def test_a_good_server_is_believed(authority: Authority) -> None:
    context = client_context(is_verified=True, ca_file=authority.ca_file)
    agreed = handshake(context, server_context(authority.issue([NAME])))
    assert agreed.version() == "TLSv1.3"


def test_the_servers_own_certificate_may_be_what_is_trusted(authority: Authority) -> None:
    pair = authority.issue([NAME])
    context = client_context(is_verified=True, ca_file=pair[0])
    assert handshake(context, server_context(pair)).cipher()


def test_each_doubt_says_what_to_do(authority: Authority, tmp_path: Path) -> None:
    context = client_context(is_verified=True, ca_file=authority.ca_file)
    other = server_context(authority.issue(["other.test", "10.0.0.5"]))
    assert fault(context, other) == (
        "certificate verify failed: hostname mismatch, it is not for mail.hospital.test: set"
        " tls_name to a name that it has"
    )
    assert "it is not for 10.0.0.6: set tls_name" in fault(context, other, "10.0.0.6")
    assert handshake(context, other, "10.0.0.5").cipher()
    expired = server_context(authority.issue([NAME], expired=True))
    assert "it has expired: renew it" in fault(context, expired)
    stranger = make_authority(tmp_path / "stranger", "Somebody else")
    assert "nobody we trust has signed it: set ca_file" in fault(
        context, server_context(stranger.issue([NAME]))
    )
    self_signed = server_context((stranger.ca_file, stranger.folder / "ca.key"))
    assert "self-signed certificate, nobody we trust" in fault(context, self_signed)


def test_without_a_file_the_system_is_believed(authority: Authority) -> None:
    """Which has never heard of this one."""
    context = client_context(is_verified=True, ca_file=None)
    assert context.cert_store_stats()["x509_ca"] >= 0
    assert "nobody we trust" in fault(context, server_context(authority.issue([NAME])))


def test_who_need_not_prove_anything_may_be_anybody(authority: Authority) -> None:
    context = client_context(is_verified=False, ca_file=None)
    server = server_context(authority.issue(["other.test"], expired=True))
    assert handshake(context, server).cipher()


def test_a_server_that_has_only_old_tls_is_refused(authority: Authority) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        server = server_context(authority.issue([NAME]), ssl.TLSVersion.TLSv1)
        server.maximum_version = ssl.TLSVersion.TLSv1_1
    server.set_ciphers("ALL:@SECLEVEL=0")
    context = client_context(is_verified=True, ca_file=authority.ca_file)
    assert fault(context, server) == "it has no TLS 1.2 or newer, which is the least"
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_what_is_not_tls_says_so() -> None:
    context = client_context(is_verified=False, ca_file=None)
    incoming = ssl.MemoryBIO()
    incoming.write(b"220 mail.hospital.test ESMTP\r\n")
    ours = context.wrap_bio(incoming, ssl.MemoryBIO(), server_hostname=NAME)
    with pytest.raises(ssl.SSLError) as caught:
        ours.do_handshake()
    assert "it does not answer in TLS" in fault_of(caught.value, NAME)
    assert "closed the connection" in fault_of(ConnectionResetError(), NAME)
    assert fault_of(OSError(5, "what"), NAME) == "TLS failed: OSError"
    assert fault_of(ssl.SSLError(1, "odd"), NAME) == "TLS failed: unknown reason"


def test_a_file_that_is_of_no_use_is_a_fault_of_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^ca_file: .*cannot read .*: No such file"):
        client_context(is_verified=True, ca_file=tmp_path / "missing.pem")
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing\n")
    with pytest.raises(ConfigError, match=r"^ca_file: .*holds no certificate"):
        client_context(is_verified=True, ca_file=nothing)
