import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.config.load import load
from mailshed.config.marks import read_text
from mailshed.config.render import render, render_json
from mailshed.config.schema import Config

EXAMPLES = Path(__file__).parents[3] / "config"

names = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
MISREAD = "no on 22:30 0750 1e3 0o17 ~ null y = 1_0 - 2026-01-01"
misread = st.sampled_from(MISREAD.split())
words = st.text("abcxyz019-_", min_size=1, max_size=8) | misread
letters = st.characters(min_codepoint=32, max_codepoint=0x2FF).filter(str.isprintable)
paths = (st.text(letters, min_size=1, max_size=9) | misread).filter(
    lambda text: not text.startswith("~") and "$" not in text
)
durations = st.tuples(st.integers(1, 999), st.sampled_from(["ms", "s", "m", "h"])).map(
    lambda pair: f"{pair[0]}{pair[1]}"
)
sizes = st.integers(2**20, 2**50).map(lambda octets: f"{octets}B")
windows = st.integers(1, 1440).map(lambda minutes: f"{minutes}m")
rules = st.fixed_dictionaries(
    {
        "name": names,
        "class": st.just("bulk"),
        "headers": st.dictionaries(
            st.sampled_from(["List-Id", "=", "no", "X-1"]),
            st.none() | st.lists(words, min_size=1, max_size=3),
            min_size=1,
        ),
    },
    optional={
        "trusted": st.booleans(),
        "priority_min": st.integers(-9, 0),
        "size_max": sizes,
        "senders": st.lists(
            st.sampled_from(["a@b.example", "@.no", "*=*", "file:/etc/on"]), min_size=1
        ),
        "users": st.lists(misread.map(lambda text: text.replace(" ", "")), min_size=1),
        "sender_rate": st.fixed_dictionaries({"recipients": st.integers(1, 9), "within": windows}),
    },
)
configurations = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "hostname": st.just("relay.example.org"),
        "listeners": st.just([{"name": "a", "bind": "[::1]:25"}]),
        "backends": st.tuples(st.fixed_dictionaries({"name": names, "maildir": paths})),
        "spool": st.fixed_dictionaries({"path": paths, "octets_max": sizes}),
        "metrics": st.just({"bind": "127.0.0.1:9825"}),
        "limits": st.fixed_dictionaries({"data_timeout": durations, "content_disk_max": sizes}),
        "log": st.fixed_dictionaries({"format": st.sampled_from(["text", "json"])}),
        "classification": st.fixed_dictionaries(
            {
                "networks": st.dictionaries(
                    names, st.just(["10.0.0.0/8", "2001:db8::/32", "file:/etc/lab.txt"])
                ),
                "rules": st.lists(rules, max_size=2),
            }
        ),
    }
).map(Config.model_validate)


def reload(text: str) -> Config:
    document = read_text(text)
    assert document.faults == ()
    return Config.model_validate(document.value)


@settings(deadline=None)
@given(configurations, st.booleans())
def test_what_is_rendered_loads_to_an_equal_configuration(
    config: Config, with_defaults: bool
) -> None:
    assert reload(render(config, with_defaults=with_defaults)) == config


@pytest.mark.parametrize("name", ["mailshed.yaml", "quickstart.yaml"])
@pytest.mark.parametrize("with_defaults", [False, True])
def test_the_examples_survive_the_round_trip(
    name: str, with_defaults: bool, tmp_path: Path
) -> None:
    config = load(EXAMPLES / name)
    (tmp_path / "again.yaml").write_text(render(config, with_defaults=with_defaults))

    assert load(tmp_path / "again.yaml") == config


def test_shows_only_what_differs_from_the_defaults() -> None:
    text = render(load(EXAMPLES / "mailshed.yaml"))

    assert "spool:\n  path: /var/lib/mailshed\nmetrics:" in text
    assert "limits" not in text


def test_shows_everything_on_request_with_units() -> None:
    text = render(load(EXAMPLES / "quickstart.yaml"), with_defaults=True)

    assert "  octets_max: 10GiB\n" in text
    assert "  retry_max: 15m\n" in text
    assert "  level: info\n" in text


def test_json_has_seconds_and_octets() -> None:
    document = json.loads(render_json(load(EXAMPLES / "quickstart.yaml"), with_defaults=True))

    assert document["schema"] == "mailshed.config/1"
    assert document["config"]["spool"]["octets_max"] == 10 * 1024**3
    assert document["config"]["spool"]["retry_min"] == 30.0
    assert document["config"]["classification"]["rules"][0]["class"] == "clinical"
