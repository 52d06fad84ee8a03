"""Reading the files that a configuration names."""

from pathlib import Path

import pytest

from mailshed.config.load import load
from mailshed.config.schema import Config
from mailshed.errors import ConfigError
from tests.support.certificates import make_authority

BASE = """\
version: 1
hostname: relay.example.org
domains: [example.org]
listeners: [{name: internal, bind: "127.0.0.1:0"}]
backends: [{name: mail, host: mail.example.org}]
spool: {path: /var/lib/mailshed}
metrics: {bind: "127.0.0.1:0"}
"""


def load_with(folder: Path, text: str) -> Config:
    file = folder / "mailshed.yaml"
    file.write_text(BASE + text)
    return load(file)


def refused(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_with(folder, text)
    lines = str(caught.value).replace(f"{folder}/", "").splitlines()
    return [line for line in lines if ": error: " in line]


def test_a_list_is_read_once_for_each_kind_of_use(tmp_path: Path) -> None:
    file = tmp_path / "people"
    file.write_text("alice@example.org\n")
    config = load_with(
        tmp_path,
        f"""\
classification:
  rules:
    - {{name: a, class: bulk, senders: ["file:{file}"], recipients: ["file:{file}", b@c.example]}}
    - {{name: b, class: bulk, users: ["file:{file}"]}}
""",
    )
    assert config.sources.lists == {
        ("addresses", file): ("alice@example.org",),
        ("users", file): ("alice@example.org",),
    }
    assert list(config.sources.signatures) == [file]
    assert config.sources.origins == ("mailshed.yaml:10", "mailshed.yaml:11")


def test_a_list_that_cannot_be_read_is_a_fault_of_its_entry(tmp_path: Path) -> None:
    assert refused(
        tmp_path,
        f"""\
classification:
  networks: {{lab: [10.0.0.0/8, "file:{tmp_path}/gone"]}}
  rules:
    - {{name: a, class: bulk, users: ["file:{tmp_path}"]}}
""",
    ) == [
        (
            "mailshed.yaml:9:32: error: classification.networks.lab[1]: gone cannot be read:"
            " No such file or directory"
        ),
        (
            f"mailshed.yaml:11:38: error: classification.rules[0].users[0]: {tmp_path} cannot be"
            " read: Is a directory"
        ),
    ]


def test_faults_of_the_file_and_of_its_lists_come_in_one_report(tmp_path: Path) -> None:
    (tmp_path / "lab").write_text("nonsense\n")
    found = refused(
        tmp_path,
        f"""\
classification:
  networks: {{lab: ["file:{tmp_path}/lab"]}}
  rules:
    - {{name: a, class: clinical, client_networks: [lba]}}
""",
    )
    assert [line.partition(": error: ")[0] for line in found] == ["mailshed.yaml:11:52", "lab:1:1"]


@pytest.mark.parametrize(
    ("policy", "faults"),
    [
        ("", ["policy.yaml: error: is empty; config/mailshed.yaml is an example"]),
        ("- x\n", ["policy.yaml:1:1: error: expected a mapping with keys version and rules"]),
        (
            "version: 1\nrules: [{name: a, class: bulk, headers: {X: null}}]\nrulse: []\n",
            ['policy.yaml:3:1: error: rulse: unknown key, did you mean "rules"?'],
        ),
        (
            "version: 1\nrules: [{name: a, class: bulk, headers: {X: null}, class: bulk}]\n",
            ['policy.yaml:2:52: error: rules[0]: duplicate key "class" (first at line 2)'],
        ),
        (
            (
                "version: 1\n"
                "rules:\n"
                "  - {name: a, class: bulky, headers: {X: null}}\n"
                "  - {name: a, class: bulk, listeners: [interna], client_networks: [vpn]}\n"
            ),
            [
                (
                    'policy.yaml:3:22: error: rules[0].class: unknown class "bulky", did you mean'
                    ' "bulk"?'
                ),
                'policy.yaml:4:12: error: rules[1].name: "a" is also the name of rules[0]',
                (
                    'policy.yaml:4:40: error: rules[1].listeners[0]: unknown listener "interna",'
                    ' did you mean "internal"?'
                ),
                (
                    'policy.yaml:4:68: error: rules[1].client_networks[0]: unknown network "vpn"'
                    " (known: lab)"
                ),
            ],
        ),
    ],
    ids=range(5),
)
def test_a_policy_is_checked_as_if_it_stood_in_the_configuration(
    policy: str, faults: list[str], tmp_path: Path
) -> None:
    (tmp_path / "policy.yaml").write_text(policy)
    text = f"classification: {{networks: {{lab: []}}, policy: {tmp_path}/policy.yaml}}\n"
    assert refused(tmp_path, text) == faults


def test_a_policy_may_use_networks_and_lists(tmp_path: Path) -> None:
    (tmp_path / "mass.txt").write_text("*@news.example\n")
    (tmp_path / "policy.yaml").write_text(
        "version: 1\nrules:\n"
        "  - {name: mass, class: bulk, client_networks: [lab],\n"
        f"     senders: ['file:{tmp_path}/mass.txt']}}\n"
    )
    config = load_with(
        tmp_path,
        f"classification: {{networks: {{lab: [10.0.0.0/8]}}, policy: {tmp_path}/policy.yaml}}\n",
    )
    assert config.sources.lists == {("addresses", tmp_path / "mass.txt"): ("*@news.example",)}
    assert config.sources.policy is not None
    assert config.sources.policy_origins == ("policy.yaml:3",)


def test_a_policy_that_is_not_there_is_told_with_its_name(tmp_path: Path) -> None:
    found = refused(tmp_path, f"classification: {{policy: {tmp_path}/gone.yaml}}\n")
    assert found == ["gone.yaml: error: cannot be read: No such file or directory"]


def test_files_on_the_way_to_a_backend_are_read_and_watched(tmp_path: Path) -> None:
    """A fault is found by `config check`, and a new password needs no reload."""
    authority, login = tmp_path / "ca.pem", tmp_path / "login"
    login.write_text("relay\ns3cret\n")
    login.chmod(0o604)
    base = BASE.replace(
        "host: mail.example.org",
        f"host: mail.example.org, tls: starttls, ca_file: {authority}, credentials_file: {login}",
    )
    file = tmp_path / "mailshed.yaml"
    file.write_text(base)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert "backends[0].ca_file: cannot read" in str(caught.value)
    assert f"backends[0].credentials_file: {login} has mode 0604" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    authority.write_bytes(make_authority(tmp_path / "authority").ca_file.read_bytes())
    login.chmod(0o600)
    config = load(file)
    assert set(config.sources.signatures) == {authority, login}
    assert "s3cret" not in repr(config)
