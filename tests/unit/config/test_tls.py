"""The section `tls`: what it takes, what listeners ask of it, and where its faults are shown."""

import ssl
from pathlib import Path

import pytest

from mailshed.config.load import load
from mailshed.config.schema import Config
from mailshed.config.tls import Tls, tls_policy
from mailshed.errors import ConfigError
from tests.support.certificates import Authority, make_authority

BASE = """\
version: 1
hostname: relay.example.org
domains: [example.org]
listeners: [{{name: internal, bind: "127.0.0.1:0"{listener}}}]
backends: [{{name: mail, host: mail.example.org}}]
spool: {{path: /var/lib/mailshed}}
metrics: {{bind: "127.0.0.1:0"}}
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


def read(folder: Path, listener: str = "", tls: str = "", *, has_secrets: bool = True) -> Config:
    file = folder / "mailshed.yaml"
    file.write_text(BASE.format(listener=listener) + tls)
    return load(file, has_secrets=has_secrets)


def faults(folder: Path, listener: str = "", tls: str = "") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(folder, listener, tls)
    lines = str(caught.value).replace(f"{folder}/", "").splitlines()
    return [line.partition(": error: ")[2] for line in lines if ": error: " in line]


def section(certificate: object, key: object, rest: str = "") -> str:
    return f"tls: {{certificate: {certificate}, key: {key}{rest}}}\n"


def test_without_a_certificate_there_is_no_policy() -> None:
    assert tls_policy(Tls()) is None


def test_the_policy_says_what_the_section_says(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue()
    rest = ', minimum: "1.3", handshakes_max: 8, handshakes_per_network: 3, handshake_timeout: 10s'
    config = read(tmp_path, ", tls: starttls", section(certificate, key, rest))
    policy = tls_policy(config.tls)
    assert policy is not None
    assert (policy.certificate, policy.key) == (certificate, key)
    assert policy.minimum is ssl.TLSVersion.TLSv1_3
    assert (policy.handshakes_max, policy.handshakes_per_network) == (8, 3)
    assert policy.handshake_timeout == 10.0


@pytest.mark.parametrize("written", ['"1.2"', "1.2", "'1.3'", "1.3"])
def test_a_version_needs_no_quotes(tmp_path: Path, written: str) -> None:
    config = read(tmp_path, tls=f"tls: {{minimum: {written}}}\n")
    assert config.tls.minimum == written.strip("\"'")


@pytest.mark.parametrize("written", ["1.1", '"1.0"', "1", "true", "[]", "TLSv1.2"])
def test_no_other_version_is_spoken(tmp_path: Path, written: str) -> None:
    (fault,) = faults(tmp_path, tls=f"tls: {{minimum: {written}}}\n")
    assert fault == (
        'tls.minimum: expected "1.2" or "1.3"; older versions are broken, and not spoken (RFC 8996)'
    )


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_a_listener_with_tls_needs_a_certificate(tmp_path: Path, mode: str) -> None:
    assert faults(tmp_path, f", tls: {mode}") == [
        "listeners[0].tls: needs a certificate: set tls.certificate and tls.key to its files"
    ]


def test_a_certificate_needs_its_key_and_a_key_its_certificate(tmp_path: Path) -> None:
    assert faults(tmp_path, tls="tls: {certificate: /c.pem}\n") == [
        "tls.key: is missing: a certificate is of no use without its key"
    ]
    assert faults(tmp_path, ", tls: starttls", "tls: {key: /k.pem}\n") == [
        "tls.certificate: is missing: a key is of no use without its certificate"
    ]


def test_tls_cannot_be_required_where_it_is_not_offered(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, ", tls_required: true")
    assert fault.startswith("listeners[0].tls_required: asks for TLS, which this listener does not")


@pytest.mark.parametrize("auth", ["offered", "required"])
def test_no_password_without_tls(tmp_path: Path, auth: str) -> None:
    found = faults(tmp_path, f", auth: {auth}")
    assert any(each.startswith("listeners[0].auth: needs TLS, since no password") for each in found)


def test_the_files_are_looked_at(tmp_path: Path, authority: Authority) -> None:
    certificate, _ = authority.issue()
    _, key = authority.issue()
    (fault,) = faults(tmp_path, ", tls: starttls", section(certificate, key))
    assert fault.startswith(f"tls.key: {key} is the key of another certificate")
    (fault,) = faults(tmp_path, ", tls: starttls", section("/none.pem", key))
    assert fault == "tls.certificate: cannot read /none.pem: No such file or directory"


def test_they_are_watched_for_changes(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue()
    config = read(tmp_path, ", tls: starttls", section(certificate, key))
    assert {certificate, key} <= set(config.sources.signatures)


def test_who_only_looks_need_not_be_able_to_read_the_key(tmp_path: Path) -> None:
    config = read(tmp_path, ", tls: starttls", section("/c", "/k"), has_secrets=False)
    assert config.tls.key == Path("/k")
    assert not config.sources.signatures
