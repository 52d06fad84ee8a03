"""Everything that there is once for each backend: built here, for `parts`.

A backend has an address with its TLS and login, a prober, a limit with its memory, a gate, a
verifier of recipients and what takes the mail. They know each other and nothing of other backends;
what all have in common (clock, log, capabilities, the memory of recipients) is handed in, or made
once at the top. Building connects to nothing.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from mailshed.clock import Clock
from mailshed.config.back import Backend as Section
from mailshed.config.load import verification_policy
from mailshed.config.schema import Config
from mailshed.control.limit_picture import LimitPicture
from mailshed.engine import OWN, Engine
from mailshed.limitmemory import OLD_FILE_NAME, LimitMemory, file_name
from mailshed.maillog import MailLog
from mailshed.metrics import Metrics
from mailshed.policies import fallbacks_for, limit_for, routes_for
from mailshed.relay.build import (
    build_address,
    build_call_ahead,
    build_gate,
    build_prober,
    target_of,
)
from mailshed.relay.capabilities import Capabilities
from mailshed.relay.destination import Destination, Destinations
from mailshed.relay.security import Security
from mailshed.relay.verifiers import Verifiers
from mailshed.relay.verify import Knowledge, RecipientVerifier
from mailshed.statefile import StateFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What all backends share."""

    clock: Clock
    rng: random.Random
    metrics: Metrics
    maillog: MailLog
    capabilities: Capabilities
    on_failure: Callable[[str, BaseException], None]
    engine: Engine = OWN


class Backends:
    """The backends of one configuration."""

    def __init__(self, config: Config, common: Common) -> None:
        self._config = config
        self._common = common
        self._policy = verification_policy(config)
        self._knowledge = Knowledge(self._policy.entries_max)
        self._routes = routes_for(config)
        self._verifiers: dict[str, RecipientVerifier] = {}
        self._memories: dict[str, LimitMemory] = {}
        self._securities: dict[str, Security] = {}
        found = [self._build(section) for section in config.backends]
        self.destinations = Destinations(found, self._routes, fallbacks_for(config))
        self.verifiers = Verifiers(self._verifiers, self._routes)

    @property
    def securities(self) -> Mapping[str, Security]:
        """What protects the connections of each backend that has any."""
        return self._securities

    @property
    def memories(self) -> tuple[LimitMemory, ...]:
        """What the limits have learned."""
        return tuple(self._memories.values())

    def limit_picture(self, name: str) -> LimitPicture | None:
        """How the limit of one backend stands; None if it is fixed."""
        return self._memories[name].picture()

    def _build(self, section: Section) -> Destination:
        common, name, hostname = self._common, section.name, self._config.hostname
        clock, on_failure = common.clock, common.on_failure
        address = build_address(
            section,
            hostname,
            clock=clock,
            maillog=common.maillog,
            on_hello=partial(common.capabilities.note, name),
        )
        if address is not None:
            self._securities[name] = address.security
        prober = build_prober(section, address, on_failure)
        limit = limit_for(section)
        gate = build_gate(section, limit=limit, prober=prober, clock=clock, rng=common.rng)
        call_ahead = build_call_ahead(
            section, address, gate=gate, clock=clock, on_failure=on_failure
        )
        verifier = self._verifiers[name] = RecipientVerifier(
            self._policy,
            call_ahead=call_ahead,
            gate=gate,
            metrics=common.metrics,
            maillog=common.maillog,
            clock=clock,
            rng=common.rng,
            knowledge=self._knowledge,
            serves=lambda domain: self._routes.of(domain) == name,
            name=name if len(self._config.backends) > 1 else None,
        )
        folder = self._config.spool.path
        self._memories[name] = LimitMemory(
            limit,
            name,
            file=StateFile(folder, file_name(name)),
            old_file=StateFile(folder, OLD_FILE_NAME),
            maillog=common.maillog,
            clock=clock,
            on_failure=on_failure,
        )
        backend = common.engine.build_backend(
            section,
            hostname,
            address,
            clock=clock,
            on_result=verifier.learn,
            on_crowded=gate.note_crowded,
            maillog=common.maillog,
        )
        return Destination(
            gate=gate,
            backend=backend,
            target=target_of(section),
            host=section.host or "",
            prober=prober,
        )
