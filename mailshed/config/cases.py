"""Cases of a policy: messages in a few words, and the class that each must be of.

What `mailshed config test` runs. A case says what matters about its message and leaves out the
rest; its faults are shown like those of a configuration. The file is YAML with the keys `version`
and `cases`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mailshed.config.document import read_as
from mailshed.config.faults import Fault, dotted, render
from mailshed.config.fields import Count, Flag, HeaderName, Size, Text, Version
from mailshed.config.gather import origins_of
from mailshed.errors import ConfigError

State = Literal["room", "saturated", "away", "spool_filling"]
Action = Literal["relay", "wait", "spool", "defer"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class SentSection(_Section):
    """What the sender has sent within every window of the policy, this message included."""

    messages: Count = Field(1, ge=1, description="Messages.")
    recipients: Count = Field(1, ge=1, description="Recipients of all of them.")


class ExpectSection(_Section):
    """What has to come of it."""

    traffic_class: Text = Field(alias="class", description="The class.")
    rule: Text | None = Field(None, description="The rule that names it; default for none.")
    action: Action | None = Field(None, description="What happens to it in that state.")
    state: State = Field("saturated", description="State of the backend, for the action.")


class CaseSection(_Section):
    """One message."""

    name: Text = Field(description="What it is, for people.")
    from_ip: Text = Field("192.0.2.1", description="Address of the client; by default a stranger.")
    listener: Text | None = Field(None, description="Name of a listener; by default the first.")
    user: Text = Field("", description="Who has authenticated.")
    trusted: Flag | None = Field(
        None, description="Whether the client is trusted; by default as trusted_networks say."
    )
    sender: Text = Field(
        "someone@example.org", alias="from", description="Reverse-path; <> for none."
    )
    recipients: tuple[Text, ...] = Field(
        ("doctor@hospital.example",), alias="to", description="Forward-paths."
    )
    recipient_count: Count | None = Field(
        None, ge=1, le=10_000, description="How many recipients there are, the others invented."
    )
    size: Size = Field(4096, description="Octets of mail data.")
    priority: Count | None = Field(None, ge=-9, le=9, description="MT-PRIORITY.")
    headers: dict[HeaderName, Text] = Field(
        default_factory=dict, description="Header fields that it has."
    )
    sent: SentSection = Field(
        default_factory=SentSection, description="What its sender has sent lately."
    )
    expect: ExpectSection = Field(description="What has to come of it.")


class CasesFile(_Section):
    """The whole file."""

    version: Version = Field(description="Version of this format.")
    cases: tuple[CaseSection, ...] = Field(min_length=1, description="The cases.")


@dataclass(frozen=True, slots=True)
class Case:
    """A case and where it is written."""

    section: CaseSection
    origin: str


def load_cases(path: Path) -> tuple[Case, ...]:
    """Read the cases in `path`; raises ConfigError whose text lists every fault."""
    file, document = read_as(path, CasesFile, "expected a mapping with keys version and cases")
    origins = origins_of(document, ("cases",), str(path), len(file.cases))
    seen: dict[str, str] = {}
    for index, (case, origin) in enumerate(zip(file.cases, origins, strict=True)):
        if (first := seen.setdefault(case.name, origin)) != origin:
            key = ("cases", index, "name")
            message = f"is also the name of the case at {first}"
            fault = Fault(span=document.span(key), path=key, message=f"{dotted(key)} {message}")
            raise ConfigError(render(path, document.lines, [fault]))
    return tuple(map(Case, file.cases, origins))
