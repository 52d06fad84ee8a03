"""`python -m tests.fault.planted`: faults planted on purpose, each of which a named test must find.

A test that has never failed proves little. Here the tree is copied, one small patch after another
is applied to the copy, and the test that stands watch over that promise is run there: it has to
turn red, and it has to be green without the patch. A patch that no longer applies is an error, so
that the list keeps up with the code. `--list` prints it; names as arguments choose from it.

About ten minutes (`make test-planted`). Nothing outside the copy is changed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_COPIED = ("mailshed", "tests", "config", "docs", "pyproject.toml")
_TEST_SECONDS = 400.0
# pytest's exit status 1: tests were run and some failed. Anything else is no finding.
_TESTS_FAILED = 1

_KILL = "tests/fault/test_kill.py"
_ORDER = "tests/fault/test_reply_after_sync.py"
_SYNC_FAILS = "tests/fault/test_sync_fails.py"
_DISK_FULL = "tests/fault/test_disk_full.py"
_FLAPPING = "tests/fault/test_flapping.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """`old` stands exactly once in the file and becomes `new`."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault and the test that must find it."""

    name: str
    edits: tuple[Edit, ...]
    test: str


FAULTS = (
    Fault(
        name="250 before the commit",
        edits=(
            Edit(
                path="mailshed/spool/sqlite.py",
                old="        await job.done\n",
                new="        await asyncio.sleep(0)\n",
            ),
        ),
        test=_ORDER,
    ),
    Fault(
        name="synchronous=NORMAL: commits without a sync",
        edits=(
            Edit(
                path="mailshed/spool/schema.py",
                old='("synchronous", "FULL", 2)',
                new='("synchronous", "NORMAL", 1)',
            ),
        ),
        test=_ORDER,
    ),
    Fault(
        name="250 although the commit failed",
        edits=(
            Edit(
                path="mailshed/outcome.py",
                old="            answer = _NOT_KEPT.get(kept.reason, reply.INTERNAL)\n",
                new="            answer = reply.queued(message.envelope.queue_id)\n",
            ),
        ),
        test=_SYNC_FAILS,
    ),
    Fault(
        name="a failed sync is tried again without opening anew",
        edits=(
            Edit(
                path="mailshed/spool/writer.py",
                old="SpoolSick(self._sick)) for job in group], sick=self._sick)",
                new="SpoolError('')) for job in group], sick=setattr(self, '_sick', None))",
            ),
        ),
        test=_SYNC_FAILS,
    ),
    Fault(
        name="marked as delivered before it is sent",
        edits=(
            Edit(
                path="mailshed/drain/attempt.py",
                old="            result = await destination.backend.deliver(message)\n",
                new="            indexes = [each.index for each in record.recipients]\n"
                "            endings = dict.fromkeys(indexes, Ending.DELIVERED)\n"
                "            await self._spool.settle(Settlement(queue_id=record.queue_id,"
                " endings=endings, attempts=1, next_attempt_wall=0.0))\n"
                "            result = await destination.backend.deliver(message)\n",
            ),
            Edit(
                path="mailshed/drain/attempt.py",
                old="import Settlement, SpoolRecord, SpoolStore\n",
                new="import Settlement, SpoolRecord, SpoolStore\n"
                "from mailshed.terms import Ending\n",
            ),
        ),
        test=_KILL,
    ),
    Fault(
        name="a report to the null reverse-path",
        edits=(
            Edit(
                path="mailshed/drain/notify.py",
                old="bool(record.reverse_path) and record.is_trusted",
                new="record.is_trusted",
            ),
            Edit(
                path="mailshed/drain/report.py",
                old="    assert original.reverse_path, ",
                new="    assert True, ",
            ),
        ),
        test=_KILL,
    ),
    Fault(
        name="refused for good, and nobody is told",
        edits=(
            Edit(
                path="mailshed/spool/marks.py",
                old="            _add_report(changes, message_id, report, digest)\n",
                new="            del message_id, report, digest\n",
            ),
        ),
        test=_KILL,
    ),
    Fault(
        name="in doubt counts as not sent, and the client keeps its mail too",
        edits=(
            Edit(
                path="mailshed/outcome.py",
                old="                return Kept(Reason.IN_DOUBT, in_doubt=1, result=result)\n",
                new="                return Answered(reply.NO_ANSWER)\n",
            ),
        ),
        test=_FLAPPING,
    ),
    Fault(
        name="a client that leaves after our dot cancels the transaction",
        edits=(
            Edit(
                path="mailshed/listener/handler.py",
                old="        self._supervisor.spawn(\n"
                "            self._settle(session, envelope, content, answer),",
                new="        session.work = self._supervisor.spawn(\n"
                "            self._settle(session, envelope, content, answer),",
            ),
            Edit(
                path="mailshed/listener/handler.py",
                old="        self.open_sessions.discard(session)\n",
                new="        self.open_sessions.discard(session)\n"
                '        if hasattr(session, "work"):\n'
                "            session.work.cancel()\n",
            ),
        ),
        test="tests/protocol/test_message_work.py",
    ),
    Fault(
        name="draining goes on when marks cannot be written",
        edits=(
            Edit(
                path="mailshed/drain/marks.py",
                old="        return not self._failing and self._spool.unhealthy_reason() is None\n",
                new="        return True\n",
            ),
        ),
        test="tests/unit/drain/test_marks.py",
    ),
    Fault(
        name="a full disk is a permanent error",
        edits=(
            Edit(
                path="mailshed/mail/reply.py",
                old='SPOOL_FULL = make(452, "4.3.1',
                new='SPOOL_FULL = make(552, "5.3.1',
            ),
        ),
        test=_DISK_FULL,
    ),
    Fault(
        name="no room is kept for clinical mail",
        edits=(
            Edit(
                path="mailshed/spool/accounts.py",
                old="CLINICAL_RESERVE_PERCENT = 25\n",
                new="CLINICAL_RESERVE_PERCENT = 0\n",
            ),
        ),
        test=_DISK_FULL,
    ),
    Fault(
        name="unfinished large messages stay in the spool",
        edits=(
            Edit(
                path="mailshed/spool/jobs.py",
                old="    if forgotten.rowcount:\n",
                new="    if forgotten.rowcount < 0:\n",
            ),
        ),
        test="tests/fault/test_spool_kill.py",
    ),
    Fault(
        name="only the last piece of a content is stored",
        edits=(
            Edit(
                path="mailshed/spool/intake.py",
                old='        """All that is left."""\n        return b"".join(self._pieces)\n',
                new='        """All that is left."""\n        return b"".join(self._pieces[-1:])\n',
            ),
        ),
        test="tests/e2e/test_byte_fidelity.py",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How one run of a test ended."""

    status: int
    seconds: float
    first_failure: str


class PatchError(Exception):
    """A patch does not apply; the list is out of date."""


def apply(fault: Fault, tree: Path) -> dict[Path, str]:
    """Apply the patch; the files as they were."""
    before: dict[Path, str] = {}
    for edit in fault.edits:
        path = tree / edit.path
        text = path.read_text()
        before.setdefault(path, text)
        if text.count(edit.old) != 1:
            raise PatchError(
                f"{fault.name!r} no longer applies: {edit.path} has its text "
                f"{text.count(edit.old)} times; bring tests/fault/planted.py up to date"
            )
        path.write_text(text.replace(edit.old, edit.new))
    return before


def run(test: str, tree: Path) -> Finding:
    """Run one test file in the copy."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:randomly"]
    command += ["-p", "no:cacheprovider", f"--basetemp={tree.parent / 'work'}", test]
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding(status=-1, seconds=_TEST_SECONDS, first_failure="it did not end")
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    name = failures[0].split()[1].partition("::")[2] if failures else ""
    if done.returncode > _TESTS_FAILED:
        name = done.stdout[-500:] + done.stderr[-500:]
    return Finding(status=done.returncode, seconds=time.monotonic() - began, first_failure=name)


def check(faults: Sequence[Fault]) -> int:
    """Run all; 0 if every test is green without its faults and red with each of them."""
    with tempfile.TemporaryDirectory(prefix="mailshed-planted-") as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        for name in _COPIED:
            source = _ROOT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, tree / name)
        for fault in faults:  # before anything takes time
            for path, text in apply(fault, tree).items():
                path.write_text(text)
        missed = [_show("(none)", test, run(test, tree), wanted=0) for test in _tests(faults)]
        for fault in faults:
            before = apply(fault, tree)
            missed.append(_show(fault.name, fault.test, run(fault.test, tree), _TESTS_FAILED))
            for path, text in before.items():
                path.write_text(text)
    sys.stdout.write(f"{len(faults)} faults, {sum(missed)} not found\n")
    return 1 if any(missed) else 0


def _tests(faults: Sequence[Fault]) -> list[str]:
    return sorted({fault.test for fault in faults})


def _show(name: str, test: str, finding: Finding, wanted: int) -> bool:
    """Print one row; whether it is not as it should be."""
    is_missed = finding.status != wanted
    verdict = {0: "green", _TESTS_FAILED: "red"}.get(finding.status, "broken")
    mark = "  <-- should not be" if is_missed else ""
    where = finding.first_failure or test
    sys.stdout.write(f"| {name} | {verdict} | {finding.seconds:.0f} s | {where} |{mark}\n")
    sys.stdout.flush()
    return is_missed


def main() -> int:
    """Choose, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.planted", description=__doc__)
    parser.add_argument("--list", action="store_true", help="print the names and do nothing")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a part of a fault's name")
    arguments = parser.parse_args()
    chosen = [
        fault
        for fault in FAULTS
        if not arguments.names or any(part in fault.name for part in arguments.names)
    ]
    if arguments.list:
        sys.stdout.write("".join(f"{fault.name}: {fault.test}\n" for fault in chosen))
        return 0
    try:
        return check(chosen)
    except PatchError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
