import base64
import re
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.authentication.sasl import (
    KEY_OCTETS,
    LOGIN_OCTETS_MAX,
    Credentials,
    Mechanism,
    credentials,
    decoded,
    login_of,
    mechanism_of,
)
from mailshed.errors import CredentialsEncodingError, CredentialsError

KEY = bytes(range(KEY_OCTETS))
PLAIN, LOGIN, XOAUTH2 = Mechanism.PLAIN, Mechanism.LOGIN, Mechanism.XOAUTH2
SECRET = b"Kanarienvogel-7"


# What is one name and one secret, whoever reads it.

GOOD = [
    pytest.param(PLAIN, (b"\0alice\0" + SECRET,), "alice", id="plain"),
    pytest.param(PLAIN, (b"alice\0alice\0" + SECRET,), "alice", id="plain, acts as itself"),
    pytest.param(PLAIN, (b"\0Alice@Example.ORG\0" + SECRET,), "alice@example.org", id="case"),
    pytest.param(PLAIN, ("\0zoë\0geheim€".encode(),), "zoë", id="plain, UTF-8"),
    pytest.param(PLAIN, (b"\0alice\0 " + SECRET + b" ",), "alice", id="spaces in the password"),
    pytest.param(PLAIN, (b"\0alice\0\r\n.\r\n",), "alice", id="line ends in the password"),
    pytest.param(PLAIN, (b"\0alice\0\xff\xfe",), "alice", id="a password that is not UTF-8"),
    pytest.param(PLAIN, (b"\0HOSPITAL\\alice\0x",), "hospital\\alice", id="a Windows domain"),
    pytest.param(PLAIN, (b"\0Alice Jones\0x",), "alice jones", id="a space within"),
    pytest.param(PLAIN, (b"\0" + b"a" * 255 + b"\0x",), "a" * 255, id="the longest name"),
    pytest.param(LOGIN, (b"alice", SECRET), "alice", id="login"),
    pytest.param(LOGIN, ("zoë".encode(), "ü".encode()), "zoë", id="login, UTF-8"),
    pytest.param(
        XOAUTH2, (b"user=a@example.org\x01auth=Bearer ya29.x-~+/==\x01\x01",), "a@example.org"
    ),
    pytest.param(XOAUTH2, (b"user=a@example.org\x01auth=bearer t\x01\x01",), "a@example.org"),
]


@pytest.mark.parametrize(("mechanism", "responses", "login"), GOOD)
def test_credentials_are_read_and_said_again_octet_for_octet(
    mechanism: Mechanism, responses: tuple[bytes, ...], login: str
) -> None:
    said = credentials(mechanism, responses)

    assert said.login == login
    assert said.responses == responses
    assert tuple(map(base64.b64decode, said.encoded)) == responses


# What two programs could read differently, or what nobody should.

