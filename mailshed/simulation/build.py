"""From the file of a scenario to the scenario: hours become seconds, names become profiles."""

from math import inf

from mailshed.config.admission import admission_policy
from mailshed.config.load import classification_policy
from mailshed.config.scenario import (
    WEEK_HOURS,
    BackendSection,
    ChangeSection,
    ScenarioFile,
    StreamSection,
)
from mailshed.config.schema import Config
from mailshed.drain.retry import RetryPolicy
from mailshed.policies import limit_for
from mailshed.simulation.engine import LimitFactory
from mailshed.simulation.scenario import (
    MONDAY,
    BackendModel,
    Change,
    ClientBehaviour,
    Factor,
    Scenario,
    Server,
    Sizes,
    SpoolModel,
    Stream,
)
from mailshed.terms import ClientKind

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_HOURS_A_DAY = 24
_NIGHT = 0.1
"""At night there is a tenth of the mail, in the shipped profiles."""
# People give up sooner than machines.
_PATIENCE = {ClientKind.MTA: 600.0, ClientKind.USER_AGENT: 100.0, ClientKind.DEVICE: 100.0}


def scenario_of(file: ScenarioFile, config: Config) -> Scenario:
    """Make the scenario that `file` describes, by the rules of `config`."""
    spool = config.spool
    return Scenario(
        name=file.name,
        duration=file.duration,
        settle=file.settle,
        start_wall=MONDAY + 86400.0 * _DAYS.index(file.start_day) + file.start_time,
        classes=classification_policy(config).classes,
        streams=tuple(_stream(each) for each in file.streams),
        backend=_backend(file.backend),
        spool=SpoolModel(
            messages_max=file.spool.messages_max or spool.messages_max,
            octets_max=file.spool.octets_max or spool.octets_max,
            lifetime=spool.lifetime,
            retry=RetryPolicy(delay_min=spool.retry_min, delay_max=spool.retry_max),
        ),
        admission=admission_policy(config),
        in_flight_max=file.in_flight_max or config.backends[0].in_flight_max,
        respond_by=config.limits.respond_by,
        respond_by_user_agent=config.limits.respond_by_user_agent,
        command_timeout=config.backends[0].command_timeout,
        dot_timeout=config.backends[0].dot_timeout,
    ).scaled(file.scale)


def limit_of(file: ScenarioFile, config: Config) -> LimitFactory:
    """Make the limit that the service would have, where `file` does not say otherwise."""
    section = config.backends[0]
    kind = section.limit if file.limit is None else file.limit
    most = section.in_flight_max if file.in_flight_max is None else file.in_flight_max
    changed = section.model_copy(update={"limit": kind, "in_flight_max": most})
    return lambda _scenario, _backend: limit_for(changed)


def _stream(section: StreamSection) -> Stream:
    kind = ClientKind(section.clients)
    return Stream(
        name=section.name,
        traffic_class=section.traffic_class,
        rate=section.per_hour / 3600.0,
        profile=_profile(section.profile),
        factors=tuple(
            Factor(
                start=each.start,
                end=inf if each.end is None else each.end,
                factor=each.factor,
                every=each.every,
            )
            for each in section.factors
        ),
        sizes=Sizes(
            smallest=section.sizes.smallest,
            largest=section.sizes.largest,
            shape=section.sizes.shape,
        ),
        recipients=section.recipients,
        senders=section.senders,
        elephant=section.elephant_share,
        client=ClientBehaviour(
            kind=kind,
            retry_min=section.retry_min,
            retry_max=section.retry_max,
            is_synchronised=section.synchronised,
            patience=_PATIENCE[kind],
        ),
        hosts=section.hosts,
    )


def _profile(given: str | tuple[float, ...]) -> tuple[float, ...]:
    """Factors for the hours of a week, or one for all of them."""
    if not isinstance(given, str):
        return given if len(given) == WEEK_HOURS else given * len(_DAYS)
    match given:
        case "office":
            return _day(7, 18) * 5 + (_NIGHT,) * (2 * _HOURS_A_DAY)
        case "day":
            return _day(7, 21) * len(_DAYS)
        case _:
            return (1.0,)


def _day(first: int, last: int) -> tuple[float, ...]:
    """A day that is busy from the hour `first` to the hour `last`."""
    return tuple(1.0 if first <= hour < last else _NIGHT for hour in range(_HOURS_A_DAY))


def _backend(section: BackendSection) -> BackendModel:
    return BackendModel(
        server=Server(section.model),
        servers=section.servers,
        base=section.base,
        per_mib=section.per_mib,
        per_recipient=section.per_recipient,
        latency=section.latency,
        noise=section.noise,
        connections_max=section.connections_max,
        tarpit_above=section.tarpit_above,
        tarpit_seconds=section.tarpit_delay,
        busy_above=section.busy_above,
        slow_share=section.slow_share,
        slow_factor=section.slow_factor,
        full_share=section.full_share,
        mailboxes=section.mailboxes,
        changes=tuple(_change(each) for each in section.changes),
    )


def _change(section: ChangeSection) -> Change:
    return Change(
        start=section.start,
        end=inf if section.end is None else section.end,
        servers=section.servers,
        speed=section.speed,
        is_refusing=section.refusing,
        connections_max=section.connections_max,
        full_share=section.full_share,
    )
