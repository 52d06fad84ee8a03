"""A real Prometheus of our own on loopback: it scrapes the daemon under test and runs our rules.

Rules are the shipped ones. What takes minutes there would keep a test for as long, so `quickened`
shortens the times and nothing else: `for:` and windows of five minutes become 15 seconds.
Prometheus takes about five seconds to its first sample even at a scrape interval of one.

Source: Prometheus 2.42, "HTTP API".
"""

import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import yaml

from tests.support.debian import require
from tests.support.processes import DEADLINE, Process, free_port, wait_until

QUICK_SECONDS = 15
"""What minutes become in `quickened`."""

_HTTP_SECONDS = 10.0


def quickened(rules: str) -> str:
    """The text of a rule file in which alerts wait and look back for 15 seconds."""
    quick = re.sub(r"^( *for:).*$", rf"\1 {QUICK_SECONDS}s", rules, flags=re.MULTILINE)
    return quick.replace("[5m]", f"[{QUICK_SECONDS}s]")


@dataclass(kw_only=True)
class Prometheus:
    """One instance; a context manager that starts it and kills it at the end."""

    folder: Path
    target_port: int
    """Port of the daemon's /metrics."""
    rules: str
    """Text of the rule file."""
    port: int = field(default_factory=free_port)
    _process: Process = field(init=False)

    def __enter__(self) -> Self:
        program = require("prometheus", binary="prometheus")
        self.folder.mkdir(parents=True)
        (self.folder / "rules.yml").write_text(self.rules)
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {
                    "job_name": "mailshed",
                    "static_configs": [{"targets": [f"127.0.0.1:{self.target_port}"]}],
                }
            ],
        }
        file = self.folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(configuration))
        self._process = Process(
            [
                program,
                f"--config.file={file}",
                f"--storage.tsdb.path={self.folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--log.level=warn",
            ],
            self.folder / "prometheus.log",
            cwd=self.folder,
        )
        try:
            self._process.wait_for_port(self.port)
            self.wait_for('up{job="mailshed"} == 1')
        except BaseException:
            self._process.kill_session()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill_session()

    def _get(self, path: str, **query: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_HTTP_SECONDS)
        try:
            connection.request("GET", f"/api/v1/{path}?{urlencode(query)}")
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status == 503:
            return {}  # it is still starting
        assert response.status == 200, f"{path} {query}: {body[:400]!r}"
        return json.loads(body)["data"]

    def query(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        """What the expression is now: labels and value of each sample."""
        return [
            (sample["metric"], float(sample["value"][1]))
            for sample in self._get("query", query=expression).get("result", ())
        ]

    def wait_for(self, expression: str, deadline: float = DEADLINE) -> None:
        """Wait until the expression has a sample."""
        wait_until(lambda: self.query(expression), f"never true: {expression}", deadline)

    def is_firing(self, alert: str, **labels: str) -> bool:
        """Whether an alert of this name with these labels fires (`class_` stands for `class`)."""
        wanted = {key.rstrip("_"): value for key, value in labels.items()} | {"alertname": alert}
        return any(
            found["state"] == "firing" and wanted.items() <= found["labels"].items()
            for found in self._get("alerts").get("alerts", ())
        )

    @property
    def firing(self) -> set[str]:
        """Names of all alerts that fire."""
        return {
            found["labels"]["alertname"]
            for found in self._get("alerts").get("alerts", ())
            if found["state"] == "firing"
        }

    @property
    def rule_health(self) -> dict[str, str]:
        """Each rule and how it fares: `ok`, `unknown` before its first evaluation, or an error."""
        return {
            rule["name"]: rule.get("lastError") or rule["health"]
            for group in self._get("rules").get("groups", ())
            for rule in group["rules"]
        }
