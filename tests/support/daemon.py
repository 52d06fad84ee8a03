"""The daemon under test, from outside: a file, a process, its ports and its command line.

Nothing here imports mailshed. `Daemon` writes a YAML file from the defaults below, merged with what
the test overrides, starts `python -m mailshed serve --config FILE`, and is ready when /readyz says
200. Metrics are read as Prometheus reads them, with the parser of prometheus-client.
"""

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import DEADLINE, Process, free_port, wait_until

_HTTP_SECONDS = 10.0
_ROOT = Path(__file__).parents[2]

HOSTNAME = "mailshed.hospital.example"


@dataclass(frozen=True, slots=True)
class Scrape:
    """One reading of /metrics."""

    samples: tuple[tuple[str, Mapping[str, str], float], ...]

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels; 0 if there is none.

        `name` is without the prefix: `deliveries_total`, not `mailshed_deliveries_total`.
        """
        return sum(
            value
            for sample, found, value in self.samples
            if sample == f"mailshed_{name}"
            and all(found.get(key) == wanted for key, wanted in labels.items())
        )

    def has(self, name: str) -> bool:
        """Whether there is any sample of this name (without the prefix)."""
        return any(sample == f"mailshed_{name}" for sample, _, _ in self.samples)


@dataclass(kw_only=True)
class Daemon:
    """One instance; a context manager that starts it and kills what is left of it at the end."""

    folder: Path
    backend_port: int
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Merged into the configuration, section by section; lists replace lists."""
    wrapper: Sequence[str] = ()
    """Words in front of the command, such as those of strace."""
    program: tuple[str, ...] = ("mailshed",)
    """The module to run, with words that come before `serve`."""
    port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    process: Process = field(init=False)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_configuration()
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill_session()

    @property
    def configuration(self) -> dict[str, Any]:
        """The configuration as a tree, overrides included."""
        tree: dict[str, Any] = {
            "version": 1,
            "hostname": HOSTNAME,
            "domains": ["hospital.example"],
            "listeners": [{"name": "smtp", "bind": f"127.0.0.1:{self.port}"}],
            "backends": [{"name": "postfix", "host": "127.0.0.1", "port": self.backend_port}],
            "spool": {
                "path": str(self.folder / "spool"),
                "disk_reserve": "1MiB",
                "retry_min": "1s",
                "retry_max": "2s",
                "reports_per_minute": 1000,  # a story's mail has few senders
            },
            "metrics": {"bind": f"127.0.0.1:{self.metrics_port}"},
            "classification": {
                # The shipped rules, which come after these, know bulk mail by its List-Id.
                "rules": [_sender_rule(name) for name in ("clinical", "personal", "telework")],
                "default": "personal",
            },
        }
        return _merged(tree, self.overrides)

    @property
    def configuration_file(self) -> Path:
        """Where the YAML file is."""
        return self.folder / "mailshed.yaml"

    def write_configuration(self) -> None:
        """Write the YAML file; a running daemon sees it at SIGHUP or at its next start."""
        self.configuration_file.write_text(yaml.safe_dump(self.configuration, sort_keys=False))

    def launch(self) -> Process:
        """Start the process without waiting for anything."""
        self.process = Process(
            [
                *self.wrapper,
                *(sys.executable, "-m", *self.program, "serve"),
                *("--config", self.configuration_file),
            ],
            self.folder / "mailshed.log",
            cwd=_ROOT,
        )
        return self.process

    def start(self) -> None:
        """Start it, the first time or again; returns when /readyz says 200."""
        process = self.launch()

        def is_ready() -> bool:
            if not process.is_running:
                raise AssertionError(f"mailshed ended with {process.wait()}:\n{self.log_tail}")
            try:
                return self.get("/readyz")[0] == 200
            except (OSError, http.client.HTTPException):
                return False

        wait_until(is_ready, lambda: f"/readyz does not say 200; log:\n{self.log_tail}")

    def kill(self) -> None:
        """Kill -9, as the out-of-memory killer would."""
        self.process.kill()

    def terminate(self, deadline: float = DEADLINE) -> int:
        """SIGTERM; the exit status."""
        return self.process.terminate(deadline)

    def reload(self) -> None:
        """SIGHUP: read the configuration again."""
        self.process.signal(signal.SIGHUP)

    @property
    def pid(self) -> int:
        """Process id of the daemon."""
        return self.process.pid

    @property
    def log_text(self) -> str:
        """What it has logged since its first start."""
        return self.process.log_text

    def wait_logged(self, text: str) -> None:
        """Wait until the log has `text`: a line is written a moment after what it tells of."""
        wait_until(
            lambda: text in self.log_text, lambda: f"the log lacks {text!r}:\n{self.log_tail}"
        )

    @property
    def log_tail(self) -> str:
        """The end of the log, for the text of a failure."""
        return self.log_text[-6000:]

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET on the operations port."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.metrics_port, timeout=_HTTP_SECONDS
        )
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def metrics(self) -> Scrape:
        """Scrape /metrics."""
        status, text = self.get("/metrics")
        assert status == 200, f"/metrics says {status}: {text}"
        return Scrape(
            tuple(
                (sample.name, sample.labels, sample.value)
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            )
        )

    def command(self, *words: str) -> str:
        """Standard output of `mailshed WORDS... --config FILE`, which must succeed."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "mailshed"),
                *words,
                *("--config", str(self.configuration_file)),
            ],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, f"mailshed {' '.join(words)}: {done.stderr}"
        return done.stdout

    def command_json(self, *words: str) -> Any:
        """The same, parsed."""
        return json.loads(self.command(*words, "--json"))

    def wait_spool_empty(self, deadline: float = DEADLINE) -> None:
        """Wait until /metrics shows nothing queued and nothing in flight."""

        def is_empty() -> bool:
            scrape = self.metrics()
            assert scrape.has("queue_messages"), "queue_messages is not exported"
            return not (scrape.total("queue_messages") or scrape.total("backend_in_flight"))

        wait_until(
            is_empty,
            lambda: f"{self.metrics().total('queue_messages'):g} still queued:\n{self.log_tail}",
            deadline,
        )


def _sender_rule(traffic_class: str) -> dict[str, Any]:
    return {
        "name": f"{traffic_class}-senders",
        "class": traffic_class,
        "sender_domains": [f"{traffic_class}.example"],
    }


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, mappings merged at every depth."""
    result = dict(base)
    for key, value in changes.items():
        before = result.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            result[key] = _merged(before, value)
        else:
            result[key] = value
    return result
