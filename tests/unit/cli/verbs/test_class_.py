"""`mailshed class`: the list of classes, and what is sent for an exception from their rules."""

import json
from typing import Any

import pytest

from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.main import main
from tests.unit.cli.conftest import ScriptedService
from tests.unit.cli.test_overriding import override

WHY = ("--reason", "newsletter RH")


def run(service: ScriptedService, *words: str) -> int:
    return main(["class", *words, "--config", str(service.config)])


def row(name: str, rank: int, **changes: Any) -> dict[str, Any]:
    made = {"name": name, "rank": rank, "queued_messages": 0, "in_flight": 0, "in_flight_limit": 20}
    return {**made, "is_configured": True, "kept_back": "", **changes}


def made(**changes: Any) -> dict[str, Any]:
    answer = {"override": override(), "replaced": None, "is_observing": False, "is_noted": True}
    return {**answer, **changes}


STATUS = {
    "is_observing": False,
    "classes": [
        row("clinical", 0),
        row("personal", 1, in_flight=3, kept_back="diverted"),
        row("telework", 4, kept_back="override"),
        row("bulk", 5, queued_messages=9412, kept_back="override", in_flight_limit=0),
        row("social", 5, is_configured=False),
    ],
    "overrides": [override(), override(id=8, kind="limit", value=2)],
}


class TestList:
    def test_each_class_has_its_state_and_its_overrides(
        self, service: ScriptedService, capsys: pytest.CaptureFixture[str]
    ) -> None:
        service.answer("/v1/status", STATUS)

        assert run(service, "list") == ExitCode.OK
        lines = capsys.readouterr().out.splitlines()
        assert lines[:5] == [
            "CLASS     RANK  STATE     QUEUED  IN FLIGHT  STARTS BELOW",
            "clinical     0  normal         0          0            20",
            "personal     1  diverted       0          3            20",
            "telework     4  shed           0          0            20",
            "bulk         5  held       9,412          0             0",
        ]
        assert lines[5].startswith("    override 7: hold bulk until ")
        assert lines[6] == "        dupont: newsletter RH"
        assert lines[7].startswith("    override 8: limit bulk 2 until ")
        assert lines[9] == "social       5  lost           0          0            20"
        assert len(lines) == 10

    @pytest.mark.parametrize(
        ("kind", "state"), [("hold", "held"), ("limit", "limited"), ("release", "released")]
    )
    def test_an_override_is_the_state(
        self,
        service: ScriptedService,
        capsys: pytest.CaptureFixture[str],
        kind: str,
        state: str,
    ) -> None:
        service.answer("/v1/status", {**STATUS, "overrides": [override(kind=kind, value=1)]})

        run(service, "list", "--json")
        document = json.loads(capsys.readouterr().out)
        assert document["schema"] == "mailshed.classes/1"
        (bulk,) = [each for each in document["classes"] if each["name"] == "bulk"]
        assert bulk["state"] == state
        assert bulk["overrides"] == [override(kind=kind, value=1)]

    def test_while_observing_the_list_says_so(
        self, service: ScriptedService, capsys: pytest.CaptureFixture[str]
    ) -> None:
        service.answer("/v1/status", {**STATUS, "is_observing": True})

        run(service, "list")
        assert "the service observes" in capsys.readouterr().out

    def test_an_older_service_has_no_overrides(
        self, service: ScriptedService, capsys: pytest.CaptureFixture[str]
    ) -> None:
        service.answer("/v1/status", {"classes": [{"name": "bulk", "rank": 5}]})

        assert run(service, "list") == ExitCode.OK
        assert "bulk      5  normal " in capsys.readouterr().out


class TestActing:
    @pytest.mark.parametrize(
        ("words", "sent"),
        [
            (("hold", "bulk"), {"kind": "hold", "value": 0, "seconds": 7200.0}),
            (("hold", "bulk", "--for", "90m"), {"kind": "hold", "value": 0, "seconds": 5400.0}),
            (
                ("limit", "bulk", "--slots", "2", "--for", "7d"),
                {"kind": "limit", "value": 2, "seconds": 604800.0},
            ),
            (("release", "bulk", "--for", "1s"), {"kind": "release", "value": 0, "seconds": 1.0}),
        ],
    )
    def test_what_was_typed_is_asked_for(
        self,
        service: ScriptedService,
        capsys: pytest.CaptureFixture[str],
        words: tuple[str, ...],
        sent: dict[str, Any],
    ) -> None:
        service.answer("/v1/overrides", made())

        assert run(service, *words, *WHY) == ExitCode.OK
        document = {**sent, "class": "bulk", "reason": "newsletter RH"}
        assert service.posted == [("/v1/overrides", document)]
        out, err = capsys.readouterr()
        first, last = out.splitlines()
        assert first.startswith(
            "override 7: mail of class bulk is accepted and stays in the spool, until "
        )
        assert last == "to end it before: mailshed override cancel 7 --reason TEXT"
        assert err == ""

    def test_what_it_replaces_is_said(
        self, service: ScriptedService, capsys: pytest.CaptureFixture[str]
    ) -> None:
        service.answer("/v1/overrides", made(replaced=3))

        run(service, "hold", "bulk", *WHY)
        assert "it replaces override 3\n" in capsys.readouterr().out

    def test_while_observing_it_is_said_that_nothing_comes_of_it(
        self, service: ScriptedService, capsys: pytest.CaptureFixture[str]
    ) -> None:
        service.answer("/v1/overrides", made(is_observing=True))

        assert run(service, "hold", "bulk", *WHY) == ExitCode.OK
        assert "mode observe" in capsys.readouterr().err

    def test_an_outcome_that_was_not_noted_is_said(
        self, service: ScriptedService, capsys: pytest.CaptureFixture[str]
    ) -> None:
        service.answer("/v1/overrides", made(is_noted=False))

        run(service, "hold", "bulk", *WHY)
        assert "audit log" in capsys.readouterr().err

    def test_as_json_it_is_the_services_word(
        self, service: ScriptedService, capsys: pytest.CaptureFixture[str]
    ) -> None:
        service.answer("/v1/overrides", made())

        run(service, "hold", "bulk", *WHY, "--json")
        assert json.loads(capsys.readouterr().out) == made()

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (("hold", "bulk"), "--reason"),
            (("hold", "bulk", "--reason", " "), "--reason: say why"),
            (("hold", "bulk", "--for", "2", *WHY), "expected a duration with its unit"),
            (("hold", "bulk", "--for", "8d", *WHY), "--for: expected 1s to 7d"),
            (("hold", *WHY), "CLASS"),
            (("limit", "bulk", *WHY), "--slots"),
            (("limit", "bulk", "--slots", "0", *WHY), "--slots: expected 1 to"),
            (("limit", "bulk", "--slots", "two", *WHY), "--slots"),
            (("freeze", "bulk", *WHY), "freeze"),
        ],
    )
    def test_nonsense_is_refused_before_anybody_is_asked(
        self,
        offline: ScriptedService,
        capsys: pytest.CaptureFixture[str],
        words: tuple[str, ...],
        told: str,
    ) -> None:
        assert run(offline, *words) == ExitCode.USAGE
        assert told in capsys.readouterr().err

    def test_without_the_service_there_is_nobody_to_ask(
        self, offline: ScriptedService, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(offline, "hold", "bulk", *WHY) == ExitCode.UNAVAILABLE
        assert "systemctl start mailshed" in capsys.readouterr().err
