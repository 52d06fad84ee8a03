"""The context that handshakes are done with: what is in it, and when another takes its place."""

import ssl
from pathlib import Path

import pytest

from mailshed.errors import ConfigError
from mailshed.listener.tls import CIPHERS, Certificates, Loaded, load, state_of
from mailshed.mail.envelope import TlsState
from tests.support.certificates import Authority, make_authority, serial_of
from tests.support.tls import client_context, tls_policy

Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue()


def shaken(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a finished handshake, over buffers in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[1], ends[0]


def test_nothing_old_or_weak_is_spoken(pair: Pair) -> None:
    context = load(tls_policy(pair)).context
    names = {each["name"] for each in context.get_ciphers() if each["protocol"] != "TLSv1.3"}
    assert names == set(CIPHERS)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.verify_mode is ssl.CERT_NONE


def test_the_minimum_is_that_of_the_policy(pair: Pair) -> None:
    newer = load(tls_policy(pair, minimum=ssl.TLSVersion.TLSv1_3))
    assert newer.context.minimum_version is ssl.TLSVersion.TLSv1_3


def test_the_names_of_ciphers_are_those_of_the_registry() -> None:
    """IANA's: what a `tls` clause of a trace line may say."""
    for name, official in CIPHERS.items():
        words = name.replace("-", "_").replace("AES128", "AES_128").replace("AES256", "AES_256")
        for part in words.split("_"):
            assert part in official
        assert official.startswith("TLS_ECDHE_")


@pytest.mark.parametrize(
    ("version", "cipher"),
    [
        (ssl.TLSVersion.TLSv1_2, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        (ssl.TLSVersion.TLSv1_3, "TLS_AES_256_GCM_SHA384"),
    ],
)
def test_what_was_agreed_on(
    authority: Authority, pair: Pair, version: ssl.TLSVersion, cipher: str
) -> None:
    client = client_context(authority)
    client.maximum_version = version
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    server, _ = shaken(load(tls_policy(pair)).context, client)
    assert state_of(server) == TlsState(version=version.name.replace("_", "."), cipher=cipher)


def test_a_session_can_be_resumed(authority: Authority, pair: Pair) -> None:
    """With a ticket, which spares us the private key."""
    context, client = load(tls_policy(pair)).context, client_context(authority)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    _, first = shaken(context, client)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    again = client.wrap_bio(
        to_client, to_server, server_hostname="localhost", session=first.session
    )
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (again, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert again.session_reused


def test_a_pair_that_is_not_fit_for_use_is_a_fault_of_the_configuration(
    authority: Authority, pair: Pair
) -> None:
    with pytest.raises(ConfigError, match=r"^tls\.key: .* is the key of another certificate"):
        load(tls_policy((pair[0], authority.issue()[1])))


def test_a_new_certificate_is_announced_and_shown(authority: Authority, pair: Pair) -> None:
    announced: list[Loaded] = []
    certificates = Certificates(announced.append)
    for each in (pair, authority.issue()):
        loaded = load(tls_policy(each))
        certificates.use(loaded)
        assert certificates.context is loaded.context
        _, client = shaken(certificates.context, client_context(authority))
        shown = client.getpeercert()
        assert shown is not None
        assert shown["serialNumber"] == serial_of(each[0])
    assert [each.certificate.serial for each in announced] == [
        each.certificate.serial for each in (announced[0], announced[1])
    ]
    assert len({each.certificate.serial for each in announced}) == 2


def test_the_same_again_changes_nothing(pair: Pair) -> None:
    """A reload for another reason leaves the tickets good that clients have."""
    announced: list[Loaded] = []
    certificates = Certificates(announced.append)
    certificates.use(load(tls_policy(pair)))
    before = certificates.context
    certificates.use(load(tls_policy(pair, handshakes_max=3)))
    assert certificates.context is before
    certificates.use(load(tls_policy(pair, minimum=ssl.TLSVersion.TLSv1_3)))
    assert certificates.context is not before
    assert len(announced) == 2