BAD = [
    pytest.param(PLAIN, (b"",), "0 NUL", id="plain, empty"),
    pytest.param(PLAIN, (b"\0alice",), "1 NUL", id="plain, no password"),
    pytest.param(PLAIN, (b"\0alice\0x\0y",), "3 NUL", id="plain, NUL in the password"),
    pytest.param(PLAIN, (b"\0al\0ice\0x",), "3 NUL", id="plain, NUL in the name"),
    pytest.param(PLAIN, (b"\0\0x",), "empty", id="plain, no name"),
    pytest.param(PLAIN, (b"\0alice\0",), "no password", id="plain, empty password"),
    pytest.param(PLAIN, (b"root\0alice\0x",), "authorization", id="acts as somebody else"),
    pytest.param(PLAIN, (b"Alice\0alice\0x",), "authorization", id="acts as nearly itself"),
    pytest.param(PLAIN, (b"alice\0\0x",), "authorization", id="only the identity is given"),
    pytest.param(PLAIN, (b"\0alice\r\nMAIL FROM:<a@b>\0x",), "control", id="CRLF in the name"),
    pytest.param(PLAIN, (b"\0ali\nce\0x",), "control", id="LF in the name"),
    pytest.param(PLAIN, (b"\0ali\x1b[2Jce\0x",), "control", id="a terminal's escape"),
    pytest.param(PLAIN, (b"\0ali\x7fce\0x",), "control", id="DEL"),
    pytest.param(PLAIN, ("\0ali\x9bce\0x".encode(),), "control", id="C1 control"),
    pytest.param(PLAIN, ("\0ali\u2028ce\0x".encode(),), "control", id="line separator"),
    pytest.param(PLAIN, ("\0ali\u202ece\0x".encode(),), "control", id="right-to-left override"),
    pytest.param(PLAIN, ("\0ali\u200bce\0x".encode(),), "control", id="zero width"),
    pytest.param(PLAIN, (b"\0ali\xffce\0x",), "UTF-8", id="not UTF-8"),
    pytest.param(PLAIN, (b"\0ali\xc0\xafce\0x",), "UTF-8", id="overlong UTF-8"),
    pytest.param(PLAIN, (b"\0ali\xed\xa0\x80ce\0x",), "UTF-8", id="a surrogate"),
    pytest.param(PLAIN, (b"\0 alice\0x",), "white space", id="a space before"),
    pytest.param(PLAIN, ("\0alice\u00a0\0x".encode(),), "control", id="a hard space"),
    pytest.param(PLAIN, ("\0\uff41lice\0x".encode(),), "normal form", id="a wide letter"),
    pytest.param(PLAIN, ("\0zoe\u0308\0x".encode(),), "normal form", id="decomposed"),
    pytest.param(PLAIN, (b"\0" + b"a" * 256 + b"\0x",), "too long", id="a long name"),
    pytest.param(LOGIN, (b"", SECRET), "empty", id="login, no name"),
    pytest.param(LOGIN, (b"alice", b""), "no password", id="login, no password"),
    pytest.param(LOGIN, (b"ali\0ce", SECRET), "control", id="login, NUL in the name"),
    pytest.param(LOGIN, (b"alice", b"x\0y"), "NUL", id="login, NUL in the password"),
    pytest.param(LOGIN, (b"alice\r\n", SECRET), "control", id="login, CRLF in the name"),
    pytest.param(XOAUTH2, (b"user=a\x01auth=Bearer t\x01",), "XOAUTH2", id="oauth, cut off"),
    pytest.param(XOAUTH2, (b"user=a\x01auth=Basic t\x01\x01",), "XOAUTH2", id="oauth, not Bearer"),
    pytest.param(XOAUTH2, (b"user=\x01auth=Bearer t\x01\x01",), "XOAUTH2", id="oauth, no name"),
    pytest.param(XOAUTH2, (b"user=a\x01auth=Bearer \x01\x01",), "XOAUTH2", id="oauth, no token"),
    pytest.param(
        XOAUTH2, (b"user=a\x01user=b\x01auth=Bearer t\x01\x01",), "XOAUTH2", id="oauth, two users"
    ),
    pytest.param(
        XOAUTH2, (b"user=a\x01auth=Bearer t\x01\x01x",), "XOAUTH2", id="oauth, something behind"
    ),
    pytest.param(XOAUTH2, (b"user=a\r\n\x01auth=Bearer t\x01\x01",), "control", id="oauth, CRLF"),
]


@pytest.mark.parametrize(("mechanism", "responses", "why"), BAD)
def test_what_is_not_one_name_and_one_secret_is_refused(
    mechanism: Mechanism, responses: tuple[bytes, ...], why: str
) -> None:
    with pytest.raises(CredentialsError, match=why) as refused:
        credentials(mechanism, responses)

    assert not isinstance(refused.value, CredentialsEncodingError)


@pytest.mark.parametrize(("mechanism", "responses", "why"), BAD)
def test_a_refusal_quotes_nothing(
    mechanism: Mechanism, responses: tuple[bytes, ...], why: str
) -> None:
    with pytest.raises(CredentialsError) as refused:
        credentials(mechanism, responses)

    assert refused.value.__context__ is None or refused.value.__suppress_context__
    assert re.fullmatch(r"[A-Za-z0-9 -]+", str(refused.value))
    assert "alice" not in repr(refused.value)


# Base64, in its only form.


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"YWxpY2U", id="padding is missing"),
        pytest.param(b"YWxpY2U==", id="too much padding"),
        pytest.param(b"YWxp Y2U=", id="a space"),
        pytest.param(b"YWxp\tY2U=", id="a tab"),
        pytest.param(b"YWxp\r\nY2U=", id="a line end"),
        pytest.param(b"YWxpY2V=", id="unused bits are set"),
        pytest.param(b"YWxpY2U=YWxpY2U=", id="goes on after its end"),
        pytest.param(b"_-xpY2U=", id="the alphabet for URLs"),
        pytest.param(b"YWxpY2U=\0", id="a NUL"),
        pytest.param(b"*", id="a star"),
        pytest.param(b"=", id="a lone equals sign"),
        pytest.param(b"\xe9WxpY2U=", id="not ASCII"),
    ],
)
def test_base64_has_one_form(line: bytes) -> None:
    with pytest.raises(CredentialsEncodingError):
        decoded(line)


def test_an_empty_response_is_one() -> None:
    assert decoded(b"") == b""


@given(st.binary(max_size=300))
def test_base64_goes_there_and_back(response: bytes) -> None:
    assert decoded(base64.b64encode(response)) == response


