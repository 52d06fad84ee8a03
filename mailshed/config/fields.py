"""The kinds of value that a configuration has: each reads one scalar and says what it expected.

Pydantic's own messages speak of Python and of patterns; an operator wants to know what to write
instead. So every kind that is more than a number or a choice has a function here that either
returns the value or raises ValueError with an example. The `Kind` beside it is what the generated
reference calls it, and tells the renderer that a number has a unit.

Numbers are strict: YAML's `true` is not 1, and `"25"` is not 25.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Strict, model_validator

from mailshed.config.policy import Network
from mailshed.config.units import parse_duration, parse_size
from mailshed.errors import AddressSyntaxError
from mailshed.mail.address import DOMAIN_OCTETS_MAX, parse_mailbox
from mailshed.mail.pattern import PATTERN_MAX, is_pattern

T = TypeVar("T")

_LABEL = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"\.?{_LABEL}(?:\.{_LABEL})*")
_HOST_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_HOST_LABEL}(?:\.{_HOST_LABEL})*")
# A top-level domain is never all digits (RFC 3696, 2), so an address is not taken for a name.
_HOSTNAME = re.compile(rf"(?:{_HOST_LABEL}\.)+(?![0-9]+\Z){_HOST_LABEL}")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_HEADER_NAME = re.compile(r"[!-9;-~]{1,76}")  # ftext of RFC 5322, 3.6.8
_ENTRY = re.compile(r"[!-~]{1,254}")  # an address, a user name or a pattern: no spaces
FILE_PREFIX = "file:"
"""Begins an entry of a list that stands for all lines of a file."""
_PORT = re.compile(r"[0-9]{1,5}")
_DAY = re.compile(r"(?:[0-9]{4}-)?[0-9]{2}-[0-9]{2}", re.ASCII)
# What a shell would replace and we do not: a leading tilde, and variables.
_SHELL_WORD = re.compile(r"\A~[^/]*|\$(?:\w+|\{[^}]*\}?)")


@dataclass(frozen=True, slots=True)
class Kind:
    """What people call a kind of value; the word stands in the reference."""

    label: str


class Endpoint(BaseModel):
    """An address to listen on, written `127.0.0.1:2525` or `[::1]:2525`."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        host, colon, port = value.rpartition(":")
        if not colon or not _PORT.fullmatch(port) or int(port) > 65535:
            raise ValueError("expected address:port, for example 127.0.0.1:2525")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        try:
            address = ip_address(bare)
        except ValueError:
            raise ValueError(f'"{bare}" is not an IP address') from None
        if (address.version == 6) != (bare != host):
            raise ValueError("an IPv6 address stands in brackets, for example [::1]:2525")
        return {"host": bare, "port": int(port)}

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def address(self) -> IPv4Address | IPv6Address:
        """The host as an address object."""
        return ip_address(self.host)


def _parse_endpoint(value: object) -> object:
    if isinstance(value, str | Endpoint):
        return value  # the model reads its own text
    raise ValueError("expected address:port, for example 127.0.0.1:2525")


def parse_network(value: object) -> Network:
    """Read a network such as `10.0.0.0/8`; raises ValueError with what is probably meant."""
    if isinstance(value, Network):
        return value
    if not isinstance(value, str):
        raise ValueError("expected a network such as 10.0.0.0/8")  # noqa: TRY004 - pydantic's way
    try:
        return ip_network(value)
    except ValueError:
        pass
    try:
        rounded = ip_network(value, strict=False)
    except ValueError:
        raise ValueError("expected a network such as 10.0.0.0/8") from None
    raise ValueError(f'has bits set beyond its prefix, did you mean "{rounded}"?')


@dataclass(frozen=True, slots=True)
class FileReference:
    """An entry of a list that stands for the lines of a file, written `file:/etc/mailshed/lab`."""

    path: Path

    def __str__(self) -> str:
        return f"{FILE_PREFIX}{self.path}"


def _file_or(parse: Callable[[object], T]) -> Callable[[object], T | FileReference]:
    """Read an entry that may be a file."""

    def read(value: object) -> T | FileReference:
        if isinstance(value, FileReference):
            return value
        if isinstance(value, str) and value.startswith(FILE_PREFIX):
            return FileReference(_parse_path(value.removeprefix(FILE_PREFIX)))
        return parse(value)

    return read


def parse_address_entry(value: object) -> str:
    """Read an address, `@domain`, `@.domain` or a pattern; ValueError says what is expected."""
    if not isinstance(value, str) or not _ENTRY.fullmatch(value):
        raise ValueError(
            "expected an address such as alice@example.org, @example.org for a domain,"
            " @.example.org for its subdomains, or a pattern such as *-list@example.org"
        )
    if value.startswith("@") and not is_pattern(value):
        return "@" + _parse_domain(value[1:])
    if not is_pattern(value):
        try:
            parse_mailbox(value)
        except AddressSyntaxError as error:
            raise ValueError(f"not a mail address: {error}") from None
    return value.lower()


def parse_user_entry(value: object) -> str:
    """Read a user name or a pattern; ValueError says what is expected."""
    if not isinstance(value, str) or not _ENTRY.fullmatch(value):
        raise ValueError("expected the name of a user, or a pattern such as svc-*")
    return value.lower()


def parse_sender_entry(value: object) -> tuple[str, tuple[str, ...]]:
    """Read as whom a user may send, `login: address, @domain`; ValueError says what is wrong."""
    login, colon, rest = value.partition(":") if isinstance(value, str) else ("", "", "")
    texts = [text.strip() for text in rest.split(",")]
    if not colon or not all(texts):
        raise ValueError("expected a login and its addresses, as alice: alice@example.org, @x.org")
    if not _ENTRY.fullmatch(login.strip()) or is_pattern(login):
        raise ValueError("expected the name of a user before the colon, and no pattern")
    return login.strip().lower(), tuple(map(parse_address_entry, texts))


