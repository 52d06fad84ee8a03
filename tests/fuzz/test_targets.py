"""The fuzz targets in short: all seeds, some thousands of mutations of them, and a short search."""

import random
import subprocess
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path

import pytest

from mailshed.listener import data
from mailshed.mail.reply import BACKEND_AWAY, Reply
from mailshed.relay.wire import WireProtocol
from tests.fuzz import dialogs, encrypted, targets
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
SEEDS = Path(__file__).parent / "seeds"
MUTATIONS = 1500
MUTATIONS_OF_DIALOGS = 150
SEARCHED = 3000
SEARCH_SECONDS = 1
# To start a search takes longer than these do; `make fuzz` searches all.
SHORT_SEARCH = ("commands", "mail_data", "proxy_header", "backend_reply", "session")
# Octets that mean something to one parser or another.
TOKENS = (
    *(b"\r\n", b"\r", b"\n", b"\0", b".", b"\r\n.\r\n", b"<", b">", b"@", b'"', b"\\", b" ", b"="),
    *(b"+", b"FROM:", b"TO:", b"PROXY ", b"250-", b"421 ", b"\xff", b"\xc3\xa9", b"\x7f", b"\x01"),
)


def seeds(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((SEEDS / name).iterdir())]


def mutated(seed: bytes, rng: random.Random) -> bytes:
    """One to four changes: octets removed, repeated, replaced, or a token put in."""
    octets = bytearray(seed)
    for _ in range(rng.randint(1, 4)):
        start = rng.randint(0, len(octets))
        end = min(len(octets), start + rng.choice((0, 1, 2, 8, 64)))
        match rng.randrange(4):
            case 0:
                del octets[start:end]
            case 1:
                octets[start:start] = octets[start:end] * rng.choice((1, 2, 50))
            case 2:
                octets[start:end] = rng.randbytes(end - start)
            case _:
                octets[start:start] = rng.choice(TOKENS)
    return bytes(octets[:8192])


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_their_mutations_find_nothing(name: str) -> None:
    target, found = TARGETS[name], seeds(name)
    assert len(found) >= 5
    for seed in found:
        target(seed)
    rng = random.Random(zlib.crc32(name.encode()))
    is_dialog = target.__module__ in {dialogs.__name__, encrypted.__name__}
    for _ in range(MUTATIONS_OF_DIALOGS if is_dialog else MUTATIONS):
        octets = mutated(rng.choice(found), rng)
        try:
            target(octets)
        except Exception as error:
            raise AssertionError(f"{name}: {octets!r}") from error


def test_every_folder_of_seeds_has_its_target() -> None:
    assert {path.name for path in SEEDS.iterdir()} == set(TARGETS)


def test_a_scanner_that_takes_a_false_end_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search itself can tell."""
    monkeypatch.setattr(data, "END_OF_DATA", b"\n.\r\n")
    with pytest.raises(AssertionError):
        targets.mail_data((SEEDS / "mail_data" / "lf_crlf").read_bytes())


def test_a_session_that_fails_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> None:
        raise ValueError

    monkeypatch.setattr(dialogs, "_nobody_objects", fail)
    with pytest.raises(AssertionError):
        dialogs.session((SEEDS / "session" / "recipients").read_bytes())


def test_a_client_that_takes_any_reply_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def take(wire: WireProtocol, reply: Reply | None, _line: bytes) -> bool:
        wire.replies.append(reply or BACKEND_AWAY)
        return True

    monkeypatch.setattr(WireProtocol, "_take", take)
    with pytest.raises(AssertionError):
        dialogs.backend_dialog((SEEDS / "backend_dialog" / "more").read_bytes())


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no wheel for this machine")
def test_a_short_search_finds_nothing() -> None:
    bounds = ("--runs", str(SEARCHED), "--seconds", str(SEARCH_SECONDS))
    command = [sys.executable, "-m", "tests.fuzz", *bounds, *SHORT_SEARCH]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("no finding") == len(SHORT_SEARCH)
