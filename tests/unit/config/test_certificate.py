"""Certificates and keys: what is wrong with them in words, and when they end."""

import os
import ssl
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.config.certificate import (
    OCTETS_MAX,
    Certificate,
    CertificateError,
    date_of,
    load_pair,
    read_certificate,
)
from tests.support.certificates import Authority, make_authority, serial_of
from tests.support.debian import require

Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue(days=30)


@pytest.fixture(scope="module")
def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair[0].read_text())


def load(certificate: Path, key: Path) -> Certificate:
    return load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)


def fault(certificate: Path, key: Path) -> tuple[str, str]:
    with pytest.raises(CertificateError) as caught:
        load(certificate, key)
    return caught.value.key, str(caught.value)


def openssl(*arguments: object) -> str:
    return subprocess.run(
        [str(require("openssl")), *map(str, arguments)], check=True, capture_output=True, text=True
    ).stdout


# What is known of it.


def test_serial_and_dates_are_those_that_openssl_shows(pair: Pair) -> None:
    found = load(*pair)
    assert found.serial == serial_of(pair[0]).lstrip("0")
    for name, wall in (("startdate", found.begins), ("enddate", found.ends)):
        shown = openssl("x509", "-noout", f"-{name}", "-in", pair[0]).strip().partition("=")[2]
        assert ssl.cert_time_to_seconds(shown) == wall


def test_the_first_certificate_of_a_chain_is_ours(
    tmp_path: Path, authority: Authority, pair: Pair
) -> None:
    chain = tmp_path / "fullchain.pem"
    chain.write_text(f"our own\n{pair[0].read_text()}\n{authority.ca_file.read_text()}")
    assert load(chain, pair[1]) == load(*pair)


def test_an_expired_one_is_no_fault(authority: Authority) -> None:
    """It is better than none; that it has ended is told."""
    found = load(*authority.issue(days=2, expired=True))
    now = datetime.now(UTC)
    assert abs(found.ends - (now - timedelta(days=2)).timestamp()) < 3600


def test_dates_from_2050_on_have_another_form(authority: Authority) -> None:
    """RFC 5280, 4.1.2.5: UTCTime up to 2049, GeneralizedTime after it."""
    found = load(*authority.issue(days=365 * 40))
    assert date_of(found.ends) > "2060"


def test_the_files_may_be_one(tmp_path: Path, pair: Pair) -> None:
    both = tmp_path / "both.pem"
    both.write_text(pair[1].read_text() + pair[0].read_text())
    both.chmod(0o600)
    assert load(both, both) == load(*pair)


# What is wrong with it.


def test_files_that_are_not_there(tmp_path: Path, pair: Pair) -> None:
    path = tmp_path / "none.pem"
    assert fault(path, pair[1]) == ("certificate", f"cannot read {path}: No such file or directory")
    assert fault(pair[0], path) == ("key", f"cannot read {path}: No such file or directory")


def test_a_key_that_everybody_can_read(tmp_path: Path, pair: Pair) -> None:
    key = tmp_path / "a key.pem"
    key.write_bytes(pair[1].read_bytes())
    key.chmod(0o644)
    name, text = fault(pair[0], key)
    assert name == "key"
    assert "is open to every user of this host (mode 0644)" in text
    assert text.endswith(f"run: chmod o-rwx '{key}'")
    key.chmod(0o640)
    load(pair[0], key)


def test_a_key_of_another_certificate(authority: Authority, pair: Pair) -> None:
    name, text = fault(pair[0], authority.issue()[1])
    assert name == "key"
    assert "is the key of another certificate than the first one" in text


def test_a_chain_in_the_wrong_order(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_text(authority.ca_file.read_text() + pair[0].read_text())
    name, text = fault(chain, pair[1])
    assert name == "key"
    assert "our own certificate stands first there" in text


def test_an_encrypted_key(tmp_path: Path, pair: Pair) -> None:
    """Nobody is asked for a password: a service has no terminal, and must not wait at one."""
    key = tmp_path / "encrypted.key"
    openssl("pkey", "-in", pair[1], "-out", key, "-aes256", "-passout", "pass:secret")
    key.chmod(0o600)
    name, text = fault(pair[0], key)
    assert name == "key"
    assert f"{key} is encrypted" in text
    assert f"openssl pkey -in {key} -out NEW" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"no PEM at all", "holds no private key that fits"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "holds no private key"),
    ],
)
def test_what_is_no_key(tmp_path: Path, pair: Pair, content: bytes, said: str) -> None:
    key = tmp_path / "broken.key"
    key.write_bytes(content)
    key.chmod(0o600)
    name, text = fault(pair[0], key)
    assert name == "key"
    assert said in text
    assert "ssl.c" not in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no certificate in PEM form"),
        (b"\x00\xff" * 50, "holds no certificate in PEM form"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is broken: not a"),
        (b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n", "is broken"),
        (b"-----BEGIN CERTIFICATE-----\n" * 1000, "holds no certificate"),
        (b" " * (OCTETS_MAX + 1), "is larger than 1 MiB"),
    ],
)
def test_what_is_no_certificate(tmp_path: Path, pair: Pair, content: bytes, said: str) -> None:
    certificate = tmp_path / "broken.pem"
    certificate.write_bytes(content)
    name, text = fault(certificate, pair[1])
    assert name == "certificate"
    assert said in text


def test_the_two_files_in_each_others_place(pair: Pair) -> None:
    name, text = fault(pair[1], pair[0])
    assert name == "certificate"
    assert text.endswith("but a key: it belongs to tls.key")


def test_a_key_that_is_a_pipe_does_not_block(tmp_path: Path, pair: Pair) -> None:
    pipe = tmp_path / "key"
    os.mkfifo(pipe, 0o600)
    assert fault(pair[0], pipe) == ("key", f"{pipe} is not a file")


def test_a_key_that_openssl_calls_too_weak(tmp_path: Path) -> None:
    certificate, key = tmp_path / "weak.pem", tmp_path / "weak.key"
    openssl(
        *("req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=x", "-days", "1"),
        *("-keyout", key, "-out", certificate),
    )
    key.chmod(0o600)
    assert fault(certificate, key) == (
        "certificate",
        f"{certificate} is too weak for OpenSSL: ee key too small",
    )


# The DER form.


def test_whatever_is_cut_off_is_no_certificate(der: bytes) -> None:
    for end in range(len(der)):
        with pytest.raises(ValueError, match="certificate"):
            read_certificate(der[:end])


@given(st.binary(max_size=300))
def test_no_octets_raise_anything_else(data: bytes) -> None:
    with suppress(ValueError):
        read_certificate(data)


@given(st.data())
def test_no_changed_certificate_raises_anything_else(der: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(der) - 1))
    changed = bytearray(der)
    changed[place] = data.draw(st.integers(0, 255))
    with suppress(ValueError):
        read_certificate(bytes(changed))


def test_the_two_centuries_of_two_digits(der: bytes) -> None:
    ends = read_certificate(der).ends
    date = f"{datetime.fromtimestamp(ends, UTC):%y%m%d%H%M%SZ}".encode()
    assert der.count(date) == 1
    assert date_of(read_certificate(der.replace(date, b"491231000000Z")).ends) == "2049-12-31"
    assert date_of(read_certificate(der.replace(date, b"500101000000Z")).ends) == "1950-01-01"
