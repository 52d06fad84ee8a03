"""What a configuration file refers to outside of itself, as it was when the file was loaded.

Lists of networks, addresses and users may live in files that other people or programs keep; the
rules of the policy are a file of their own. All of it is read and checked together with the
configuration, so that what is in force is one consistent whole, and nothing is read while mail
passes. The signature of each list says later whether its file has changed (`watch`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from mailshed.config.classification import RuleSection

ListKind = Literal["networks", "addresses", "users", "sender_logins"]
Signature = tuple[int, int, int, int]
"""Times of change of a file's content and of its mode or owner in nanoseconds, size and inode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Files beside the configuration. Where something was written does not tell two apart."""

    lists: Mapping[tuple[ListKind, Path], tuple[Any, ...]] = field(default_factory=dict)
    """Entries of each file, by what they were read as: networks, or text in lower case."""
    policy: "tuple[RuleSection, ...] | None" = None
    """The rules of the site's own policy file, if it has one."""
    origins: tuple[str, ...] = field(default=(), compare=False)
    """Where each of the configuration's rules is, for people: `mailshed.yaml:44`."""
    policy_origins: tuple[str, ...] = field(default=(), compare=False)
    """The same of the rules of the site's policy file."""
    signatures: Mapping[Path, Signature | None] = field(default_factory=dict, compare=False)
    """What each list looked like when it was read; None if it could not be."""

    @property
    def digest(self) -> str:
        """A text that differs if anything here that matters differs; empty if there is nothing."""
        if not self.lists and self.policy is None:
            return ""
        parts = [
            f"{kind} {path} {' '.join(map(str, entries))}"
            for (kind, path), entries in self.lists.items()
        ]
        if self.policy is not None:
            parts += ["policy", *(section.model_dump_json() for section in self.policy)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
