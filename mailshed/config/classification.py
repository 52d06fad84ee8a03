"""The section `classification`: ordered rules over evidence, the site's first, then the policy's.

A rule is a list of conditions, all of which must hold. What a rule names elsewhere (a class, a
network, a listener) is checked across keys, in `references`.
"""

from typing import Self

from pydantic import Field, model_validator

from mailshed.config.fields import (
    AddressEntry,
    Count,
    Domain,
    Duration,
    FileReference,
    Flag,
    HeaderName,
    HeaderValue,
    Name,
    NetworkEntry,
    PolicyName,
    Size,
    Text,
    UserEntry,
    Version,
)
from mailshed.config.sections import Section, fault
from mailshed.mail.pattern import is_pattern


class SenderRateSection(Section):
    """Mail that comes like bulk mail: from one sender, to many recipients, in a short time."""

    recipients: Count = Field(ge=1, description="Holds for more recipients than these,")
    messages: Count = Field(2, ge=1, description="in at least so many messages,")
    within: Duration = Field(gt=0, le=86400, description="in so many seconds, up to now.")


PATTERNS_MAX = 50
"""Patterns in one list of a rule: each is compared with every recipient."""


class RuleSection(Section):
    """One classification rule; all conditions given must hold, and the first rule wins."""

    name: Name = Field(description="Name in logs.")
    traffic_class: Text = Field(alias="class", description="The class of mail that matches.")
    client_networks: tuple[Text, ...] = Field(
        (), description="Names of entries in networks, or networks such as 10.0.0.0/8."
    )
    not_client_networks: tuple[Text, ...] = Field(
        (),
        description="The client must be in none of these; clinical-networks stands for all"
        " networks that a rule makes clinical.",
    )
    listeners: tuple[Text, ...] = Field((), description="Names of listeners.")
    trusted: Flag | None = Field(
        None, description="Whether the client is in trusted_networks, or has authenticated."
    )
    users: tuple[UserEntry, ...] = Field(
        (), description="Authenticated users: names, patterns such as svc-*, or files."
    )
    priority_min: Count | None = Field(
        None,
        ge=-9,
        le=9,
        description="Least MT-PRIORITY (RFC 6710) of a peer whose word counts; 0 if it has none.",
    )
    priority_max: Count | None = Field(None, ge=-9, le=9, description="Greatest MT-PRIORITY.")
    senders: tuple[AddressEntry, ...] = Field(
        (),
        description="Reverse-paths: alice@example.org, @example.org, @.example.org, a pattern with"
        " * and ?, or a file.",
    )
    sender_domains: tuple[Domain, ...] = Field(
        (), description="Domains of the reverse-path; with a leading dot, all subdomains."
    )
    null_sender: Flag | None = Field(
        None, description="Whether the reverse-path is empty, as that of reports is."
    )
    recipients: tuple[AddressEntry, ...] = Field(
        (), description="Any recipient, written as in senders."
    )
    recipient_domains: tuple[Domain, ...] = Field(
        (), description="Domains of any recipient; with a leading dot, all subdomains."
    )
    recipients_min: Count | None = Field(None, ge=1, description="Least number of recipients.")
    recipients_max: Count | None = Field(None, ge=1, description="Greatest number of recipients.")
    size_min: Size | None = Field(None, ge=0, description="Least octets of mail data.")
    size_max: Size | None = Field(None, ge=0, description="Most octets of mail data.")
    headers: dict[HeaderName, tuple[HeaderValue, ...] | None] = Field(
        default_factory=dict,
        description="Header fields, of which any will do, each with the values that match: a"
        " field's first word, or with * and ? the whole value; null for any value. A name may end"
        " in *.",
    )
    sender_rate: SenderRateSection | None = Field(
        None, description="How much the sender has sent lately."
    )

    @model_validator(mode="after")
    def _has_condition(self) -> Self:
        given = self.model_fields_set - {"name", "traffic_class"}
        if not any(getattr(self, key) not in (None, (), {}) for key in given):
            raise ValueError(
                "needs at least one condition, for example client_networks, sender_domains or"
                " headers"
            )
        return self

    @model_validator(mode="after")
    def _headers_are_distinct(self) -> Self:
        seen: dict[str, str] = {}
        for name, values in self.headers.items():
            if values == ():
                message = "an empty list matches nothing; write null for any value"
                raise fault(message, "headers", name)
            if (first := seen.setdefault(name.lower(), name)) is not name:
                raise fault(f'is the same field as "{first}"', "headers", name)
        return self

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Self:
        for name in ("priority", "recipients", "size"):
            lower, upper = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if lower is not None and upper is not None and lower > upper:
                raise fault(f"must not be greater than {name}_max", f"{name}_min")
        return self

    @model_validator(mode="after")
    def _patterns_are_few(self) -> Self:
        for name in ("senders", "recipients", "users"):
            texts = [each for each in getattr(self, name) if not isinstance(each, FileReference)]
            if sum(map(is_pattern, texts)) > PATTERNS_MAX:
                raise fault(f"has more than {PATTERNS_MAX} patterns, which would be slow", name)
        return self


class PolicyFile(Section):
    """A file of rules: the shipped policy, or a site's own in its place."""

    version: Version = Field(description="Version of this format.")
    rules: tuple[RuleSection, ...] = Field((), description="The rules, in order.")


class Classification(Section):
    """What is a message? Ordered rules over evidence; the site's first, then the policy's."""

    networks: dict[Name, tuple[NetworkEntry, ...]] = Field(
        default_factory=dict,
        description="Named lists of client networks; an entry file:/etc/mailshed/lab.txt stands"
        " for the lines of that file.",
    )
    rules: tuple[RuleSection, ...] = Field((), description="The site's rules, in order.")
    policy: PolicyName = Field(
        "default",
        description="The rules that come after: default for the shipped ones, none, or the path"
        " of a file of rules.",
    )
    default: Text = Field("personal", description="Class of mail that no rule names.")
    mt_priority_header: Flag = Field(
        False,
        description="Whether a field MT-Priority (RFC 6758) counts as the parameter MT-PRIORITY"
        " does, in mail of trusted clients that comes without one.",
    )
