"""Messages go in at one end of mailshed, and are looked for at the other.

All that are to pass straight through come first. Then the backend is taken away, by a TCP proxy
before it, all that are to wait go in, and the backend comes back.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.interop.backends import Backend
from tests.interop.cells import Cell, Delivered, Failed, InClear, Outcome, Refused, Waits
from tests.interop.contents import AlteredError, check_arrived
from tests.interop.exemptions import exemption_of
from tests.interop.job import new_job
from tests.interop.proof import differences, is_encrypted, queue_id
from tests.interop.trial import Trial
from tests.interop.ways import Mode, Way
from tests.support.daemon import Daemon
from tests.support.flapper import Flapper
from tests.support.processes import wait_until

_MARK = re.compile(rb"End of ([a-z0-9-]+)\.\n*\Z")
_TAIL_OCTETS = 200
_ARRIVAL_SECONDS = 120.0


@dataclass(kw_only=True)
class Exchange:
    """mailshed between a client's end and a backend."""

    daemon: Daemon
    backend: Backend
    flapper: Flapper
    """What mailshed takes for the backend."""
    ca_file: Path
    folder: Path
    """For the files of a job; those of the last one stay."""
    _arrived: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list), init=False)
    """What the backend has, by the name of the message."""

    def run(self, trials: Sequence[Trial]) -> dict[Cell, Outcome]:
        """Send everything and say what came of it."""
        refused: dict[Cell, Refused] = {}
        for mode in Mode:
            chosen = [trial for trial in trials if trial.cell.mode is mode]
            if mode is Mode.SPOOL:
                self.flapper.down()
            for trial in chosen:
                status, said = self._send(trial)
                if status:
                    refused[trial.cell] = Refused(f"exit status {status}: {said}")
            self.flapper.up()
            self._settle([trial for trial in chosen if trial.cell not in refused])
        self._take()
        outcomes = {trial.cell: self._judge(trial, refused.get(trial.cell)) for trial in trials}
        strangers = self._arrived.keys() - {trial.cell.name for trial in trials}
        assert not strangers, f"nobody sent {sorted(strangers)}"
        self._arrived.clear()
        return outcomes

    def _send(self, trial: Trial) -> tuple[int, str]:
        job = new_job(
            trial.message, self.folder, port=trial.port, way=trial.client_way, ca_file=self.ca_file
        )
        return trial.client.send(job)

    def _settle(self, taken: Iterable[Trial]) -> None:
        """Wait until what mailshed has taken is where it is meant to end."""
        goes, stays = set(), set()
        for trial in taken:
            exemption = exemption_of(trial.cell)
            if exemption is not None and exemption.ends is Waits:
                stays.add(trial.backend_way)
            else:
                goes.add(trial.cell.name)

        def is_settled() -> bool:
            self._take()
            return goes <= self._arrived.keys() and all(
                self._words_of("backend_away", way) for way in stays
            )

        def what_lacks() -> str:
            return f"{goes - self._arrived.keys()} did not arrive:\n{self.daemon.log_tail}"

        wait_until(is_settled, what_lacks, _ARRIVAL_SECONDS)
        if not stays:
            self.daemon.wait_spool_empty()

    def _take(self) -> None:
        for content in self.backend.take():
            mark = _MARK.search(content[-_TAIL_OCTETS:])
            assert mark is not None, f"a message of nobody: {content[-_TAIL_OCTETS:]!r}"
            self._arrived[mark[1].decode()].append(content)

    def _judge(self, trial: Trial, refused: Refused | None) -> Outcome:
        match self._arrived[trial.cell.name], refused:
            case [], None:
                return self._waiting(trial)
            case [], Refused():
                return refused
            case [content], None:
                return self._delivered(trial, content)
            case copies, _:
                return Failed(f"it arrived {len(copies)} times; refused: {refused}")

    def _delivered(self, trial: Trial, content: bytes) -> Outcome:
        try:
            trace = check_arrived(trial.message, content, is_composed=trial.client.is_composer)
        except AlteredError as error:
            return Failed(str(error))
        identity = queue_id(trace)
        events = {line["event"] for line in self._log() if line["id"] == identity}
        if wrong := differences(trial, trace, self.backend, events):
            return Failed("\n".join(wrong))
        if trial.backend_way is Way.OPPORTUNISTIC and not is_encrypted(trace, self.backend):
            said = self._words_of("backend_in_clear", trial.backend_way)
            return InClear(said) if said else Failed("it went in clear, and the log is silent")
        return Delivered()

    def _waiting(self, trial: Trial) -> Outcome:
        """It was taken and has not arrived; it has to be in the spool, and the log to say why."""
        found = self.daemon.command_json("queue", "list", "--rcpt", trial.message.recipient)
        said = self._words_of("backend_away", trial.backend_way)
        if len(found["messages"]) == 1 and said:
            return Waits(said)
        return Failed(f"it was taken and is lost: {found}")

    def _words_of(self, event: str, way: Way) -> str:
        """The detail of the first event of this name about a backend; empty if there is none."""
        return next(
            (
                line["detail"]
                for line in self._log()
                if line["event"] == event and line["backend"] == way.lower()
            ),
            "",
        )

    def _log(self) -> list[Mapping[str, Any]]:
        lines = self.daemon.log_text.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]
