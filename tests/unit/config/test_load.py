import tempfile
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.config.admission import EVERYWHERE
from mailshed.config.load import (
    classification_policy,
    load,
    relay_policy,
    session_limits,
    verification_policy,
)
from mailshed.config.schema import Config
from mailshed.errors import ConfigError
from mailshed.mail.networks import NetworkSet

DATA = Path(__file__).parent / "data"
EXAMPLES = Path(__file__).parents[3] / "config"

MINIMAL = """\
version: 1
hostname: relay.example.org
domains: [Example.ORG, .example.org]
listeners:
  - {name: internal, bind: "127.0.0.1:0"}
backends:
  - {name: mail, host: mail.example.org}
spool: {path: /var/lib/mailshed}
metrics: {bind: "127.0.0.1:0"}
"""


def load_text(folder: Path, text: str) -> Config:
    file = folder / "mailshed.yaml"
    file.write_text(text)
    return load(file)


@pytest.mark.parametrize("name", sorted(file.stem for file in DATA.glob("*.yaml")))
def test_reports_exactly_what_is_wrong(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file in data/ has one kind of fault; the text beside it is the whole report."""
    monkeypatch.chdir(DATA)

    with pytest.raises(ConfigError) as caught:
        load(Path(f"{name}.yaml"))

    assert str(caught.value) + "\n" == (DATA / f"{name}.txt").read_text()


def test_every_expected_report_has_its_file() -> None:
    assert {file.stem for file in DATA.glob("*.txt")} == {file.stem for file in DATA.glob("*.yaml")}


@pytest.mark.parametrize("name", ["mailshed.yaml", "quickstart.yaml"])
def test_the_examples_have_no_fault(name: str) -> None:
    assert load(EXAMPLES / name).version == 1


def test_the_production_example_says_every_key_and_every_default() -> None:
    """What it does not change on purpose it repeats as shipped, and it leaves nothing out."""
    config = load(EXAMPLES / "mailshed.yaml")

    backend, listener, traffic_class = config.backends[0], config.listeners[0], config.classes[0]
    sections = (
        config,
        config.limits,
        config.quotas,
        config.spool,
        config.log,
        listener,
        traffic_class,
    )
    for section in sections:
        assert section.model_fields_set == set(type(section).model_fields)
    # What is for some servers only is there as a comment.
    optional = {"maildir", "socket", "tls_verify", "tls_name", "ca_file", "credentials_file"}
    assert backend.model_fields_set == set(type(backend).model_fields) - optional
    verification = config.verification
    assert verification.model_fields_set == set(type(verification).model_fields) - {
        "recipients_file"
    }
    assert config.limits == type(config.limits)()
    assert verification == type(verification)()
    assert config.quotas == type(config.quotas)()
    assert config.classes == Config.model_fields["classes"].get_default(call_default_factory=True)


def test_the_quickstart_needs_no_privileges_and_reaches_every_class() -> None:
    config = load(EXAMPLES / "quickstart.yaml")

    assert all(item.bind.address.is_loopback and item.bind.port > 1023 for item in config.listeners)
    assert not any(
        path.is_absolute()
        for path in (config.spool.path, config.admin_socket, config.backends[0].maildir)
        if path is not None
    )
    reachable = {rule.traffic_class for rule in config.classification.rules}
    assert reachable | {config.classification.default} == {item.name for item in config.classes}


def test_port_0_may_be_bound_more_than_once(tmp_path: Path) -> None:
    assert load_text(tmp_path, MINIMAL).listeners[0].bind.port == 0


def test_defaults_need_not_be_written(tmp_path: Path) -> None:
    config = load_text(tmp_path, MINIMAL)

    assert config.admin_socket == Path("/var/lib/mailshed/admin.sock")
    assert [item.name for item in config.classes][:2] == ["clinical", "continuity"]
    assert config.spool.retry_min == 30.0


def test_missing_file_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"missing: error: cannot be read: No such file.*\n1 error"
    ):
        load(tmp_path / "missing")


@settings(deadline=None)
@given(st.data())
def test_never_fails_but_with_a_report(data: st.DataObject) -> None:
    """Invariant: any damage to a valid file gives a Config or a ConfigError, nothing else."""
    text = (EXAMPLES / "quickstart.yaml").read_text()
    position = data.draw(st.integers(0, len(text)))
    removed = data.draw(st.integers(0, 12))
    inserted = data.draw(st.text("ab:-[]{}#&*!|>'\"\n\t 0~", max_size=6))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "m.yaml")
        file.write_text(text[:position] + inserted + text[position + removed :])
        try:
            assert load(file).version == 1
        except ConfigError as error:
            assert str(error).endswith((" error", " errors"))  # noqa: PT017


def test_what_the_file_names_is_read_with_it(tmp_path: Path) -> None:
    """Lists and a policy; what is wrong in them is told file by file."""
    networks, policy = tmp_path / "lab.txt", tmp_path / "policy.yaml"
    text = (
        MINIMAL
        + f"""\
classification:
  networks: {{lab: ["file:{networks}"]}}
  policy: {policy}
  rules:
    - {{name: lab, class: clinical, client_networks: [lab]}}
"""
    )
    networks.write_text("10.20.8.0/24\n")
    policy.write_text(
        "version: 1\nrules:\n  - {name: lists, class: bulk, headers: {List-Id: null}}\n"
    )
    config = load_text(tmp_path, text)
    lab, lists = classification_policy(config).rules
    assert (lab.client_networks, lab.origin) == ((ip_network("10.20.8.0/24"),), "mailshed.yaml:14")
    assert (lists.headers, lists.origin) == ((("list-id", ()),), "policy.yaml:3")

    networks.write_text("# the laboratory\n10.20.8.1/24\n\nnonsense\n")
    policy.write_text(
        "version: 1\nrules:\n  - {name: lists, class: bukl, headers: {List-Id: null}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text)
    assert [line for line in str(caught.value).splitlines() if "error" in line] == [
        f'{policy}:3:26: error: rules[0].class: unknown class "bukl", did you mean "bulk"?',
        f'{networks}:2:1: error: has bits set beyond its prefix, did you mean "10.20.8.0/24"?',
        f"{networks}:4:1: error: expected a network such as 10.0.0.0/8",
        "3 errors",
    ]


def test_relay_policy_holds_lower_case_domains_and_trusted_networks(tmp_path: Path) -> None:
    policy = relay_policy(load_text(tmp_path, MINIMAL))

    assert "example.org" in policy.domains
    assert "ward.example.org" in policy.domains
    assert "example.com" not in policy.domains
    assert ip_address("127.0.0.1") in policy.trusted_networks


def test_session_limits_are_the_limits_of_the_file(tmp_path: Path) -> None:
    text = (
        MINIMAL
        + "limits: {sessions_max: 7, command_timeout: 1m}\nnormalize_networks: [10.1.0.0/16]\n"
    )
    limits = session_limits(load_text(tmp_path, text))

    assert limits.sessions_max == 7
    assert limits.command_timeout == 60.0
    assert limits.normalize_networks == NetworkSet([ip_network("10.1.0.0/16")])
    observing = session_limits(load_text(tmp_path, text + "mode: observe\n"))
    assert observing.normalize_networks == EVERYWHERE
    assert (limits.line_octets_max, observing.line_octets_max) == (1024**2, 0)
    assert (limits.sessions_per_address, limits.line_timeout) == (50, 60.0)
    assert (limits.stress_timeout, limits.stress_errors_max) == (10.0, 3)
    assert limits.message_size_max == 50 * 1024**2


def test_recipients_are_verified_with_the_backend_unless_told_otherwise(tmp_path: Path) -> None:
    rules = """
classification:
  rules: [{name: ward, class: clinical, client_networks: [10.1.0.0/16]}]
"""
    policy = verification_policy(load_text(tmp_path, MINIMAL + rules))

    assert policy.is_calling
    assert policy.recipients is None
    assert policy.sender == b""
    assert "example.org" in policy.domains
    assert policy.clinical_networks == NetworkSet([ip_network("10.1.0.0/16")])
    none = verification_policy(load_text(tmp_path, MINIMAL + "verification: {mode: none}\n"))
    assert not none.is_calling
    assert none.recipients is None


def test_the_list_of_recipients_is_read_with_the_file_and_its_faults_are_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = MINIMAL + "verification: {mode: file, recipients_file: people}\n"
    people = tmp_path / "people"
    people.write_text("alice@example.org\n")
    config = load_text(tmp_path, text)
    policy = verification_policy(config)
    assert policy.recipients is not None
    assert b"alice@example.org" in policy.recipients
    assert not policy.is_calling

    people.write_text("alice@example.org\n\nbob\ncarol\n")
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text)
    report = str(caught.value)
    assert "verification.recipients_file: people:3: 'bob' is neither" in report
    assert "people:4: 'carol'" in report
    assert report.endswith("2 errors")
    with pytest.raises(ConfigError, match="people:3"):
        verification_policy(config)
    people.unlink()
    with pytest.raises(ConfigError, match="cannot read people"):
        verification_policy(config)
