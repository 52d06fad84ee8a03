"""Read the files that a configuration names: lists, its own policy, certificates, logins.

A fault in such a file is shown at its place in that file; a file that cannot be read at all is a
fault of the entry that names it. The rules of a policy file are checked against the classes,
networks and listeners of the configuration, by the same checks as the configuration's own.
"""

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mailshed.config import authentication
from mailshed.config.back import file_faults
from mailshed.config.certificate import CertificateError, load_pair
from mailshed.config.classification import PolicyFile, RuleSection
from mailshed.config.draft import draft
from mailshed.config.faults import Fault, KeyPath, Report
from mailshed.config.fields import FileReference
from mailshed.config.lists import ListFile, read_list, signature_of
from mailshed.config.marks import Document, read
from mailshed.config.messages import translate
from mailshed.config.schema import Config
from mailshed.config.semantics import findings
from mailshed.config.sources import ListKind, Signature, Sources

DEFAULT = "default"
NONE = "none"

_LISTS: tuple[tuple[str, ListKind], ...] = (
    ("senders", "addresses"),
    ("recipients", "addresses"),
    ("users", "users"),
)
_Reference = tuple[KeyPath, ListKind, Path]


def gather(
    config: Config, document: Document, path: Path, *, has_secrets: bool
) -> tuple[Sources, list[Fault], list[Report]]:
    """Read what `config` names, which was read from `document` at `path`.

    Returns it with the faults of the configuration and those of other files. Without `has_secrets`
    keys and logins are left alone.
    """
    rules = config.classification.rules
    references = list(_references(config))
    policy: tuple[RuleSection, ...] | None = None
    origins: tuple[str, ...] = ()
    reports: list[Report] = []
    name = config.classification.policy
    if name not in {DEFAULT, NONE}:
        file = Path(name)
        policy, inner, faults = read_policy(file)
        faults += _relations(inner.value, document.value, inner)
        if faults:
            reports.append(Report(file=file, lines=inner.lines, faults=faults))
        origins = origins_of(inner, ("rules",), file.name, len(policy or ()))
        references += [
            (("classification", "policy"), kind, each) for kind, each in _lists_of(policy or ())
        ]
    secrets: dict[Path, Signature | None] = {}
    faults_of_secrets: list[Fault] = []
    if has_secrets:
        secrets = _signatures_of_secrets(config)  # before they are read: no change is missed
        faults_of_secrets += [
            *_faults_of_pair(config, document),
            *_faults_of_ways(config, document),
        ]
    files, more, reports_of_lists = _read_lists(references, document)
    sources = Sources(
        lists={key: each.entries for key, each in files.items()},
        policy=policy,
        origins=origins_of(document, ("classification", "rules"), path.name, len(rules)),
        policy_origins=origins,
        signatures=secrets | {each.path: each.signature for each in files.values()},
    )
    return sources, [*more, *faults_of_secrets], [*reports, *reports_of_lists]


def _signatures_of_secrets(config: Config) -> dict[Path, Signature | None]:
    paths = [config.tls.certificate, config.tls.key, config.authentication.ca_file]
    for backend in config.backends:
        paths += [backend.ca_file, backend.credentials_file]
    return {path: signature_of(path) for path in paths if path is not None}


def _faults_of_pair(config: Config, document: Document) -> Iterator[Fault]:
    """What is wrong with the certificate and its key, which are read to find out."""
    if config.tls.certificate is None or config.tls.key is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        load_pair(context, config.tls.certificate, config.tls.key)
    except CertificateError as error:
        key = ("tls", error.key)
        yield Fault(span=document.span(key), path=key, message=str(error))


def _faults_of_ways(config: Config, document: Document) -> Iterator[Fault]:
    """What is wrong with the files that are needed on the way to a backend, or to the verifier."""
    for index, backend in enumerate(config.backends):
        for name, message in file_faults(backend):
            key: KeyPath = ("backends", index, name)
            yield Fault(span=document.span(key), path=key, message=message)
    for name, message in authentication.file_faults(config.authentication):
        key = ("authentication", name)
        yield Fault(span=document.span(key), path=key, message=message)


def read_policy(file: Path) -> tuple[tuple[RuleSection, ...] | None, Document, list[Fault]]:
    """Read a file of rules; None with its faults if it is not one."""
    document = read(file)
    faults = list(document.faults)
    if not isinstance(document.value, dict):
        if not faults:
            message = "expected a mapping with keys version and rules"
            faults.append(Fault(span=document.span(()), message=message))
        return None, document, faults
    try:
        policy = PolicyFile.model_validate(document.value)
    except ValidationError as error:
        return None, document, [*faults, *translate(error, document, PolicyFile)]
    return policy.rules, document, faults


def origins_of(document: Document, path: KeyPath, file: str, count: int) -> tuple[str, ...]:
    """Where each rule of the list at `path` is written: `mailshed.yaml:44`."""
    return tuple(f"{file}:{document.span((*path, index)).line + 1}" for index in range(count))


def _relations(policy: object, config: object, document: Document) -> list[Fault]:
    """Check the rules of a policy file as if they stood in the configuration."""
    rules = policy.get("rules") if isinstance(policy, dict) else None
    raw: Mapping[str, Any] = config if isinstance(config, dict) else {}
    classification = raw.get("classification")
    inner = classification if isinstance(classification, dict) else {}
    pretended = {**raw, "classification": {**inner, "rules": rules}}
    return [
        Fault(span=document.span(key[1:]), path=key[1:], message=message)
        for key, message in findings(draft(pretended))
        if key[:2] == ("classification", "rules")
    ]


def _references(config: Config) -> Iterator[_Reference]:
    """Every list that the configuration itself names, and where."""
    for name, entries in config.classification.networks.items():
        for index, entry in enumerate(entries):
            if isinstance(entry, FileReference):
                yield ("classification", "networks", name, index), "networks", entry.path
    for number, rule in enumerate(config.classification.rules):
        for key, kind in _LISTS:
            for index, entry in enumerate(getattr(rule, key)):
                if isinstance(entry, FileReference):
                    yield ("classification", "rules", number, key, index), kind, entry.path
    if (senders := config.authentication.senders_file) is not None:
        yield ("authentication", "senders_file"), "sender_logins", senders


def _lists_of(rules: tuple[RuleSection, ...]) -> Iterator[tuple[ListKind, Path]]:
    for rule in rules:
        for key, kind in _LISTS:
            for entry in getattr(rule, key):
                if isinstance(entry, FileReference):
                    yield kind, entry.path


def _read_lists(
    references: list[_Reference], document: Document
) -> tuple[dict[tuple[ListKind, Path], ListFile], list[Fault], list[Report]]:
    files: dict[tuple[ListKind, Path], ListFile] = {}
    faults: list[Fault] = []
    reports: list[Report] = []
    for key, kind, path in references:
        if (kind, path) not in files:
            found = files[kind, path] = read_list(path, kind)
            if found.faults:
                reports.append(Report(file=path, lines=found.lines, faults=found.faults))
        if (reason := files[kind, path].unreadable) != "":
            faults.append(Fault(span=document.span(key), path=key, message=f"{path} {reason}"))
    return files, faults, reports
