"""What the path of a live message goes by: everything that a reload of the configuration replaces.

`policies` makes it from the configuration; what the drain goes by is `drain.policy`. It is one
value, so that who looks at several of its parts sees one configuration and not two halves.
"""

from dataclasses import dataclass, field

from mailshed.classification.classifier import Classifier
from mailshed.config.policy import AdmissionPolicy, RelayPolicy
from mailshed.mail.envelope import Client
from mailshed.mail.networks import NetworkSet


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePolicies:
    """The policies for live mail; those of one moment belong together."""

    hostname: str
    classifier: Classifier
    relay: RelayPolicy
    clinical_networks: NetworkSet
    """Clients for whose mail data there is always room."""
    lifetime: float
    """Seconds that a spooled message may live."""
    retry_pause: float
    """Seconds before a message that the backend did not take, or may have, is tried again."""
    respond_by: float
    """Seconds after its final dot at which a mail server gets its reply, if not before."""
    respond_by_user_agent: float
    """The same for clients that do not try again."""
    reads_priority_header: bool = False
    """Whether `MT-Priority:` counts in mail of trusted clients that have no such parameter."""
    admission: AdmissionPolicy = field(default_factory=AdmissionPolicy)

    def is_clinical(self, client: Client) -> bool:
        """Whether `client` is in a network whose mail is clinical."""
        return client.address in self.clinical_networks

    def may_be_told_later(self, client: Client, priority: int | None) -> bool:
        """Whether the header section may still say how urgent a message is (RFC 6758)."""
        return self.reads_priority_header and client.is_trusted and priority is None
