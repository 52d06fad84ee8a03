"""Refusals at the door: what is said, counted and logged, and who is told of stress."""

from dataclasses import dataclass, field
from io import StringIO
from ipaddress import ip_address

import pytest

from mailshed.admission.sessions import NOTE_SECONDS, Standing, Visitor
from mailshed.listener.caps import SessionCaps
from mailshed.mail import reply
from mailshed.mail.reply import Reply
from mailshed.maillog import MailLog
from mailshed.metrics import Metrics, new_registry
from tests.support.builders import session_limits
from tests.support.clock import ManualClock


def visitor(address: str = "192.0.2.1") -> Visitor:
    return Visitor(ip_address(address), Standing.STRANGER)


@dataclass
class Rig:
    """The caps with everything around them within reach."""

    log: StringIO = field(default_factory=StringIO)
    metrics: Metrics = field(default_factory=lambda: Metrics(new_registry()))
    clock: ManualClock = field(default_factory=ManualClock)
    changes: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.caps = SessionCaps(
            metrics=self.metrics,
            maillog=MailLog(self.log),
            now=self.clock.monotonic,
            on_stress=lambda: self.changes.append(self.caps.is_stressed),
        )

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        """The values of a counter that are not 0."""
        return {
            tuple(sample.labels.values()): sample.value
            for metric in self.metrics.collect()
            for sample in metric.samples
            if sample.name == f"mailshed_{name}" and sample.value
        }

    @property
    def lines(self) -> list[str]:
        """What was logged, without the time."""
        return [line.partition(" event=")[2] for line in self.log.getvalue().splitlines()]


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize(
    ("limits", "answer", "cause"),
    [
        ({"sessions_max": 1}, reply.TOO_MANY_SESSIONS, "total"),
        ({"sessions_per_address": 1}, reply.TOO_MANY_OF_ADDRESS, "address"),
        ({"sessions_per_network": 1}, reply.TOO_MANY_OF_NETWORK, "network"),
        ({"connection_rate_max": 1}, reply.TOO_OFTEN, "rate"),
    ],
)
def test_each_cap_has_a_reply_a_count_and_a_line(
    rig: Rig, limits: dict[str, int], answer: Reply, cause: str
) -> None:
    made = session_limits(**limits)
    assert rig.caps.enter(visitor(), "smtp", made) is None
    assert rig.caps.enter(visitor(), "smtp", made) is answer
    assert answer.code == 421
    assert rig.counted("smtp_connections_refused_total") == {(cause,): 1}
    assert rig.counted("smtp_connections_total") == {("smtp", "refused"): 1}
    assert rig.counted("smtp_replies_total") == {("smtp", "connect", "421"): 1}
    line = next(line for line in rig.lines if line.startswith("session_refused"))
    assert f"client=192.0.2.1 cause={cause} times=1 listener=smtp reply=" in line


def test_a_flood_is_two_lines_a_minute(rig: Rig) -> None:
    limits = session_limits(sessions_per_address=1)
    rig.caps.enter(visitor(), "smtp", limits)
    for _ in range(1000):
        rig.caps.enter(visitor(), "smtp", limits)
    rig.clock.advance(NOTE_SECONDS)
    rig.caps.enter(visitor(), "smtp", limits)
    first = (
        "session_refused client=192.0.2.1 cause=address times=1 listener=smtp"
        f' reply="{reply.TOO_MANY_OF_ADDRESS.text}"'
    )
    assert rig.lines == [
        first,
        "session_refused client=192.0.2.1 cause=address times=999",
        first,
    ]
    assert rig.counted("smtp_connections_refused_total") == {("address",): 1001}


def test_the_end_of_a_flood_is_told_though_nobody_is_refused_any_more(rig: Rig) -> None:
    limits = session_limits(sessions_per_address=1)
    assert rig.caps.enter(visitor(), "smtp", limits) is None
    for _ in range(40):
        assert rig.caps.enter(visitor(), "smtp", limits) is reply.TOO_MANY_OF_ADDRESS
    rig.clock.advance(NOTE_SECONDS + 1)
    rig.caps.leave(visitor(), limits)
    assert len(rig.lines) == 2
    assert "times=39" in rig.lines[-1]


def test_a_connection_that_is_closed_without_a_word_has_no_reply(rig: Rig) -> None:
    rig.caps.refuse(visitor(), "smtp", "proxy_header", None, "version 1 is malformed")
    assert rig.counted("smtp_replies_total") == {}
    (line,) = rig.lines
    assert line == (
        "session_refused client=192.0.2.1 cause=proxy_header times=1 listener=smtp"
        ' detail="version 1 is malformed"'
    )


def test_stress_is_told_when_it_begins_and_when_it_ends(rig: Rig) -> None:
    limits = session_limits(sessions_max=10)
    inside = [visitor(f"192.0.2.{number}") for number in range(9)]
    for each in inside:
        rig.caps.enter(each, "smtp", limits)
    rig.clock.advance(12.0)
    assert (rig.caps.open, rig.caps.is_stressed) == (9, True)
    for each in inside[3:]:
        rig.caps.leave(each, limits)
    assert (rig.caps.open, rig.caps.is_stressed) == (3, False)
    assert rig.changes == [True, False]
    assert rig.lines == ["stress_began sessions=8 limit=10", "stress_ended seconds=12.0"]