@given(st.binary(max_size=60))
def test_no_two_lines_are_one_response(line: bytes) -> None:
    """What decodes at all encodes to the very same line."""
    try:
        response = decoded(line)
    except CredentialsEncodingError:
        return
    assert base64.b64encode(response) == line


_NAME = st.text(min_size=1, max_size=60).filter(
    lambda text: _is_login(text.encode("utf-8", "surrogatepass"))
)
_SECRET = st.binary(min_size=1, max_size=200).filter(lambda secret: b"\0" not in secret)


def _is_login(name: bytes) -> bool:
    try:
        login_of(name)
    except CredentialsError:
        return False
    return True


@given(_NAME, _SECRET)
def test_plain_and_login_say_the_same(name: str, secret: bytes) -> None:
    plain = credentials(PLAIN, (b"\0" + name.encode() + b"\0" + secret,))
    login = credentials(LOGIN, (name.encode(), secret))

    assert plain.login == login.login == name.lower()
    assert plain.sayable({"LOGIN"}) == login
    assert login.sayable({"PLAIN"}) == plain


@given(st.sampled_from(Mechanism), st.lists(st.binary(max_size=80), min_size=2, max_size=2))
def test_whatever_is_said_is_credentials_or_refused(
    mechanism: Mechanism, responses: list[bytes]
) -> None:
    try:
        said = credentials(mechanism, responses[: len(mechanism.challenges)])
    except CredentialsError:
        return
    assert 0 < len(said.login.encode()) <= 3 * LOGIN_OCTETS_MAX
    assert said.login.isprintable()


def test_who_acts_as_himself_is_asked_about_as_such() -> None:
    said = credentials(PLAIN, (b"alice\0alice\0x",)).sayable({"LOGIN"})

    assert said is not None
    assert said.responses == (b"alice", b"x")


def test_the_clients_own_mechanism_is_preferred() -> None:
    said = credentials(LOGIN, (b"alice", b"x"))

    assert said.sayable({"PLAIN", "LOGIN"}) is said
    assert said.sayable({"XOAUTH2", "CRAM-MD5"}) is None


def test_a_token_cannot_be_said_as_a_password() -> None:
    said = credentials(XOAUTH2, (b"user=a\x01auth=Bearer t\x01\x01",))

    assert said.sayable({"PLAIN", "LOGIN"}) is None
    assert said.sayable({"XOAUTH2"}) is said


# What is kept for itself.


@pytest.mark.parametrize(("mechanism", "responses", "login"), GOOD)
def test_the_secret_is_not_shown(
    mechanism: Mechanism, responses: tuple[bytes, ...], login: str
) -> None:
    said = credentials(mechanism, responses)

    for shown in (repr(said), str(said), f"{said}", f"{[said]}"):
        assert SECRET.decode() not in shown
        assert base64.b64encode(SECRET).decode()[:8] not in shown
        assert "Bearer" not in shown


def test_credentials_do_not_change() -> None:
    said = credentials(LOGIN, (b"alice", SECRET))

    with pytest.raises(FrozenInstanceError):
        said.login = "root"  # type: ignore[misc]


def test_a_digest_tells_credentials_apart_and_nothing_else() -> None:
    def digest(said: Credentials, key: bytes = KEY) -> bytes:
        return said.digest(key)

    ours = credentials(LOGIN, (b"alice", SECRET))
    others = [
        credentials(LOGIN, (b"alice", SECRET + b"x")),
        credentials(LOGIN, (b"alic", b"e" + SECRET)),
        credentials(LOGIN, (b"ALICE", SECRET)),
        credentials(XOAUTH2, (b"user=alice\x01auth=Bearer " + SECRET + b"\x01\x01",)),
    ]

    assert digest(ours) == digest(credentials(LOGIN, (b"alice", SECRET)))
    assert digest(ours) == digest(credentials(PLAIN, (b"\0alice\0" + SECRET,)))
    assert len({digest(ours), digest(ours, KEY[::-1]), *map(digest, others)}) == 6
    assert SECRET not in digest(ours)


# Mechanisms.


@pytest.mark.parametrize(
    ("name", "mechanism"),
    [
        (b"PLAIN", PLAIN),
        (b"plain", PLAIN),
        (b"Login", LOGIN),
        (b"xoauth2", XOAUTH2),
        (b"CRAM-MD5", None),
        (b"PLAIN\xff", None),
        (b"", None),
        ("pla\u0131n".encode(), None),
    ],
)
def test_a_mechanism_is_known_whatever_its_case(name: bytes, mechanism: Mechanism | None) -> None:
    assert mechanism_of(name) is mechanism


def test_login_asks_twice_and_the_others_once() -> None:
    assert LOGIN.challenges == (b"Username:", b"Password:")
    assert PLAIN.challenges == XOAUTH2.challenges == (b"",)
