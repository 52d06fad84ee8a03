"""The shipped policy on public mail: precision and recall of class bulk.

`python -m tests.bench.classes` prints the figures. The corpus (`tests.support.corpus`) says which
mail is ham, and not which was sent to many. Two answers to that are taken from each message and
compared with the class:

*listed* is what has a `List-*` field. That is evidence the policy itself reads, so the recall is 1
by construction; the precision says what else it calls bulk.

*mailed* is evidence that the policy does not read: traces of list software (`X-BeenThere`,
`Mailing-List`, `X-Mailman-Version`, `X-Loop` and the like), and envelope senders and `Sender`
fields of its making (`owner-`, `-admin@`, `-bounces@`, `-request@`). It misses newsletters that are
sent one by one and finds a few that are none.

A message that has neither, and no `Precedence: bulk`, `list` or `junk` either, is *personal* here:
nothing in its header says that it was sent to many. None of these may be bulk.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from mailshed.classification.classifier import Classifier
from mailshed.classification.subject import Subject
from mailshed.config.load import classification_policy
from mailshed.config.shipped import shipped_configuration
from mailshed.mail.address import parse_mailbox
from mailshed.mail.envelope import Recipient
from mailshed.mail.header import HeaderView
from tests.support.builders import client
from tests.support.corpus import CorpusMail, select

BULK = "bulk"
ALL = 10**6
_SOFTWARE = (
    *("x-beenthere", "mailing-list", "x-mailman-version", "x-egroups-return", "x-mailing-list"),
    *("x-list-host", "x-listmember", "x-mdmailing-list", "x-loop"),
)
_SENDERS = ("sender", "errors-to", "return-path")
_OF_SOFTWARE = re.compile(r"owner-|-owner@|-admin@|-bounces?[@+-]|-request@|-errors@|-return-")
_RECIPIENT = (Recipient(mailbox=parse_mailbox("someone@hospital.example")),)


@dataclass(slots=True)
class Tally:
    """A table of two by two: what a message is, and what it is called."""

    true_bulk: int = 0
    false_bulk: int = 0
    missed: int = 0
    other: int = 0

    def add(self, *, is_bulk: bool, is_called: bool) -> None:
        """Count one message."""
        if is_called:
            self.true_bulk += is_bulk
            self.false_bulk += not is_bulk
        else:
            self.missed += is_bulk
            self.other += not is_bulk

    @property
    def precision(self) -> float:
        """The share of what is called bulk that is."""
        return self.true_bulk / (self.true_bulk + self.false_bulk)

    @property
    def recall(self) -> float:
        """The share of what is bulk that is called so."""
        return self.true_bulk / (self.true_bulk + self.missed)


@dataclass(slots=True)
class Result:
    """What became of a corpus."""

    messages: int = 0
    listed: Tally = field(default_factory=Tally)
    mailed: Tally = field(default_factory=Tally)
    rules: Counter[str] = field(default_factory=Counter)
    unlisted_bulk: list[str] = field(default_factory=list)
    """Names of messages without a `List-*` field that are bulk."""
    personal: int = 0
    personal_bulk: list[str] = field(default_factory=list)
    """Names of personal messages that are called bulk: there must be none."""


def is_mailed(header: HeaderView) -> bool:
    """Whether list software has left a trace, of those that no rule asks for."""
    if any(name in header for name in _SOFTWARE):
        return True
    values = [value.lower() for name in _SENDERS for value in header.values(name)]
    if any(_OF_SOFTWARE.search(value) for value in values):
        return True
    return any(value.lower().startswith("mailing list") for value in header.values("delivered-to"))


def judge(mails: Iterable[CorpusMail]) -> Result:
    """Classify each message as a stranger's to one of ours, by the shipped policy alone."""
    classifier = Classifier(classification_policy(shipped_configuration()))
    result, stranger = Result(), client()
    for mail in mails:
        header = HeaderView(mail.wire)
        subject = Subject(
            client=stranger,
            reverse_path=parse_mailbox("someone@example.org"),
            recipients=_RECIPIENT,
            header=header,
            size=len(mail.wire),
        )
        verdict = classifier.classify(subject)
        is_called = verdict.traffic_class.name == BULK
        is_listed, mailed = header.has_prefix(b"list-"), is_mailed(header)
        result.messages += 1
        result.rules[verdict.rule] += 1
        result.listed.add(is_bulk=is_listed, is_called=is_called)
        result.mailed.add(is_bulk=mailed, is_called=is_called)
        if is_called and not is_listed:
            result.unlisted_bulk.append(mail.name)
        precedence = {value.lower() for value in header.values("precedence")}
        if not is_listed and not mailed and not precedence & {"bulk", "list", "junk"}:
            result.personal += 1
            if is_called:
                result.personal_bulk.append(mail.name)
    return result


def ham() -> list[CorpusMail]:
    """Mail that people wanted to have."""
    return [mail for mail in select(ALL) if "ham" in mail.name.partition("/")[0]]


def main() -> None:
    """Print the figures of docs/classification.md."""
    result = judge(ham())
    out = [f"{result.messages} messages of ham", ""]
    for name, tally in (("listed", result.listed), ("mailed", result.mailed)):
        out.append(
            f"{name}: {tally.true_bulk} of {tally.true_bulk + tally.missed} are bulk,"
            f" {tally.false_bulk} others too: precision {tally.precision:.4f},"
            f" recall {tally.recall:.4f}"
        )
    out.append(f"bulk without List-*: {len(result.unlisted_bulk)}")
    out.append(f"personal: {result.personal}, of which bulk: {len(result.personal_bulk)}")
    out += ["", *(f"{count:6} {rule}" for rule, count in result.rules.most_common())]
    sys.stdout.write("\n".join([*out, ""]))


if __name__ == "__main__":
    main()
