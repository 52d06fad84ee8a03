"""Changes while the service runs: a reload takes effect as a whole, or not at all.

SIGHUP asks for one, as does `mailshed reload` and a change of a list that the configuration names.
Everything that may fail or takes time is read first: the file, the lists, certificates, secrets.
What is made of a long list or of thousands of rules takes a second to make, so that is done in a
thread. Then the policies of all parts are replaced without a pause, so there is never half of a
configuration. A faulty file, or one that asks for what needs a restart, changes nothing, and is
told.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mailshed.config.certificate import date_of
from mailshed.config.load import authentication_policy, session_limits, verification_policy
from mailshed.config.policy import AuthenticationPolicy, SurgePolicy, VerificationPolicy
from mailshed.config.schema import Config
from mailshed.config.surge import surge_policy
from mailshed.config.tls import tls_policy
from mailshed.config.watch import INTERVAL as LISTS_INTERVAL
from mailshed.config.watch import ListWatch
from mailshed.drain.policy import DrainPolicy
from mailshed.errors import ConfigError
from mailshed.listener.server import SmtpServer
from mailshed.listener.tls import Loaded
from mailshed.listener.tls import load as load_certificate
from mailshed.livepolicies import LivePolicies
from mailshed.parts import Parts
from mailshed.policies import drain_policy, fingerprint, live_policies
from mailshed.relay.security import read_all
from mailshed.reload import Reloader, in_short
from mailshed.systemd import Notifier


async def read_certificate(config: Config) -> Loaded | None:
    """What `config` says that clients are to be shown; None without TLS. Raises ConfigError."""
    policy = tls_policy(config.tls)
    return None if policy is None else await asyncio.to_thread(load_certificate, policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Policies:
    """What the parts of the service are to go by, and the name of the configuration it is from."""

    live: LivePolicies
    drain: DrainPolicy
    surges: SurgePolicy
    verification: VerificationPolicy
    authentication: AuthenticationPolicy
    name: str


def _policies_of(config: Config) -> _Policies:
    """Make them; may take a second. Raises ConfigError."""
    return _Policies(
        live=live_policies(config),
        drain=drain_policy(config),
        surges=surge_policy(config),
        verification=verification_policy(config),
        authentication=authentication_policy(config),
        name=fingerprint(config),
    )


class Renewal:
    """The configuration in force, and how another one takes its place.

    `read_file` reads and checks the file; `servers` are the listeners, which come later.
    """

    def __init__(
        self,
        config: Config,
        *,
        read_file: Callable[[], Config],
        parts: Parts,
        servers: Sequence[SmtpServer],
        notifier: Notifier,
    ) -> None:
        self.config = config
        self._parts = parts
        self._servers = servers
        self._notifier = notifier
        self._reloader = Reloader(read_file, parts.spool)
        self._turn = asyncio.Lock()

    async def reload_on(self, hangup: asyncio.Event) -> None:
        """Reload whenever `hangup` is set; systemd is told."""
        while True:
            await hangup.wait()
            hangup.clear()
            self._notifier.reloading(int(self._parts.clock.monotonic() * 1_000_000))
            await self._try_reload()
            self._notifier.ready()

    async def watch_lists(self, hangup: asyncio.Event) -> None:
        """Ask for a reload when a list that the configuration names has changed."""
        watch = ListWatch()
        while True:
            await asyncio.sleep(LISTS_INTERVAL)
            if await asyncio.to_thread(watch.changed, self.config):
                hangup.set()

    async def _try_reload(self) -> None:
        try:
            await self.reload()
        except ConfigError:
            pass  # it has been logged
        except Exception as error:  # noqa: BLE001 - no reload may end the service
            self._parts.status.reload_ok = False
            self._parts.task_failed("reload", error)

    async def reload(self) -> str:
        """Read the configuration again; raises ConfigError and changes nothing if it is not fit.

        One after the other: of two at once, what was read first might take effect last.
        """
        async with self._turn:
            return await self._reload()

    async def _reload(self) -> str:
        parts = self._parts
        try:
            config = await self._reloader.read(self.config)
            policies = await asyncio.to_thread(_policies_of, config)
            for_backends = await asyncio.to_thread(read_all, parts.backends.securities)
            await parts.authenticator.refresh()
            for_handshakes = self._unless_worse(await read_certificate(config))
        except ConfigError as error:
            parts.status.reload_ok = False
            parts.maillog.reload_refused(error=in_short(error))
            raise
        # From here on nothing fails and nothing waits, so there is no half of a configuration.
        self.config = config
        parts.declare_metrics(config)
        parts.screening.policies = parts.pipeline.policies = policies.live
        for each in parts.destinations:
            each.gate.station.shedding.classes = policies.live.classifier.policy.classes
            each.gate.is_observing = config.is_observing
        parts.handler.slow_replies.limit = config.limits.slow_replies_max
        parts.drainer.policy = policies.drain
        parts.verifier.policy = policies.verification
        for name, material in for_backends.items():
            parts.backends.securities[name].use(material)
        parts.authenticator.set_policy(policies.authentication)
        parts.surges.policy = policies.surges
        if parts.handshakes is not None and for_handshakes is not None:
            parts.handshakes.policy = for_handshakes.policy
            parts.handshakes.certificates.use(for_handshakes)
        self.renew_limits()
        status = parts.status
        status.config_hash = policies.name
        status.config_loaded_wall = parts.clock.wall()
        status.sessions_max = config.limits.sessions_max
        status.quota_keys_max = config.quotas.entries_max
        status.reload_ok = True
        parts.maillog.reloaded(config=status.config_hash)
        await parts.overrides.fit()
        parts.overrides.renew()  # if `mode` has changed they act again, or no more
        return f"reloaded configuration {status.config_hash}"

    def renew_limits(self) -> None:
        """Give new sessions the limits of now: no larger messages than all backends take."""
        limits = session_limits(self.config)
        behind = self._parts.capabilities.message_size_max
        if behind is not None and behind < limits.message_size_max:
            limits = replace(limits, message_size_max=behind)
        for server in self._servers:
            server.factory.limits = limits

    def _unless_worse(self, loaded: Loaded | None) -> Loaded | None:
        """Raise ConfigError if it has expired and the one that is shown now has not."""
        handshakes = self._parts.handshakes
        shown = handshakes.certificates.current if handshakes is not None else None
        if loaded is not None and shown is not None:
            ends = loaded.certificate.ends
            if ends < self._parts.clock.wall() < shown.certificate.ends:
                raise ConfigError(
                    f"tls.certificate: {loaded.policy.certificate} ended on {date_of(ends)}, and"
                    " the one that clients are shown is still good: put a new one there"
                )
        return loaded
