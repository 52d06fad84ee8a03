"""The file of a scenario: what it says, and what is said about it."""

from pathlib import Path

import pytest

from mailshed.config.scenario import ScenarioFile, load_scenario
from mailshed.config.schema import Config
from mailshed.errors import ConfigError

ROOT = Path(__file__).parents[3]
SHIPPED = sorted((ROOT / "config/scenarios").glob("*.yaml"))
SMALL = """\
version: 1
name: small
duration: 1h
streams:
  - {name: staff, class: personal, per_hour: 100}
"""


def loaded(folder: Path, text: str) -> tuple[ScenarioFile, Config]:
    file = folder / "scenario.yaml"
    file.write_text(text)
    return load_scenario(file)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    return str(caught.value).replace(f"{folder}/", "")


def test_reads_what_it_says_and_fills_in_the_rest(tmp_path: Path) -> None:
    file, config = loaded(tmp_path, SMALL)
    assert (file.name, file.duration, file.limit, file.in_flight_max) == ("small", 3600, None, None)
    assert (file.backend.model, file.backend.servers) == ("fifo", 8)
    assert (file.streams[0].clients, file.streams[0].profile) == ("mta", "flat")
    assert len(config.classes) == 7


def test_a_change_of_the_server_says_from_when_to_when(tmp_path: Path) -> None:
    changed = SMALL + "backend:\n  changes:\n    - {from: 10m, to: 20m, speed: 0}\n"
    (change,) = loaded(tmp_path, changed)[0].backend.changes
    assert (change.start, change.end, change.speed, change.servers) == (600.0, 1200.0, 0.0, None)


def test_the_sites_own_configuration_may_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = (ROOT / "config/quickstart.yaml").read_text()
    (tmp_path / "site.yaml").write_text(site)
    monkeypatch.chdir(tmp_path)
    _, config = loaded(tmp_path, SMALL + "config: site.yaml\n")
    assert config.backends[0].name == "maildir"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "scenario.yaml: error: is empty"),
        ("- a\n", "expected a mapping with keys such as version, duration and streams"),
        (
            SMALL.replace("duration: 1h", "duration: 60"),
            "scenario.yaml:3:11: error: duration: expected a",
        ),
        (SMALL.replace("duration: 1h\n", ""), "duration: required, but missing"),
        (
            SMALL.replace("per_hour", "per_huor"),
            'streams[0].per_huor: unknown key, did you mean "per_hour"?',
        ),
        (
            SMALL.replace("personal", "personel"),
            'streams[0].class: no such class, did you mean "personal"?',
        ),
        (SMALL.replace("100}", "-1}"), "streams[0].per_hour: must be at least 0"),
        (
            SMALL + "  - {name: staff, class: bulk, per_hour: 1}\n",
            "streams[1].name: is the name of another stream, too",
        ),
        (SMALL.replace("100}", "100, clients: mua}"), 'expected "mta", "user_agent" or "device"'),
        (SMALL.replace("100}", "100, profile: [1, 2]}"), "has 2 factors, expected 24 or 168"),
        (
            SMALL.replace("100}", "100, factors: [{from: 2h, to: 1h, factor: 2}]}"),
            "streams[0].factors[0].to: must be later than from",
        ),
        (
            SMALL.replace("100}", "100, sizes: {smallest: 2MiB, largest: 1MiB}}"),
            "streams[0].sizes.largest: must be at least smallest",
        ),
        (SMALL + "backend: {model: fast}\n", 'expected "fifo", "sharing" or "contended"'),
        (SMALL + "backend: {full_share: 1.5}\n", "backend.full_share: must be at most 1"),
        (SMALL + "config: /nowhere/at-all.yaml\n", "there is no file /nowhere/at-all.yaml"),
        (SMALL.replace("version: 1", "version: 2"), "version"),
    ],
    ids=range(16),
)
def test_says_what_is_wrong_and_where(text: str, fault: str, tmp_path: Path) -> None:
    said = refused(tmp_path, text)
    assert fault in said
    assert said.startswith("scenario.yaml:")


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    wrong = SMALL.replace("personal", "nobody").replace(
        "100}", "100}\n  - {name: staff, class: x, per_hour: 1}"
    )
    assert refused(tmp_path, wrong).endswith("3 errors")


def test_a_fault_of_the_configuration_is_shown_in_that_file(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("version: 1\n")
    said = refused(tmp_path, SMALL + f"config: {site}\n")
    assert "site.yaml:" in said
    assert "required, but missing" in said


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_shipped_ones_are_right(path: Path) -> None:
    file, _ = load_scenario(path)
    assert "clinical" in {stream.traffic_class for stream in file.streams}
    assert "telework" in {stream.traffic_class for stream in file.streams}


def test_two_are_shipped() -> None:
    assert [path.stem for path in SHIPPED] == ["covid-week", "half-capacity"]
