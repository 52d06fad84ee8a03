"""TLS towards a backend: one context for all its connections, and faults in words that help.

TLS 1.2 is the least, as everywhere in mailshed. Where the server has to prove who it is, its
certificate must be good for the name we asked for (RFC 9525: names and addresses in subjectAltName)
and signed by somebody in `ca_file`, or without one by whom the system trusts. A certificate in
`ca_file` is trusted itself, authority or not, so the file may simply hold the server's own.

Where it need not prove anything (opportunistic TLS, RFC 7435), TLS protects from those who listen
and not from those who stand in the way.

A context reads files when it is made, and is never changed afterwards. Making one costs some
milliseconds: do it in a thread.
"""

import ssl
from pathlib import Path

from mailshed.config.certificate import CertificateError, load_authorities
from mailshed.errors import ConfigError

# OpenSSL's X509_V_ERR_*, as `SSLCertVerificationError.verify_code`.
_NOT_YET, _EXPIRED = 9, 10
_UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21, 27})
_WRONG_NAME = frozenset({62, 64})


def client_context(*, is_verified: bool, ca_file: Path | None) -> ssl.SSLContext:
    """Make the context; raises ConfigError if `ca_file` is of no use."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context
    try:
        load_authorities(context, ca_file)
    except CertificateError as error:
        raise ConfigError(f"{error.key}: {error}") from error
    return context


def fault_of(error: Exception, name: str) -> str:
    """Say why a handshake with a server that should be `name` failed, and what can be done."""
    # OpenSSL's word; errors that Python makes have none.
    reason = getattr(error, "reason", None) or "unknown reason"
    match error:
        case ssl.SSLCertVerificationError():
            return f"certificate verify failed: {_unverified(error, name)}"
        case ssl.SSLError() if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
            return (
                "it does not answer in TLS: for a port where TLS begins with a command (25, 587)"
                " set tls to starttls, for one where it comes first (465) to implicit"
            )
        case ssl.SSLError() if "PROTOCOL" in reason:
            return "it has no TLS 1.2 or newer, which is the least"
        case ssl.SSLError():
            return f"TLS failed: {reason.lower()}"
        case ConnectionError():
            return "it closed the connection in the TLS handshake"
        case _:
            return f"TLS failed: {error.__class__.__name__}"


def _unverified(error: ssl.SSLCertVerificationError, name: str) -> str:
    code = error.verify_code
    if code in _WRONG_NAME:
        return f"hostname mismatch, it is not for {name}: set tls_name to a name that it has"
    if code in _UNKNOWN_ISSUER:
        return (
            f"{error.verify_message}, nobody we trust has signed it: set ca_file to the"
            " certificate of its authority, or to its own"
        )
    if code == _EXPIRED:
        return "it has expired: renew it at the server"
    if code == _NOT_YET:
        return "it is not valid yet: compare the clocks of both hosts"
    return error.verify_message
