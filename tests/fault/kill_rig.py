"""The rig of the kill test: a real Postfix, a real mailshed, rounds of load, kill, start, judge.

A round knows nothing but what the harness saw: what each client was told and when, what Postfix
wrote to its Maildir and its log. From that it also says what the kill hit, so that a run in which
the kills missed everything of interest cannot pass for a proof:

- *open*: clients whose dialog the kill cut off, and of these the *unanswered*, which had sent their
  final dot;
- *draining*: acknowledged mail from the spool had reached Postfix just before, and more of it only
  came after;
- *reporting*: Postfix had refused a spooled message for good before the kill, and the report about
  it was not yet in its sender's mailbox.

Whose word a 250 is can be told from the queue id in it: ours has 16 characters, Postfix's has 10 or
11 (short ids, postconf(5), enable_long_queue_ids).

Duplicates are counted a round, so each round drains to the end and is judged by a book of its own;
what belongs to an earlier round and comes later is a phantom.
"""

import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.ledger import Fate, Ledger, Verdict
from tests.support.load import Load, Message, Outcome, book, make_message, poisson
from tests.support.postfix import UNKNOWN_MAILBOXES, Delivered, Postfix
from tests.support.processes import NotInTimeError, wait_until

IN_FLIGHT_MAX = 4
POLICY_SECONDS = 0.03
"""What each recipient costs Postfix, so that four slots are some 100 messages a second at most."""

RATE = 150.0
LOAD_SECONDS = 1.2
KILL_SECONDS = (0.2, LOAD_SECONDS)
"""When the kill comes, counted from the start of the load."""
DRAIN_KILL_SECONDS = (0.0, 0.5)
"""When every fourth kill comes: counted from the last reply to a client, while the rest drains."""
MIX = {"clinical": 0.10, "personal": 0.25, "telework": 0.20, "bulk": 0.45}

# Shares of the messages that are special. The large ones enter the spool in several commits.
UNKNOWN_SHARE = 0.12
UNKNOWN_FROM_NULL_SHARE = 0.02
LARGE_SHARE = 0.03
LARGE_OCTETS = 600 * 1024

START_SECONDS = (0.2, 1.2)
"""When the second kill of every fourth round comes, counted from the start of the process: while
it loads, recovers its spool, or begins to drain."""

DRAINING_SECONDS = 0.5
"""'Just before the kill': several times as long as a message takes at Postfix."""
DRAIN_DEADLINE = 120.0