def _parse_domain(value: str) -> str:
    domain = value.lower()
    if not _DOMAIN.fullmatch(domain) or len(domain) > DOMAIN_OCTETS_MAX:
        raise ValueError(
            "not a domain, for example example.org, or .example.org for all its subdomains"
            " (other scripts in their xn-- form)"
        )
    return domain


def _parse_hostname(value: str) -> str:
    if not is_hostname(value):
        raise ValueError("not a fully qualified host name, for example relay.example.org")
    return value


def is_hostname(value: str) -> bool:
    """Whether `value` can greet other servers: two labels or more (RFC 5321, 2.3.5)."""
    return bool(_HOSTNAME.fullmatch(value)) and len(value) <= DOMAIN_OCTETS_MAX


def parse_host(value: str) -> str:
    """Check a host name or an address without a port; ValueError says what is expected."""
    try:
        ip_address(value)
    except ValueError:
        if not _HOST.fullmatch(value) or len(value) > DOMAIN_OCTETS_MAX:
            raise ValueError(
                "not a host name or an IP address (the port is a key of its own)"
            ) from None
    return value


def is_loopback(host: str) -> bool:
    """Whether what goes to a host that is written like this stays on ours."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _parse_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            "a name starts with a lower-case letter and goes on with up to 31 letters, digits,"
            " hyphens or underscores"
        )
    return value


def _parse_path(value: object) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("expected a path")
    if (match := _SHELL_WORD.search(value)) is not None:
        raise ValueError(f"{match[0]} is not expanded; write the whole path")
    return Path(value)


def _parse_postmaster(value: str) -> str:
    if value:
        try:
            parse_mailbox(value)
        except AddressSyntaxError as error:
            raise ValueError(f"not a mail address: {error}") from None
    return value


def _parse_header_name(value: str) -> str:
    if not _HEADER_NAME.fullmatch(value):
        raise ValueError("not the name of a header field")
    if is_pattern(value[:-1]) or value.endswith("?") or value == "*":
        raise ValueError("a wildcard can only end the name of a field, for example List-*")
    return value


def _parse_header_value(value: str) -> str:
    if is_pattern(value) and len(value) <= PATTERN_MAX:
        return value
    if not value or value.split() != [value]:
        raise ValueError(
            "expected one word, since only a field's first word is compared, or a pattern with *"
            " for the whole value"
        )
    return value


def _parse_policy(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("expected default, none, or the path of a file of rules")
    if value not in {"default", "none"}:
        if "/" not in value and "." not in value:
            raise ValueError("expected default, none, or the path of a file such as ./rules.yaml")
        _parse_path(value)
    return value


def _parse_time_zone(value: str) -> str:
    if value:
        try:
            ZoneInfo(value)
        except (ValueError, OSError, KeyError):
            raise ValueError(
                "not a time zone of this system, for example Europe/Paris"
                " (/usr/share/zoneinfo has them, of the package tzdata)"
            ) from None
    return value


def _parse_holiday(value: object) -> object:
    """Read `2026-04-06`, or `12-25` for that day of every year."""
    fault = 'expected a day such as "2026-04-06", or "12-25" for that of every year'
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError(fault)
    try:
        date.fromisoformat(value if len(value) > len("12-25") else f"2000-{value}")
    except ValueError:
        raise ValueError(fault) from None
    return value


def _parse_version(value: object) -> object:
    if value != 1 or isinstance(value, bool | float):
        raise ValueError("expected 1, the version of this format")
    return value


Duration = Annotated[float, BeforeValidator(parse_duration), Kind("duration")]
Size = Annotated[int, BeforeValidator(parse_size), Kind("size")]
Count = Annotated[int, Strict(), Kind("integer")]
Flag = Annotated[bool, Strict(), Kind("true or false")]
Share = Annotated[float, Strict(), Kind("number")]
Text = Annotated[str, Kind("text")]
Name = Annotated[str, AfterValidator(_parse_name), Kind("name")]
Domain = Annotated[str, AfterValidator(_parse_domain), Kind("domain")]
Hostname = Annotated[str, AfterValidator(_parse_hostname), Kind("host name")]
Host = Annotated[str, AfterValidator(parse_host), Kind("host")]
MailAddress = Annotated[str, AfterValidator(_parse_postmaster), Kind("mail address")]
HeaderName = Annotated[str, AfterValidator(_parse_header_name), Kind("field name")]
HeaderValue = Annotated[str, AfterValidator(_parse_header_value), Kind("word")]
FilePath = Annotated[Path, BeforeValidator(_parse_path), Kind("path")]
NetworkField = Annotated[Network, BeforeValidator(parse_network), Kind("network")]
NetworkEntry = Annotated[
    Network | FileReference, BeforeValidator(_file_or(parse_network)), Kind("network or file")
]
AddressEntry = Annotated[
    str | FileReference, BeforeValidator(_file_or(parse_address_entry)), Kind("address or file")
]
UserEntry = Annotated[
    str | FileReference, BeforeValidator(_file_or(parse_user_entry)), Kind("user or file")
]
PolicyName = Annotated[str, BeforeValidator(_parse_policy), Kind("default, none or path")]
EndpointField = Annotated[Endpoint, BeforeValidator(_parse_endpoint), Kind("address:port")]
TimeZone = Annotated[str, AfterValidator(_parse_time_zone), Kind("time zone")]
Holiday = Annotated[str, BeforeValidator(_parse_holiday), Kind("day")]
Version = Annotated[Literal[1], BeforeValidator(_parse_version), Kind("1")]
