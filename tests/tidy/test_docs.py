"""Prose that names a file, a setting, a metric or a command is held to what there is."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.main import build_parser
from mailshed.config.load import load
from mailshed.config.schema import Config
from mailshed.maillog import MailLog
from mailshed.metrics.catalog import FAMILIES
from mailshed.metrics.family import PREFIX, Kind
from mailshed.terms import Reason, SpoolState
from tests.tidy.project import ROOT, code_lines, code_spans, documents, make_targets, name, sources

OPERATING = ROOT / "docs/operating.md"
README = ROOT / "README.md"

# Made by the service when it runs, and so named in prose, but no settings.
RUNTIME_FILES = frozenset({"admin.sock", "spool.db", "surge.json"})
PLACES = ("mailshed", "tests", "config", "docs", "systemd", ".ci")

pages = pytest.mark.parametrize("page", documents(), ids=name)


@pages
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link names a file that is there."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pages
def test_files_that_are_named_exist(page: Path) -> None:
    """Code spans such as `mailshed/pipeline.py`, and bare names of modules."""
    modules = {path.name for path in sources("mailshed")}
    wrong = []
    for span in code_spans(page):
        if re.fullmatch(r"[\w.]+/[\w./-]*", span) and span.partition("/")[0] in PLACES:
            if not (ROOT / span).exists():
                wrong.append(span)
        elif re.fullmatch(r"[a-z_]+\.py", span) and span not in modules:
            wrong.append(span)
    assert wrong == []


@pages
def test_make_targets_that_are_named_exist(page: Path) -> None:
    """`make check` and its like."""
    commands = [line.split() for line in code_lines(page) if re.match(r"make( |$)", line)]
    named = {words[1] for words in commands if len(words) > 1}
    assert named - make_targets() == set()


@pages
def test_commands_that_are_named_exist(page: Path) -> None:
    """`mailshed queue list --json`: verb, verb below it and options are what the parser takes."""
    wrong = []
    for line in code_lines(page):
        match = re.match(r"(?:\S*/)?mailshed((?: +[^ |;&<>]+)+)", line)
        if match and not _is_understood(match[1].split()):
            wrong.append(line)
    assert wrong == []


def _is_understood(words: list[str]) -> bool:
    """Whether verbs and options are known; operands such as FILE are not judged."""
    parser = build_parser()
    while words and not words[0].startswith("-"):
        below = [action for action in parser._actions if action.dest == "==SUPPRESS=="]
        verbs = below[0].choices if below else None
        if not verbs:
            break
        assert isinstance(verbs, dict)
        if words[0] not in verbs:
            return False
        parser = verbs[words.pop(0)]
    known = {option for action in parser._actions for option in action.option_strings}
    return all(word.partition("=")[0] in known for word in words if word.startswith("-"))


@pages
def test_settings_that_are_named_exist(page: Path) -> None:
    """`spool.disk_reserve` is a path into the schema."""
    sections = set(Config.model_fields)
    dotted = [
        span
        for span in code_spans(page)
        if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", span)
        and span.partition(".")[0] in sections
        and span not in RUNTIME_FILES
    ]
    assert [path for path in dotted if not _is_setting(path.split("."))] == []


def _is_setting(path: list[str]) -> bool:
    model: type[BaseModel] = Config
    for key in path:
        field = model.model_fields.get(key)
        if field is None:
            return False
        inner = _models_in(field.annotation)
        if inner:
            model = inner[0]
    return True


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = getattr(annotation, "__args__", ())
    return [model for argument in arguments for model in _models_in(argument)]


@pages
def test_metrics_that_are_named_exist(page: Path) -> None:
    """With their prefix, and the suffixes that Prometheus adds to histograms.

    What has a colon in front is a recorded rule, which tests/tidy/test_alert_rules.py looks at.
    """
    known = set()
    for family in FAMILIES.values():
        known.add(family.full_name)
        if family.kind is Kind.HISTOGRAM:
            known |= {f"{family.full_name}_{suffix}" for suffix in ("bucket", "sum", "count")}
    text = page.read_text()
    named = set(re.findall(rf"(?<![\w:]){PREFIX}[a-z_]+\b", text))
    assert named - known == set()


@pages
def test_words_of_the_code_are_still_in_the_code(page: Path) -> None:
    """A code span with an underscore is a name that the code, its settings or its tools know."""
    text = "\n".join(path.read_text() for path in sources("mailshed"))
    text += (ROOT / "pyproject.toml").read_text() + (ROOT / "tests/lock/dev.txt").read_text()
    known = set(re.findall(r"\w+", text)) | {Path(each).stem for each in PLACES}
    unknown = {
        span
        for span in code_spans(page)
        if re.fullmatch(r"\w+", span)
        and "_" in span
        and not span.startswith(PREFIX)
        and span not in known
    }
    assert unknown == set()


def test_the_complete_file_in_the_readme_is_complete(tmp_path: Path) -> None:
    """It passes the check that the README tells people to run."""
    found = re.search(r"^```yaml\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    file = tmp_path / "mailshed.yaml"
    file.write_text(found[1])
    assert load(file).backends[0].host == "mail.hospital.example"


@pytest.mark.parametrize("file", sorted((ROOT / "config").glob("*.yaml")), ids=name)
def test_shipped_configurations_are_valid(file: Path) -> None:
    """Nobody starts from a file that is refused."""
    assert load(file).version == 1


def test_the_quickstart_listens_where_the_readme_says() -> None:
    """Ports and folders of the first two commands."""
    config = load(ROOT / "config/quickstart.yaml")
    text = README.read_text()
    assert str(config.listeners[0].bind) == "127.0.0.1:2525"
    assert str(config.metrics.bind) == "127.0.0.1:9825"
    assert {"127.0.0.1:2525", "127.0.0.1:9825"} <= set(re.findall(r"127\.0\.0\.1:\d+", text))
    assert config.backends[0].maildir == Path("var/maildir")


def _explained() -> set[str]:
    return set(code_spans(OPERATING))


def test_every_event_of_the_log_is_explained() -> None:
    """Whoever reads a line at night finds it in the guide."""
    events = {method for method in dir(MailLog) if not method.startswith("_")}
    assert events - _explained() == set()


def test_every_reason_and_state_is_explained() -> None:
    """They are fields of the log and labels of the metrics."""
    words = {each.value for each in Reason} | {each.value for each in SpoolState}
    assert words - _explained() == set()


def test_every_exit_code_is_explained() -> None:
    """Scripts branch on them."""
    paragraph = OPERATING.read_text().partition("## Exit codes")[2]
    assert {int(number) for number in re.findall(r"\b\d+\b", paragraph)} == {
        int(code) for code in ExitCode
    }


def test_decisions_are_listed() -> None:
    """Every record is in the list, with the number of its file."""
    folder = ROOT / "docs/decisions"
    records = {path.name for path in folder.glob("[0-9]*.md")}
    listed = set(re.findall(r"\]\(([^)]+)\)", (folder / "README.md").read_text()))
    assert listed == records
    numbers = sorted(int(record[:4]) for record in records)
    assert numbers == list(range(1, len(numbers) + 1))
