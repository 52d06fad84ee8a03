"""docs/interoperability.md, from what a run has seen."""

import os
import platform
import textwrap
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import assert_never

from tests.interop.cells import (
    Cell,
    Delivered,
    Failed,
    InClear,
    Outcome,
    Refused,
    Table,
    Waits,
)
from tests.interop.contents import Content
from tests.interop.exemptions import EXEMPTIONS, complaint, exemption_of
from tests.interop.ways import Mode

PAGE = Path(__file__).parents[2] / "docs/interoperability.md"

_COLUMNS = 106

_INTRODUCTION = """\
# Interoperability

What mailshed was tried with: {clients} clients before it and {backends} mail servers behind it,
each with mail that passes straight through and with mail that waits in the spool.
`make test-interop` does it again and writes this page. (As root on Debian 12; it installs the
clients, and unpacks Exim and OpenSMTPD, which cannot be installed beside Postfix.) It fails if
anything is otherwise than here.

{date}, Debian {debian}, Linux {kernel}, {cores} cores, mailshed {mailshed} on Python {python}:
{cells} messages in {minutes:.0f} minutes (load average {load:.0f}). {delivered}
arrived as they were meant to; {others} ended as the notes below say. Nothing was lost, altered or
delivered twice.

A tick is a message that

- arrived exactly once, octet for octet as it was sent, below trace fields of which one is ours
  (of what s-nail and PHPMailer compose, the body is compared);
- came and went on in the way of its row, by what the two servers wrote into it: with or without
  TLS and a login, with SMTPUTF8 where it is needed, for its recipient; and
- passed while the client waited (*pass*), or was acknowledged while the server was away and
  delivered when it came back (*spool*), by our log.

What is sent: *small* is 1 KB with dots at line starts, a line `From `, a line of 990 octets and
spaces at line ends. *8-bit* has UTF-8 in the body. *SMTPUTF8* has sender, recipient and header in
other scripts. *20 MB* is 20 MiB of base64.
"""

_CLIENTS = """\
## Clients

Before mailshed, with Postfix behind it. *plain* is a port without TLS; *STARTTLS* a port for users,
where TLS is required, and the client verifies the certificate; *AUTH* the same with a login, which
Dovecot checks. Each client has its defaults, but for names and paths.
"""

_BACKENDS = """\
## Mail servers

Behind mailshed, with smtplib before it. *plain* is `tls: none`, *opportunistic* the default,
*STARTTLS* is `tls: starttls` with `ca_file`, and *AUTH* the same with `credentials_file`, at a
server that demands a login. Recipients are verified as by default (`call_ahead`).
"""

_HABITS = """\
## Habits that were seen

- Go's net/smtp gives the parameters SMTPUTF8 and BODY=8BITMIME with every message, as soon as they
  are offered.
- s-nail says HELO unless it logs in, so there are no extensions. swaks, msmtp, curl, s-nail and
  PHPMailer send 8-bit mail without BODY=8BITMIME. It is passed on as it came.
- Ruby's net/smtp writes each line by itself, under TLS as a record of its own: 20 MB are 270,000 of
  them, and take their time.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All that was seen."""

    outcomes: Mapping[Cell, Outcome]
    versions: Mapping[str, str]
    """Of each program, in the order of the tables."""
    seconds: float
    wall: float
    """When it began, as a Unix time."""

    @property
    def complaints(self) -> list[str]:
        """What is otherwise than it has to be; nothing, if the page may be written."""
        return [
            f"{cell.name}: {said}"
            for cell, outcome in self.outcomes.items()
            if (said := complaint(cell, outcome)) is not None
        ]


def page(run: Run) -> str:
    """The whole page."""
    clients, backends = (_rows(run, table) for table in ("clients", "backends"))
    delivered = sum(isinstance(each, Delivered) for each in run.outcomes.values())
    parts = [
        _INTRODUCTION.format(
            clients=len(clients),
            backends=len(backends),
            date=time.strftime("%Y-%m-%d", time.gmtime(run.wall)),
            debian=_debian(),
            kernel=platform.release().partition("-")[0],
            cores=len(os.sched_getaffinity(0)),
            python=platform.python_version(),
            mailshed=version("mailshed"),
            cells=len(run.outcomes),
            minutes=run.seconds / 60,
            load=os.getloadavg()[2],
            delivered=delivered,
            others=len(run.outcomes) - delivered,
        ),
        _CLIENTS,
        _table(run, "clients", clients),
        _BACKENDS,
        _table(run, "backends", backends),
        "## Notes\n",
        _notes(),
        _HABITS,
    ]
    return "\n".join(parts)


def _rows(run: Run, table: Table) -> list[str]:
    return list(dict.fromkeys(cell.row for cell in run.outcomes if cell.table == table))


def _table(run: Run, table: Table, rows: Iterable[str]) -> str:
    columns = [(content, mode) for content in Content for mode in Mode]
    heads = ["", "way", *(f"{content}, {mode}" for content, mode in columns)]
    lines = [heads, ["---"] * 2 + [":-:"] * len(columns)]
    for row in rows:
        ways = dict.fromkeys(cell.way for cell in run.outcomes if cell.row == row)
        for number, way in enumerate(ways):
            name = "" if number else f"{row} {run.versions[row]}"
            cells = [
                Cell(table=table, row=row, way=way, content=content, mode=mode)
                for content, mode in columns
            ]
            lines.append([name, way, *(_sign(cell, run.outcomes.get(cell)) for cell in cells)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _sign(cell: Cell, outcome: Outcome | None) -> str:
    exemption = exemption_of(cell)
    number = "" if exemption is None else f" ({EXEMPTIONS.index(exemption) + 1})"
    match outcome:
        case None:
            return ""
        case Delivered():
            return "✓"
        case InClear():
            return f"in clear{number}"
        case Refused():
            return f"refused{number}"
        case Waits():
            return f"waits{number}"
        case Failed():
            return "**failed**"
        case _:
            assert_never(outcome)


def _notes() -> str:
    notes = (
        f"{number}. {each.row}: refused by {each.who}. {each.why}"
        for number, each in enumerate(EXEMPTIONS, 1)
    )
    return "".join(f"{_wrapped(note)}\n" for note in notes)


def _wrapped(text: str) -> str:
    return textwrap.fill(
        text,
        _COLUMNS,
        subsequent_indent="   ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _debian() -> str:
    version = Path("/etc/debian_version")
    return version.read_text().strip() if version.exists() else "unknown"