_OUR_REPLY = re.compile(r"250 2\.0\.0 Ok: queued as [0-9A-Z]{16}")
_REFUSED_MAILBOX = re.compile(rb"550 5\.1\.1 <([^@>]+)@")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kill:
    """The kill of one round."""

    at: float
    """Unix time."""
    refused: set[str]
    """Mailboxes that Postfix had said 550 to in this round."""
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one kill hit and what came of it."""

    kills: int
    """One, or two if it was killed once more while it started."""
    acknowledged: int
    spooled: int
    """Acknowledged with our own word."""
    unanswered: int
    """Clients cut off after their final dot."""
    cut_off: int
    """Clients cut off before it."""
    is_draining: bool
    is_reporting: bool
    reports: int
    doubts: int
    """Transactions that mailshed itself called in doubt."""
    duplicates: int

    @property
    def is_open(self) -> bool:
        """Whether the kill hit an open transaction."""
        return self.unanswered + self.cut_off > 0


@dataclass
class KillRig:
    """Rounds against one Postfix, on one spool."""

    server: Postfix
    daemon: Daemon
    chooser: random.Random
    rounds: int = 0
    _log_seen: int = field(default=0, init=False)
    _postfix_log_seen: int = field(default=0, init=False)

    @staticmethod
    def make_server() -> Postfix:
        """A Postfix of known capacity that refuses mailboxes that begin with `unknown-`."""
        return Postfix(
            policy_delay=POLICY_SECONDS, settings={"smtpd_relay_restrictions": UNKNOWN_MAILBOXES}
        )

    @staticmethod
    def make_daemon(folder: Path, server: Postfix) -> Daemon:
        """A mailshed whose limit is far below what the load would use."""
        backend = {
            "name": "postfix",
            "host": "127.0.0.1",
            "port": server.port,
            "in_flight_max": IN_FLIGHT_MAX,
        }
        return Daemon(folder=folder, backend_port=server.port, overrides={"backends": [backend]})

    def round(self) -> Round:
        """Load, kill, start, drain; fails if anything is lost, altered or made up."""
        self.rounds += 1
        load = Load(self.daemon.port, self._messages()).start()
        if self.rounds % 4:
            load.ends_within(self.chooser.uniform(*KILL_SECONDS))
        else:
            load.join()
            self._let_pass(DRAIN_KILL_SECONDS)
        at = time.time()
        self.daemon.kill()
        refused = self.refused_mailboxes()
        load.stop()
        outcomes = load.join()
        count = self._start()
        arrived, verdict = self._drain(outcomes)
        kill = _Kill(at=at, refused=refused, count=count)
        return _describe(kill, outcomes, arrived, verdict, doubts=self._new_doubts())

    def _start(self) -> int:
        """Start the daemon, with another kill on the way in every fourth round; the kills so far.

        The second one may hit the beginning of the drain, and make duplicates of its own.
        """
        count = 1
        if self.rounds % 4 == 2:
            self.daemon.launch()
            self._let_pass(START_SECONDS)
            self.daemon.kill()
            count = 2
        self.daemon.start()
        return count

    def _let_pass(self, seconds: tuple[float, float]) -> None:
        """Wait for no condition: a kill comes at any moment."""
        time.sleep(self.chooser.uniform(*seconds))

    def _messages(self) -> list[Message]:
        prefix = f"kill{self.rounds}-"
        seed = self.chooser.getrandbits(32)
        return [
            self._make_special(message)
            for message in poisson(RATE, LOAD_SECONDS, MIX, seed, prefix=prefix)
        ]

    def _make_special(self, message: Message) -> Message:
        lot = self.chooser.random()
        if lot < LARGE_SHARE:
            return make_message(
                message.identity, message.traffic_class, LARGE_OCTETS, due=message.due
            )
        lot -= LARGE_SHARE
        if lot > UNKNOWN_SHARE + UNKNOWN_FROM_NULL_SHARE:
            return message
        unknown = make_message(
            f"unknown-{message.identity}", message.traffic_class, due=message.due
        )
        sender = unknown.sender if lot < UNKNOWN_SHARE else ""
        return replace(unknown, sender=sender, is_undeliverable=True)

    def _drain(self, outcomes: Sequence[Outcome]) -> tuple[list[Delivered], Verdict]:
        """Wait until all that was promised has come; what Postfix has, and the verdict."""
        ledger = Ledger()
        book(ledger, outcomes)
        self.daemon.wait_spool_empty(DRAIN_DEADLINE)
        arrived: list[Delivered] = []

        def is_complete() -> bool:
            if not self.server.is_queue_empty:
                return False
            arrived.extend(self.server.take_delivered())
            return not ledger.judge(arrived).lost

        try:
            wait_until(is_complete, "")
        except NotInTimeError:
            lost = ledger.judge(arrived).lost
            raise AssertionError(
                f"round {self.rounds} lost {len(lost)}: {lost[:10]}:\n{self.daemon.log_tail}"
            ) from None
        verdict = ledger.judge(arrived)
        verdict.assert_nothing_lost_or_made_up()
        return arrived, verdict

    def refused_mailboxes(self) -> set[str]:
        """What Postfix has said 550 to since this was asked last; fails at mail for nobody."""
        with (self.server.root / "mail.log").open("rb") as log:
            log.seek(self._postfix_log_seen)
            text = log.read()
        self._postfix_log_seen += len(text)
        assert b"in RCPT command: <>" not in text, "mail to the null reverse-path"
        return {name.decode() for name in _REFUSED_MAILBOX.findall(text)}

    def _new_doubts(self) -> int:
        """How many `in_doubt` lines mailshed has logged since this was asked last."""
        with self.daemon.process.log.open("rb") as log:
            log.seek(self._log_seen)
            text = log.read()
        self._log_seen += len(text)
        return text.count(b" event=in_doubt ")


def is_spooled(outcome: Outcome) -> bool:
    """Whether the client's 250 was our own word, not Postfix's."""
    return outcome.fate is Fate.ACKNOWLEDGED and bool(_OUR_REPLY.fullmatch(outcome.reply))


def _describe(
    kill: _Kill,
    outcomes: Sequence[Outcome],
    arrived: Sequence[Delivered],
    verdict: Verdict,
    *,
    doubts: int,
) -> Round:
    unexpected = [
        outcome.reply
        for outcome in outcomes
        if outcome.fate is Fate.REFUSED and not outcome.reply.startswith("550 5.1.1 ")
    ]
    assert not unexpected, f"clients were refused: {unexpected[:5]}"
    acknowledged = [each for each in outcomes if each.fate is Fate.ACKNOWLEDGED]
    spooled = {each.message.identity: each for each in acknowledged if is_spooled(each)}
    # Copies of one message: when it first came.
    first = {
        item.recipient.partition("@")[0]: item.arrived
        for item in sorted(arrived, key=lambda item: item.arrived, reverse=True)
    }
    times = [first[identity] for identity in spooled if identity in first]
    reports = [item for item in arrived if b"multipart/report" in item.content]
    reported_before = {
        identity
        for item in reports
        if item.arrived <= kill.at
        for identity in spooled
        if identity.encode() in item.content
    }
    return Round(
        kills=kill.count,
        acknowledged=len(acknowledged),
        spooled=len(spooled),
        unanswered=sum(each.fate is Fate.IN_DOUBT for each in outcomes),
        cut_off=sum(each.fate is Fate.NOT_SENT and each.started < kill.at for each in outcomes),
        is_draining=any(kill.at - DRAINING_SECONDS < when <= kill.at for when in times)
        and any(when > kill.at for when in times),
        is_reporting=bool((kill.refused & spooled.keys()) - reported_before),
        reports=len(reports),
        doubts=doubts,
        duplicates=verdict.duplicates,
    )
