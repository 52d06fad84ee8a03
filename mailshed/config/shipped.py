"""The shipped policy, `config/policies/default.yaml`: the rules that come after a site's own.

The file is data that people read, so it lies with the other examples. In an installed package it
lies beside this module; in a checkout, under `config/` at its top. A package without it, or with a
faulty one, is broken, which is an error of ours and not a fault of anybody's configuration.
"""

from functools import cache
from pathlib import Path

from mailshed.config.classification import RuleSection
from mailshed.config.faults import render
from mailshed.config.gather import origins_of, read_policy
from mailshed.config.schema import Config
from mailshed.errors import ConfigError

NAME = "default.yaml"
CASES = "default-cases.yaml"
_HERE = Path(__file__).resolve().parent


def policy_folder() -> Path:
    """Where the shipped policy is."""
    installed = _HERE / "policies"
    return installed if installed.is_dir() else _HERE.parents[1] / "config" / "policies"


def shipped_configuration() -> Config:
    """A configuration of defaults: shipped classes, shipped policy, no rule of a site."""
    return Config.model_validate(
        {
            "version": 1,
            "hostname": "relay.hospital.example",
            "domains": ["hospital.example"],
            "listeners": [{"name": "smtp", "bind": "127.0.0.1:25"}],
            "backends": [{"name": "backend", "host": "mail.hospital.example"}],
            "spool": {"path": "/var/lib/mailshed"},
            "metrics": {"bind": "127.0.0.1:9825"},
        }
    )


@cache
def shipped_policy() -> tuple[tuple[RuleSection, ...], tuple[str, ...]]:
    """The shipped rules, and where each is written; read once."""
    file = policy_folder() / NAME
    rules, document, faults = read_policy(file)
    if rules is None or faults:
        raise ConfigError(render(file, document.lines, faults))
    return rules, origins_of(document, ("rules",), NAME, len(rules))
