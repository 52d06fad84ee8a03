"""How the connections of one backend are protected, and what its connections have learned of that.

`SecurityPolicy` is what the configuration says. `Security` has it together with what was read from
files (`Material`: certificates and credentials, replaced as a whole at a reload), and remembers two
things that go wrong and must not be tried again with every connection:

- *TLS that is offered and does not work* (RFC 7435): with `opportunistic`, mail goes in clear
  instead, for `CLEAR_SECONDS`; then TLS is tried again. With `starttls` and `implicit` nothing ever
  goes in clear.
- *A login that is refused.* Directories lock an account after a few wrong passwords, and a relay
  opens many connections. So until a login has succeeded there is one attempt at a time, and after
  a refusal none for five minutes, then ten, up to an hour. Other credentials are tried at once; a
  reload with the same ones, as somebody may have mended the server, after five minutes. Meanwhile
  the backend counts as away, and mail is spooled: no client hears of it.

Times are seconds on the monotonic clock.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mailshed.clock import Clock, SystemClock
from mailshed.errors import ConfigError, SecretFileError
from mailshed.relay.credentials import Credentials, read_credentials
from mailshed.relay.tls import client_context

CLEAR_SECONDS = 600.0
"""How long a backend whose TLS does not work gets its mail in clear, if that is allowed."""
LOGIN_PAUSE_MIN = 300.0
LOGIN_PAUSE_MAX = 3600.0
"""How long a login that was refused is not tried again; doubled each time."""


class BackendTls(Enum):
    """Whether connections to a backend are encrypted."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"  # if it offers STARTTLS and that works
    STARTTLS = "starttls"  # always, or no mail (RFC 3207)
    IMPLICIT = "implicit"  # always, and before the greeting (RFC 8314, 3.3)


REQUIRED = frozenset({BackendTls.STARTTLS, BackendTls.IMPLICIT})


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityPolicy:
    """What is asked of one backend's connections."""

    tls: BackendTls = BackendTls.NONE
    is_verified: bool = True
    """Whether the server has to prove its name, where TLS is required."""
    name: str = "localhost"
    """The name in its certificate."""
    ca_file: Path | None = None
    credentials_file: Path | None = None

    @property
    def is_required(self) -> bool:
        """Whether no mail may go without TLS."""
        return self.tls in REQUIRED


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What was read from files."""

    context: ssl.SSLContext | None = None
    credentials: Credentials | None = None


@dataclass(slots=True)
class _Logins:
    """What is known of our login."""

    is_proven: bool = False
    pause: float = 0.0
    refused_at: float = 0.0
    detail: str = ""


class Security:
    """Of one backend; shared by all its connections.

    `on_clear` is told when mail begins to go in clear because TLS does not work, `on_login_refused`
    when the server says that name or password is wrong; both why and for how many seconds.
    """

    def __init__(
        self,
        policy: SecurityPolicy = SecurityPolicy(),
        *,
        clock: Clock | None = None,
        on_clear: Callable[[str, float], None] = lambda _detail, _seconds: None,
        on_login_refused: Callable[[str, float], None] = lambda _detail, _seconds: None,
    ) -> None:
        self.policy = policy
        self.proving = asyncio.Lock()
        """Held by the one that logs in while nobody has succeeded yet."""
        self._clock = clock or SystemClock()
        self._on_clear = on_clear
        self._on_login_refused = on_login_refused
        self._material: Material | None = None
        self._clear_until = float("-inf")
        self._logins = _Logins()

    # Files.

    def read(self) -> Material:
        """Read the files. Blocks; raises ConfigError with the key that is at fault."""
        policy = self.policy
        context = credentials = None
        if policy.tls is not BackendTls.NONE:
            is_verified = policy.is_required and policy.is_verified
            context = client_context(is_verified=is_verified, ca_file=policy.ca_file)
        if policy.credentials_file is not None:
            try:
                credentials = read_credentials(policy.credentials_file)
            except SecretFileError as error:
                raise ConfigError(f"credentials_file: {error}") from error
        return Material(context=context, credentials=credentials)

    def use(self, material: Material) -> None:
        """Open connections with this from now on; whatever went wrong before is tried again.

        Connections that are open stay as they are.
        """
        is_new = self._material is None or self._material.credentials != material.credentials
        self._material = material
        self._clear_until = float("-inf")
        if is_new:
            self._logins = _Logins()
        else:
            self._logins.pause = min(self._logins.pause, LOGIN_PAUSE_MIN)

    @property
    def material(self) -> Material:
        """What connections are opened with; the service has read it before the first of them."""
        if self._material is None:
            self._material = self.read()
        return self._material

    # TLS.

    @property
    def tls(self) -> BackendTls:
        """How the next connection is to be opened."""
        is_left = self._clock.monotonic() < self._clear_until
        return BackendTls.NONE if is_left else self.policy.tls

    def note_clear(self, detail: str) -> None:
        """TLS was offered and failed, and a connection in clear has been opened instead."""
        is_news = self._clear_until == float("-inf")
        self._clear_until = self._clock.monotonic() + CLEAR_SECONDS
        if is_news:
            self._on_clear(detail, CLEAR_SECONDS)

    def note_encrypted(self) -> None:
        """TLS works."""
        self._clear_until = float("-inf")

    # Logins.

    @property
    def is_login_proven(self) -> bool:
        """Whether a login with the present credentials has succeeded."""
        return self._logins.is_proven

    def login_pause(self) -> tuple[str, float] | None:
        """Why no login may be tried now, and for how many seconds yet; None if one may."""
        logins = self._logins
        left = logins.refused_at + logins.pause - self._clock.monotonic()
        return (logins.detail, left) if logins.detail and left > 0.0 else None

    def note_login(self) -> None:
        """The server has let us in."""
        if not self._logins.is_proven or self._logins.detail:
            self._logins = _Logins(is_proven=True)

    def note_login_refused(self, detail: str) -> None:
        """The server says that name or password is wrong."""
        is_news = not self._logins.detail
        pause = min(max(2 * self._logins.pause, LOGIN_PAUSE_MIN), LOGIN_PAUSE_MAX)
        now = self._clock.monotonic()
        self._logins = _Logins(pause=pause, refused_at=now, detail=detail)
        if is_news:
            self._on_login_refused(detail, pause)


def read_all(securities: Mapping[str, Security]) -> dict[str, Material]:
    """Read the files of all backends, which are named. Blocks; raises ConfigError."""
    found = {}
    for name, security in securities.items():
        try:
            found[name] = security.read()
        except ConfigError as error:
            raise ConfigError(f"backend {name}: {error}") from error
    return found
