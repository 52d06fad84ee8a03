"""Reading our certificate and its key: what can be wrong with them, and until when they are valid.

OpenSSL says whether the two are fit for use; its messages are put into words for whoever has to
mend it. When a certificate ends is not in what Python's `ssl` tells a server about its own, so the
two dates are taken from its DER form: they lie at a fixed place (RFC 5280, 4.1), behind four
elements that are stepped over.

What the key is, OpenSSL alone looks at.
"""

import re
import shlex
import ssl
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

OCTETS_MAX = 1024 * 1024
"""Octets of a file of certificates: a long chain has ten thousand."""

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_PEM = re.compile(_BEGIN + rb"[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")

# Tags of ASN.1 (X.690) that occur on the way to the dates.
_SEQUENCE, _INTEGER, _VERSION = 0x30, 0x02, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18


class CertificateError(Exception):
    """The files are not fit for use; `key` is the one that is to blame, by its key in `tls`."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What is known of a certificate; its dates are Unix times."""

    serial: str
    """In hexadecimal, as OpenSSL and browsers show it."""
    begins: float
    ends: float


def load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> Certificate:
    """Let `context` show the certificate. Raises CertificateError; then nothing is to be used."""
    octets, _ = _read(certificate, "certificate")
    pem = _PEM.search(octets)
    if pem is None:
        swapped = ", but a key: it belongs to tls.key" if b" PRIVATE KEY-----" in octets else ""
        message = f"{certificate} holds no certificate in PEM form{swapped}"
        raise CertificateError("certificate", message)
    _check_key(key)
    try:
        found = read_certificate(ssl.PEM_cert_to_DER_cert(pem[0].decode("ascii")))
    except ValueError as error:
        raise CertificateError("certificate", f"{certificate} is broken: {error}") from error

    def password() -> str:
        raise CertificateError(
            "key",
            f"{key} is encrypted, and nobody is there to type its password; take it off with:"
            f" openssl pkey -in {shlex.quote(str(key))} -out NEW, and chmod 600 NEW",
        )

    try:
        context.load_cert_chain(certificate, key, password)
    except ssl.SSLError as error:
        raise _in_words(error, certificate, key) from error
    except OSError as error:
        raise CertificateError("certificate", f"cannot be read: {error.strerror}") from error
    return found


def load_authorities(context: ssl.SSLContext, ca_file: Path) -> None:
    """Let `context` trust what is in `ca_file`. Raises CertificateError, with that key."""
    _read(ca_file, "ca_file")
    try:
        context.load_verify_locations(cafile=ca_file)
    except ssl.SSLError as error:
        raise CertificateError(
            "ca_file", f"{ca_file} holds no certificate in PEM form, or a broken one"
        ) from error
    except OSError as error:
        raise CertificateError("ca_file", f"cannot read {ca_file}: {error.strerror}") from error


def _read(path: Path, key: str) -> tuple[bytes, int]:
    """The content of a file and its mode. A pipe, which might block for ever, is not opened."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise CertificateError(key, f"{path} is not a file")
        with path.open("rb") as file:
            octets = file.read(OCTETS_MAX + 1)
    except OSError as error:
        raise CertificateError(key, f"cannot read {path}: {error.strerror}") from error
    if len(octets) > OCTETS_MAX:
        raise CertificateError(key, f"{path} is larger than {OCTETS_MAX // 1024**2} MiB")
    return octets, mode


def _check_key(key: Path) -> None:
    octets, mode = _read(key, "key")
    if mode & stat.S_IRWXO:
        raise CertificateError(
            "key",
            f"{key} is open to every user of this host (mode {stat.S_IMODE(mode):04o}); run:"
            f" chmod o-rwx {shlex.quote(str(key))}",
        )
    if not octets:
        raise CertificateError("key", f"{key} is empty")


def _in_words(error: ssl.SSLError, certificate: Path, key: Path) -> CertificateError:
    reason = error.reason or ""
    word = reason.lower().replace("_", " ")
    if reason == "KEY_VALUES_MISMATCH":
        return CertificateError(
            "key",
            f"{key} is the key of another certificate than the first one of {certificate}; our own"
            " certificate stands first there, those of its issuers below",
        )
    if reason in {"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "EE_MD_TOO_WEAK"}:
        return CertificateError("certificate", f"{certificate} is too weak for OpenSSL: {word}")
    # OpenSSL does not say in which of the two files it found nothing to its taste; the first
    # certificate has been read by then.
    rest = f": {word}" if word else ""
    return CertificateError("key", f"{key} holds no private key that fits {certificate}{rest}")


def read_certificate(der: bytes) -> Certificate:
    """Take serial number and dates out of a certificate. Raises ValueError if it is not one."""
    outer, _ = _element(der, _SEQUENCE)
    fields, _ = _element(outer, _SEQUENCE)
    if fields[:1] == bytes([_VERSION]):
        _, fields = _element(fields, _VERSION)
    number, fields = _element(fields, _INTEGER)
    _, fields = _element(fields, _SEQUENCE)  # the algorithm of the signature
    _, fields = _element(fields, _SEQUENCE)  # the issuer
    validity, _ = _element(fields, _SEQUENCE)
    begins, validity = _time(validity)
    ends, _ = _time(validity)
    return Certificate(serial=f"{int.from_bytes(number):X}", begins=begins, ends=ends)


def date_of(wall: float) -> str:
    """The day of a Unix time, for people."""
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d}"


def _element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the first element, which has to have `tag`, and what follows it."""
    if len(data) < 2 or data[0] != tag:
        raise ValueError("not a certificate in DER form")
    length, start = data[1], 2
    if length & 0x80:  # the long form: so many octets hold the length
        start += length & 0x7F
        length = int.from_bytes(data[2:start])
    if len(data) < start + length:
        raise ValueError("the certificate is cut off")
    return data[start : start + length], data[start + length :]


def _time(data: bytes) -> tuple[float, bytes]:
    """A date in either of the forms of RFC 5280, 4.1.2.5, and what follows it."""
    tag = data[0] if data else 0
    if tag not in {_UTC_TIME, _GENERALIZED_TIME}:
        raise ValueError("the certificate has no dates")
    content, rest = _element(data, tag)
    text = content.decode("ascii", "replace")
    if tag == _UTC_TIME:  # two digits of the year; 50 and more are of the last century
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp(), rest
