"""What the connections of a backend remember of TLS and of logins."""

import ssl
from pathlib import Path

import pytest

from mailshed.errors import ConfigError
from mailshed.relay.security import (
    CLEAR_SECONDS,
    BackendTls,
    Security,
    SecurityPolicy,
    read_all,
)
from tests.support.certificates import make_authority
from tests.support.clock import ManualClock

MAYBE = SecurityPolicy(tls=BackendTls.OPPORTUNISTIC)


def login_file(folder: Path, password: str = "s3cret") -> Path:
    path = folder / "credentials"
    path.write_text(f"relay\n{password}\n")
    path.chmod(0o600)
    return path


def next_tls(security: Security) -> BackendTls:
    """How the next connection is to be opened; a function, since the answer changes."""
    return security.tls


def is_proven(security: Security) -> bool:
    """Whether the login has worked; a function for the same reason."""
    return security.is_login_proven


class TestTls:
    def test_is_left_for_a_while_where_it_does_not_work(self) -> None:
        clock, told = ManualClock(), list[str]()
        security = Security(MAYBE, clock=clock, on_clear=lambda detail, _: told.append(detail))
        assert next_tls(security) is BackendTls.OPPORTUNISTIC
        security.note_clear("handshake failed")
        assert next_tls(security) is BackendTls.NONE
        clock.advance(CLEAR_SECONDS - 1)
        assert next_tls(security) is BackendTls.NONE
        clock.advance(1)
        assert next_tls(security) is BackendTls.OPPORTUNISTIC
        security.note_clear("and again")
        assert told == ["handshake failed"], "the same trouble is told once"
        security.note_encrypted()
        security.note_clear("a new one")
        assert told == ["handshake failed", "a new one"]

    def test_is_tried_again_after_a_reload(self) -> None:
        security = Security(MAYBE, clock=ManualClock())
        security.note_clear("handshake failed")
        security.use(security.read())
        assert next_tls(security) is BackendTls.OPPORTUNISTIC

    @pytest.mark.parametrize("tls", [BackendTls.STARTTLS, BackendTls.IMPLICIT])
    def test_verifies_where_it_is_required(self, tls: BackendTls) -> None:
        policy = SecurityPolicy(tls=tls)
        context = Security(policy).read().context
        assert context is not None
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        lenient = Security(SecurityPolicy(tls=tls, is_verified=False)).read().context
        assert lenient is not None
        assert lenient.verify_mode is ssl.CERT_NONE

    def test_has_one_context_for_all_connections_until_a_reload(self) -> None:
        security = Security(MAYBE)
        first = security.material.context
        assert first is not None
        assert first.verify_mode is ssl.CERT_NONE
        assert security.material.context is first
        security.use(security.read())
        assert security.material.context is not first

    def test_needs_no_context_without_tls(self) -> None:
        assert Security().read().context is None


class TestLogin:
    def test_pauses_longer_and_longer_while_it_is_refused(self) -> None:
        clock, told = ManualClock(), list[tuple[str, float]]()
        security = Security(
            clock=clock, on_login_refused=lambda detail, seconds: told.append((detail, seconds))
        )
        assert security.login_pause() is None
        pauses = []
        for _ in range(6):
            security.note_login_refused("it said 535")
            found = security.login_pause()
            assert found is not None
            assert found[0] == "it said 535"
            pauses.append(found[1])
            clock.advance(found[1])
            assert security.login_pause() is None
        assert pauses == [300.0, 600.0, 1200.0, 2400.0, 3600.0, 3600.0]
        assert told == [("it said 535", 300.0)]

    def test_is_proven_by_success_and_doubted_by_refusal(self) -> None:
        security = Security(clock=ManualClock())
        assert not is_proven(security)
        security.note_login()
        assert is_proven(security)
        security.note_login_refused("it said 535")
        assert not is_proven(security)

    def test_is_tried_at_once_with_other_credentials(self, tmp_path: Path) -> None:
        policy = SecurityPolicy(credentials_file=login_file(tmp_path))
        security = Security(policy, clock=ManualClock())
        security.use(security.read())
        security.note_login_refused("it said 535")
        login_file(tmp_path, "n3w")
        security.use(security.read())
        assert security.login_pause() is None

    def test_is_tried_soon_after_a_reload_with_the_same(self, tmp_path: Path) -> None:
        """Somebody may have mended the server; but lists change often, and each is a reload."""
        clock = ManualClock()
        policy = SecurityPolicy(credentials_file=login_file(tmp_path))
        security = Security(policy, clock=clock)
        security.use(security.read())
        for _ in range(4):
            clock.advance(3600.0)
            security.note_login_refused("it said 535")
        clock.advance(100.0)
        assert security.login_pause() == ("it said 535", 2300.0)
        for _ in range(5):
            security.use(security.read())
            assert security.login_pause() == ("it said 535", 200.0)
        clock.advance(200.0)
        assert security.login_pause() is None

    def test_stays_proven_over_a_reload_with_the_same(self, tmp_path: Path) -> None:
        security = Security(SecurityPolicy(credentials_file=login_file(tmp_path)))
        security.use(security.read())
        security.note_login()
        security.use(security.read())
        assert is_proven(security)
        login_file(tmp_path, "n3w")
        security.use(security.read())
        assert not is_proven(security)


class TestFiles:
    def test_are_read_for_all_backends_and_a_fault_names_its_own(self, tmp_path: Path) -> None:
        authority = make_authority(tmp_path / "authority")
        good = SecurityPolicy(
            tls=BackendTls.STARTTLS,
            ca_file=authority.ca_file,
            credentials_file=login_file(tmp_path),
        )
        bad = SecurityPolicy(credentials_file=tmp_path / "missing")
        found = read_all({"exch01": Security(good)})
        assert found["exch01"].credentials is not None
        assert found["exch01"].credentials.user == "relay"
        assert found["exch01"].context is not None
        assert "s3cret" not in repr(found)
        with pytest.raises(ConfigError, match=r"^backend exch02: credentials_file: .*missing"):
            read_all({"exch01": Security(good), "exch02": Security(bad)})

    def test_are_read_again_when_they_have_changed(self, tmp_path: Path) -> None:
        security = Security(SecurityPolicy(credentials_file=login_file(tmp_path)))
        before = security.material.credentials
        login_file(tmp_path, "n3w")
        assert security.material.credentials == before, "not before it is asked to"
        security.use(security.read())
        after = security.material.credentials
        assert after is not None
        assert after.password == "n3w"
