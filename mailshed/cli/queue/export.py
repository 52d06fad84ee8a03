"""`mailshed queue export --to FOLDER`: copies of messages as files; the queue stays as it is.

Files come straight from the spool's folder (`mailshed.spool.extract`), so this is for root and the
service's user, with the service running or without. It is entered in the audit log before and
after: by the service if it runs, so that the log has it too, else from here.

Envelopes are written as they are, addresses of patients included: a copy from which a message
cannot be sent again would be none.
"""

import argparse
import errno
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mailshed.admin.audit import Action, AuditError, AuditLog, Operator, done
from mailshed.admin.request import EXPORT, QueueRequest
from mailshed.cli.client import ServiceDown, post
from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.cli.places import find_service
from mailshed.cli.queue.act import TIMEOUT
from mailshed.cli.queue.options import request
from mailshed.cli.queue.source import print_json, require_spool
from mailshed.cli.table import count
from mailshed.errors import SpoolError
from mailshed.spool.extract import existing, extract, sync_folder
from mailshed.spool.reader import find_ids
from mailshed.terms import QueueId

SCHEMA = "mailshed.queue-export/1"


@dataclass(slots=True)
class _Outcome:
    """What became of the messages so far."""

    exported: int = 0
    damaged: dict[QueueId, str] = field(default_factory=dict)
    """What is wrong with those that are damaged, exported or not."""
    gone: int = 0
    error: str = "it was broken off"

    @property
    def counts(self) -> dict[str, int | str]:
        return {
            "exported": self.exported,
            "damaged": len(self.damaged),
            "gone": self.gone,
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class _Selection:
    """The messages that are meant; of a dry run some of them."""

    matched: int
    ids: list[QueueId]


class _Books(Protocol):
    """Who knows which messages are meant, and keeps the audit log."""

    def begin(self, asked: QueueRequest) -> _Selection:
        """Enter the export; return what is to be exported. Raises VerbFailed if it may not be."""
        ...

    def end(self, outcome: _Outcome) -> None:
        """Enter what became of it. Raises VerbFailed or AuditError if that is impossible."""
        ...


class _ServiceBooks:
    """The service, which runs."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._request = ""

    def begin(self, asked: QueueRequest) -> _Selection:
        answer = post(self._socket, "/v1/queue/export", asked.document, TIMEOUT)
        self._request = answer.get("request", "")
        return _Selection(answer["matched"], [QueueId(each) for each in answer["ids"]])

    def end(self, outcome: _Outcome) -> None:
        document = {"request": self._request, "result": outcome.counts}
        post(self._socket, "/v1/queue/export/done", document)


class _OwnBooks:
    """The spool's folder, while nobody owns it."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._audit = AuditLog(spool)
        self._operator = Operator.of(os.getuid(), os.getpid())
        self._request = ""

    def begin(self, asked: QueueRequest) -> _Selection:
        most = asked.messages_max
        ids = find_ids(self._spool, asked.wanted, most + 1)
        if len(ids) > most:
            raise VerbFailed(
                f"more than {most:,} messages match, so nothing was done: narrow the filter, or"
                " raise --max",
                ExitCode.USAGE,
            )
        if ids and not asked.is_dry_run:
            action = Action(
                operator=self._operator,
                verb=EXPORT,
                wanted=asked.wanted,
                ids=ids,
                reason=asked.reason,
                destination=asked.destination,
            )
            self._request = action.request
            self._audit.append(action.requested(time.time()))
        return _Selection(len(ids), ids)

    def end(self, outcome: _Outcome) -> None:
        entry = done(self._request, EXPORT, self._operator, time.time(), outcome.counts)
        self._audit.append(entry)


def run(args: argparse.Namespace) -> int:
    """Export what matches, and say how much that was."""
    folder = Path(args.to).absolute()
    asked = request(args, destination=str(folder))
    places = find_service(args)
    spool = require_spool(places)
    books, selection = _begin(places.socket, spool, asked)
    outcome = _Outcome()
    if selection.matched and not args.dry_run:
        try:
            _export(spool, selection.ids, folder, outcome, keep_damaged=args.damaged)
        except (OSError, SpoolError) as error:
            outcome.error = str(error)
            raise
        finally:
            _end(books, outcome)
    _tell(args, folder, selection.matched, outcome)
    if outcome.damaged and not args.damaged:
        return ExitCode.DATA
    found = selection.matched if args.dry_run else outcome.exported
    return ExitCode.OK if found else ExitCode.NO_MATCH


def _begin(socket: Path, spool: Path, asked: QueueRequest) -> tuple[_Books, _Selection]:
    """Enter the export in the books of whoever keeps them."""
    books: _Books = _ServiceBooks(socket)
    try:
        return books, books.begin(asked)
    except ServiceDown as down:
        print(f"mailshed: {down}", file=sys.stderr)
        print(f"mailshed: reading the spool at {spool} without it", file=sys.stderr)
    books = _OwnBooks(spool)
    try:
        return books, books.begin(asked)
    except AuditError as error:
        raise VerbFailed(f"nothing was exported: {error}", ExitCode.IO_ERROR) from error


def _end(books: _Books, outcome: _Outcome) -> None:
    """Enter the outcome; that it cannot be entered does not undo it."""
    try:
        books.end(outcome)
    except (VerbFailed, AuditError) as error:
        print(
            f"mailshed: the audit log has only that the export was asked for: {error}",
            file=sys.stderr,
        )


def _export(
    spool: Path, ids: list[QueueId], folder: Path, outcome: _Outcome, *, keep_damaged: bool
) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if taken := existing(folder, ids):
        raise FileExistsError(
            errno.EEXIST, "is there already, and nothing is overwritten", str(taken[0])
        )
    for queue_id in ids:
        extracted = extract(spool, queue_id, folder, keep_damaged=keep_damaged)
        if extracted is None:
            outcome.gone += 1
            continue
        if extracted.damage:
            outcome.damaged[queue_id] = extracted.damage
        outcome.exported += extracted.is_written
    sync_folder(folder)
    outcome.error = ""


def _tell(args: argparse.Namespace, folder: Path, matched: int, outcome: _Outcome) -> None:
    if args.json:
        print_json(
            {
                "schema": SCHEMA,
                "is_dry_run": args.dry_run,
                "to": str(folder),
                "matched": matched,
                "exported": outcome.exported,
                "gone": outcome.gone,
                "damaged": [
                    {"queue_id": queue_id, "damage": damage}
                    for queue_id, damage in outcome.damaged.items()
                ],
            }
        )
    elif args.dry_run:
        print(f"{count(matched, 'message')} would be exported")
    else:
        print("\n".join(_lines(folder, matched, outcome, are_kept=args.damaged)))


def _lines(folder: Path, matched: int, outcome: _Outcome, *, are_kept: bool) -> Iterable[str]:
    if not matched:
        yield "no message matches"
        return
    yield f"{count(outcome.exported, 'message')} exported to {folder}"
    if outcome.gone:
        yield f"{count(outcome.gone, 'message')} skipped: left the queue meanwhile"
    if outcome.damaged:
        kept = (
            "exported as far as they can be read" if are_kept else "skipped; --damaged takes them"
        )
        yield f"{count(len(outcome.damaged), 'message')} damaged, {kept}:"
        yield from (f"    {queue_id}: {damage}" for queue_id, damage in outcome.damaged.items())
