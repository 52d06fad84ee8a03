"""Every metric, once: name, kind, labels, what it is and how to read it.

`recorder` makes counters and histograms of these families and updates them as mail passes;
`collector` exports the others from the snapshot. Both look families up by name here, so a metric
that is not in the catalogue cannot exist, and docs/metrics.md is generated from it
(`python -m mailshed.metrics > docs/metrics.md`).

Names are `mailshed_<noun>_<unit>[_total]` in base units. Labels come from closed sets (below) or
from the configuration (class, listener, backend); never an address, a client, a queue id or
anything else a peer can choose. Whatever has a limit is exported with it, as used and limit.
"""

from dataclasses import dataclass
from enum import Enum

from mailshed.metrics.labels import CLOSED_SETS

PREFIX = "mailshed_"

# SMTP spans five milliseconds to ten minutes; the objectives of the shipped classes are edges.
SECONDS_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
    *(2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
# A question about a mailbox takes one round trip, or as long as a directory is slow.
QUESTION_BUCKETS = (0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0)
# What clients wait for, per class and outcome: coarser, since it is the largest family by far.
TRANSACTION_BUCKETS = (0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 600.0)
# A live message waits for a slot until its class's patience ends, seconds at most.
SLOT_BUCKETS = (0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
# A spooled message waits for seconds or for days: up to the lifetime of a spool, five days.
WAIT_BUCKETS = (
    *(1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 1800.0),
    *(3600.0, 14400.0, 86400.0, 172800.0, 432000.0),
)
# Powers of four, and the size limits that mail servers really have.
SIZE_BUCKETS = (
    *(1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0),
    *(10485760.0, 26214400.0, 52428800.0),
)


class Kind(Enum):
    """Prometheus' metric types, as far as they are used."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: `name` without the prefix, `help` as exported, `reading` for people."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    reading: str
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """The name as it is scraped."""
        return PREFIX + self.name


def _counter(name: str, labels: str, help_text: str, reading: str) -> Family:
    return Family(name, Kind.COUNTER, tuple(labels.split()), help_text, reading)


def _gauge(name: str, labels: str, help_text: str, reading: str) -> Family:
    return Family(name, Kind.GAUGE, tuple(labels.split()), help_text, reading)


def _histogram(
    name: str, labels: str, help_text: str, reading: str, buckets: tuple[float, ...]
) -> Family:
    return Family(name, Kind.HISTOGRAM, tuple(labels.split()), help_text, reading, buckets)


SECTIONS: dict[str, tuple[Family, ...]] = {
    "Traffic": (
        _counter(
            "smtp_connections_total",
            "listener result",
            "SMTP connections, by whether they got a session.",
            "`refused` got 421 at once: the limit of sessions, or a service that is stopping.",
        ),
        _counter(
            "smtp_replies_total",
            "listener verb code",
            "Replies to SMTP clients, by command and reply code.",
            "`dot` is the reply to the mail data. A rise of 4xx there means that senders keep "
            "their mail; of 5xx, that mail is refused.",
        ),
        _counter(
            "messages_accepted_total",
            "class disposition",
            "Messages that got our 250, by what stood behind it.",
            "`relayed`: the backend's own 250. `spooled`: a durable commit. The share of `spooled` "
            "is how much is being shed.",
        ),
        _counter(
            "recipients_accepted_total",
            "class",
            "Recipients of the messages that got our 250.",
            "Divided by the messages: how many people one message reaches.",
        ),
        _counter(
            "decisions_total",
            "class action reason",
            "Decisions on messages, by action and reason.",
            "Why mail was not relayed at once: `saturated` and `diverted` are load, `override` an "
            "operator, `backend_away` an outage, "
            "`spool_full` and `spool_sick` need an operator. `spool_filling` and `over_quota` are "
            "what the class and the quotas allow under load.",
        ),
        _counter(
            "would_decisions_total",
            "class action reason",
            "While observing: decisions that were not acted on, by action and reason.",
            "What enforcing would have done, one for each message; `reject` with `content` is a "
            "bare CR, LF or NUL. Of those that would `wait`, most would have had a slot in time.",
        ),
        _counter(
            "over_quota_total",
            "class quota level",
            "Messages that exceed a quota of their sender, network or class.",
            "Of consequence only under pressure, and never for clinical mail: there it is an "
            "alarm, since somebody sends too much of it or a rule is too wide.",
        ),
        _gauge(
            "surge_ratio",
            "class",
            "Messages of the last half hour over the usual number for this time of the week.",
            "2 is twice the usual. The first days have no value, since nothing is usual yet.",
        ),
        _gauge(
            "surge_alarm",
            "class",
            "Whether so much more than the usual comes that it is no chance.",
            "An alarm alone throttles nobody; under pressure the class has a quota "
            "(`surge.quota`).",
        ),
        _gauge(
            "surge_network_ratio",
            "class network",
            "The same as `surge_ratio`, for what comes from one of the named networks.",
            "Where a surge comes from. `other` is all clients in no network that has a name. Only "
            "networks from which the class had mail in the last half hour are here.",
        ),
        _gauge(
            "surge_network_alarm",
            "class network",
            "The same as `surge_alarm`, for what comes from one of the named networks.",
            "It tells, and has no effect.",
        ),
        _counter(
            "surge_unexpected_work_seconds_total",
            "class",
            "Time that the unloaded backend needs for what came beyond the expected, in surges.",
            "Its rate is the number of slots that a surge costs; more than there are to spare will "
            "fill the spool. It stands still while the backend's speed is not known.",
        ),
        _counter(
            "recipient_verifications_total",
            "result",
            "Recipients of our domains at RCPT, by what was known of the mailbox.",
            "`cached_...` was known, `known` and `unknown` was asked of the backend, `listed` and "
            "`unlisted` is of `recipients_file`. `accepts_all`: the backend takes any address of "
            "the domain, so it is not asked. `unverified_...`: it gave no answer; trusted clients "
            "were believed, strangers told to come back. A rise of unknown ones is a harvest of "
            "addresses, or a sender with an old list.",
        ),
        _histogram(
            "message_size_bytes",
            "class",
            "Size of accepted messages in wire form.",
            "A class that grows here costs the backend more per message.",
            SIZE_BUCKETS,
        ),
    ),
    "Latency": (
        _histogram(
            "transaction_duration_seconds",
            "class outcome",
            "Time from MAIL to the reply to the mail data.",
            "What the client waits, whatever comes of it.",
            TRANSACTION_BUCKETS,
        ),
        _histogram(
            "slot_wait_seconds",
            "class",
            "Time that live messages waited for a slot of the backend, in vain or not.",
            "How far a class is from being shed: at the end of its patience the message is "
            "spooled. All in the first bucket means that there is room.",
            SLOT_BUCKETS,
        ),
        _counter(
            "delivered_messages_total",
            "class timeliness",
            "Messages that the backend took, by whether within the class's objective.",
            "Counted from the arrival of the whole message, live or through the spool; a message "
            "whose recipients are taken one after the other counts at each. The share of `late` is "
            "how the promise of the class is kept.",
        ),
        _counter(
            "delivered_bytes_total",
            "class",
            "Mail data that the backend took.",
            "What each class costs the backend; with `message_size_bytes_sum`, what came in.",
        ),
        _histogram(
            "delivery_stage_seconds",
            "backend stage",
            "Time of deliveries to the backend, by stage.",
            "`service` is from MAIL sent to the reply to the final dot: the backend's own speed. "
            "`connect` only counts new connections.",
            SECONDS_BUCKETS,
        ),
        _histogram(
            "call_ahead_seconds",
            "",
            "Time from a question to the backend's answer whether it has a mailbox.",
            "A client waits for it at RCPT. Over 1 s: a slow directory, or the backend holds back "
            "the refusal of unknown users (Exchange: `TarpitInterval`).",
            QUESTION_BUCKETS,
        ),
        _histogram(
            "queue_wait_seconds",
            "class",
            "Time that delivered messages had been in the spool.",
            "The price of shedding. Compare with `queue_age_objective_seconds`.",
            WAIT_BUCKETS,
        ),
        _histogram(
            "spool_sync_seconds",
            "",
            "Time of one durable commit of the spool.",
            "Each spooled message waits for one. Over 0.1 s the disk is the bottleneck.",
            SECONDS_BUCKETS,
        ),
        _histogram(
            "event_loop_lag_seconds",
            "",
            "How late the event loop ran a timer.",
            "Over 0.1 s something computes or blocks where it must not; all sessions wait.",
            SECONDS_BUCKETS,
        ),
    ),
    "Backend": (
        _gauge(
            "backend_up",
            "backend",
            "Whether the backend answers.",
            "0: the breaker is open, mail goes to the spool, one probe at a time is made.",
        ),
        _gauge(
            "backend_breaker_state",
            "backend state",
            "Which state the breaker is in: 1 for that one, 0 for the others.",
            "`half_open`: the backend answers again and gets more and more mail, all of it half a "
            "minute later. Often: it comes and goes.",
        ),
        _gauge(
            "backend_stuck_senders",
            "backend",
            "Senders whose messages have had no answer for a minute, or are in doubt since.",
            "More of them than half of the slots open the breaker: the backend takes mail in and "
            "does not answer.",
        ),
        _counter(
            "backend_endings_total",
            "backend ending",
            "How messages ended, as far as the backend's health and room are concerned.",
            "`busy` is a backend out of room; `refused` no connection, or 421: often its own limit "
            "of them; `stalled` and `in_doubt` no answer in time. `recipient` and `policy` are 4xx "
            "that say nothing about load.",
        ),
        _gauge(
            "backend_in_flight",
            "backend",
            "Messages being handed to the backend.",
            "At `backend_in_flight_limit` the backend is used fully and classes begin to wait.",
        ),
        _gauge(
            "backend_in_flight_limit",
            "backend",
            "Most messages that may be handed to the backend at a time.",
            "The limit in force.",
        ),
        _gauge(
            "backend_in_flight_ceiling",
            "backend",
            "Slots that are never exceeded; up to it clinical mail may overdraw the limit.",
            "`in_flight_max`.",
        ),
        _gauge(
            "backend_reserved_slots",
            "backend",
            "Slots that are kept free for clinical mail.",
            "0 where its strict priority is enough. More: the backend is slow for so few slots.",
        ),
        _gauge(
            "backend_live_waiting",
            "backend",
            "Messages below rank 0 that wait for a slot while their client does.",
            "At `backend_live_waiting_limit` more of them go to the spool at once.",
        ),
        _gauge("backend_live_waiting_limit", "backend", "Most of them.", "Half of the slots."),
        _gauge(
            "backend_waiting",
            "backend",
            "Messages that wait for a slot of the backend, live and spooled.",
            "Above 0 for long: more mail comes than the backend takes.",
        ),
        _gauge(
            "backend_connections",
            "backend state",
            "Open connections to the backend.",
            "`idle` ones are kept for the next message.",
        ),
        _counter(
            "backend_connections_opened_total",
            "backend",
            "Connections that were opened to the backend.",
            "Nearly as many as messages means that connections are not reused.",
        ),
        _counter(
            "backend_connection_failures_total",
            "backend",
            "Connections to the backend that could not be opened.",
            "The network, the name, or the backend's own limit of connections.",
        ),
        _counter(
            "backend_replies_total",
            "backend stage code_class",
            "Replies of the backend, by stage of the dialog; `none` is no reply in time.",
            "`4xx` at `connect` or `dot` is a backend under load; `none` at `dot`, mail in doubt.",
        ),
        _counter(
            "deliveries_total",
            "class source result",
            "Results of delivery attempts, in recipients.",
            "`source` is `live` (the client is waiting) or `spool`. `in_doubt` bounds duplicates.",
        ),
        _gauge(
            "messages_in_flight",
            "class",
            "Messages being handed to the backend, by class.",
            "Who uses the slots.",
        ),
        _gauge(
            "messages_in_flight_limit",
            "class",
            "Slots in use, by all classes, at which the class has to wait.",
            "Its `threshold` of the limit (where slots come back fast: all of it), less the slots "
            "reserved for clinical mail. Its `guarantee` it may have in any case.",
        ),
        _gauge(
            "messages_waiting",
            "class",
            "Messages that wait for a slot, live and spooled, by class.",
            "Who is next. Clinical mail here for more than a moment is an inversion: report it.",
        ),
        _counter(
            "in_doubt_total",
            "class",
            "Messages whose final dot got no answer.",
            "Each may have been delivered and is delivered again: the bound on duplicates.",
        ),
    ),
    "Spool": (
        _gauge(
            "queue_messages",
            "class state",
            "Messages in the spool.",
            "`hold` and `corrupt` wait for an operator.",
        ),
        _gauge("queue_recipients", "class state", "Recipients in the spool.", "As the ledger."),
        _gauge("queue_bytes", "class", "Mail data in the spool.", "What each class fills."),
        _gauge(
            "queue_oldest_message_age_seconds",
            "class",
            "Age of the oldest message that waits for its delivery; 0 if there is none.",
            "Alarm when it passes `queue_age_objective_seconds`. Mail in `hold` or `corrupt` waits "
            "for a person and has no part in it. A class that is not configured "
            "any more is here while mail of it is.",
        ),
        _gauge(
            "queue_age_objective_seconds",
            "class",
            "Delay that is promised for the class.",
            "From the configuration, so that alerts need no figures of their own.",
        ),
        _gauge(
            "queue_drain_seconds",
            "class",
            "Time until the spool has no more mail of the class, if it goes on as now.",
            "From the work that waits, the work that comes in, and what the backend can do. Not "
            "there while that is not known, or the backlog does not shrink.",
        ),
        _gauge("spool_bytes", "", "Mail data in the spool.", "At the limit, clients get 452."),
        _gauge("spool_bytes_limit", "", "Most mail data the spool may hold.", "`octets_max`."),
        _gauge("spool_messages", "", "Messages in the spool.", "At the limit, clients get 452."),
        _gauge("spool_messages_limit", "", "Most messages the spool may hold.", "`messages_max`."),
        _gauge(
            "spool_disk_free_bytes",
            "",
            "Free space on the spool's file system.",
            "Below `spool_disk_reserve_bytes` nothing is spooled, so that marks can be written.",
        ),
        _gauge("spool_disk_reserve_bytes", "", "Space that stays free.", "`disk_reserve`."),
        _gauge(
            "spool_healthy",
            "",
            "Whether the spool takes mail.",
            "0 is relay-only mode: mail passes while the backend takes it, otherwise clients "
            "get 4xx.",
        ),
        _counter(
            "messages_postponed_total",
            "class cause",
            "Times that a due message of the spool was not tried.",
            "`mailbox`: all its mailboxes are held. `retry_budget`: it is a retry, and nearly all "
            "retries fail; see `retry_tokens`.",
        ),
        _gauge(
            "held_mailboxes",
            "",
            "Mailboxes that get no mail for a while, because they are full or busy.",
            "Mail for them waits, other mail does not. Many at once: a quota, or a full disk.",
        ),
        _gauge(
            "held_mailboxes_limit",
            "",
            "Most of them.",
            "At the limit, those that failed longest ago are simply tried again.",
        ),
        _gauge(
            "retry_tokens",
            "",
            "Retries that might begin now.",
            "Near 0: the backend fails what it is given again, so retries are a tenth of all "
            "attempts.",
        ),
        _gauge("retry_tokens_limit", "", "Most of them.", "What a calm backend has."),
        _counter(
            "reports_total",
            "class kind",
            "Reports to senders about their spooled mail, by what they tell.",
            "`failed`: returned for good. `delayed`: still waiting after `report_after` of the "
            "class. Their mail is `generated` in the ledger.",
        ),
        _counter(
            "recipients_ledger_total",
            "class term",
            "Recipients that entered the spool and left it, by term of the conservation law.",
            "accepted + generated - delivered - bounced - refused - expired - removed must equal "
            "`queue_recipients`. Anything else is lost or invented mail.",
        ),
    ),
    "Saturation": (
        _gauge(
            "saturation_ratio",
            "resource",
            "How full each resource is, 1 being its limit.",
            "`backend_slots` is 1 while the backend is away; `spool_disk` is the reserve over free "
            "space, 1 once free space is down to the reserve. `backend` is how hard pressed the "
            "backend is, `waits` how long even the luckiest wait for a slot, `spool_age` how much "
            "too old spooled mail is that has not been tried.",
        ),
        _gauge(
            "saturation_binding_info",
            "resource",
            "Always 1, for the resource that binds: the fullest one.",
            "More of any other would not help. Slots, the places to wait for one and the memory "
            "for mail data are there to be used up, and never bind.",
        ),
        _gauge(
            "pressure_ratio",
            "",
            "Saturation of the resource that binds, averaged over some seconds.",
            "From 0.5 on mail servers that send bulk mail get slow replies; between 0.7 and 0.5 "
            "quotas begin and cease to bite.",
        ),
        _gauge(
            "shed_level",
            "",
            "How much is shed: 0 nothing, 1 slow bulk, 2 bulk waits, 3 telework and applications "
            "wait, 4 all but clinical and continuity mail waits.",
            "For people. An operator may force it; see `derived_shed_level`.",
        ),
        _gauge(
            "derived_shed_level",
            "",
            "What the shed level would be by itself.",
            "If it differs from `shed_level`, an operator has forced that.",
        ),
        _gauge(
            "backend_offered_ratio",
            "backend",
            "Work that is offered over what the backend can do.",
            "2 is twice the mail that it can take. Not there until its capacity is known.",
        ),
        _gauge(
            "backend_slowness_ratio",
            "backend",
            "How many times as long as unloaded the backend takes, by the median message.",
            "1 is unloaded. Above 2 it is the queue inside the backend, or it has become slower "
            "for other reasons; the limit falls. Of adaptive limits only, like the next ones.",
        ),
        _gauge(
            "backend_queue_messages",
            "backend",
            "Messages of ours that wait inside the backend, on average.",
            "What waits there is beyond the reach of classes, so it is kept near three to six, or "
            "a tenth to a fifth of the limit.",
        ),
        _gauge(
            "backend_capacity_slots",
            "backend",
            "The most work that the backend has done lately, in seconds of service a second.",
            "As many messages as it works on at the same time. 0 until it is known.",
        ),
        _gauge(
            "backend_connections_limit",
            "backend",
            "Connections that the backend allows us, as learned from its 421.",
            "Not there if it has refused none. Clinical mail stays within it, too.",
        ),
        _gauge(
            "backend_limit_probing",
            "backend",
            "Whether the limit is held down for a moment, to see the backend unloaded.",
            "A second or two in ten minutes is normal under load.",
        ),
        _gauge(
            "backend_stage_slowness_ratio",
            "backend stage",
            "How many times as long as unloaded each stage takes, by the median message.",
            "`mail` alone: the backend delays us on purpose (a tarpit). `data` alone: its disk, or "
            "a scanner.",
        ),
        _counter(
            "backend_limit_changes_total",
            "backend cause",
            "Changes of the limit, by cause.",
            "`room` and `slow_start` raise it, `queue`, `response`, `busy`, `stall`, `refused` and "
            "`away` lower it. Many of `refused`: the backend allows fewer connections than there "
            "are messages in flight.",
        ),
        _gauge(
            "backend_drain_slots",
            "backend",
            "Slots that spooled mail of rank 2 and worse may have in any case.",
            "Grows step by step while the backend has no queue; beyond it, spooled mail has what "
            "live mail leaves.",
        ),
        _gauge(
            "class_load_ratio",
            "class",
            "Share of the backend's capacity that a class and all better ones ask for.",
            "Above `class_headroom_ratio` it does not fit, and the class diverts to the spool. Not "
            "there until the capacity is known.",
        ),
        _gauge(
            "class_headroom_ratio",
            "class",
            "Share of the backend's capacity that a class and all better ones may have.",
            "1 less the guarantees of the worse classes that have mail waiting.",
        ),
        _gauge(
            "class_saturation_ratio",
            "class",
            "How near a class is to not fitting.",
            "That of clinical mail is the one number to watch: it must stay far below 1.",
        ),
        _gauge(
            "class_kept_back",
            "class",
            "Whether new mail of the class is spooled at once.",
            "1: since more comes than fits, or since an operator said so.",
        ),
        _gauge(
            "slow_reply_sessions",
            "",
            "Sessions whose reply to MAIL is late on purpose.",
            "At the limit, further replies come at once.",
        ),
        _gauge("slow_reply_sessions_limit", "", "Most of them.", "`limits.slow_replies_max`."),
        _counter(
            "slow_replies_total",
            "",
            "Replies to MAIL that were late on purpose.",
            "Mail servers that send bulk or telework mail were slowed down so often.",
        ),
        _gauge("smtp_sessions", "", "Open SMTP sessions.", "At the limit, clients get 421."),
        _gauge("smtp_sessions_limit", "", "Most SMTP sessions.", "`sessions_max`."),
        _gauge(
            "content_memory_bytes",
            "",
            "Memory used by mail data in transit.",
            "At the limit, mail data goes to disk.",
        ),
        _gauge("content_memory_limit_bytes", "", "Most of it.", "`content_memory_max`."),
        _gauge(
            "content_disk_bytes",
            "",
            "Disk used by mail data in transit.",
            "At the limit, clients get 452.",
        ),
        _gauge("content_disk_limit_bytes", "", "Most of it.", "`content_disk_max`."),
        _gauge(
            "cached_recipients",
            "",
            "Addresses of which it is remembered whether the backend takes them.",
            "At the limit, those not used for longest are asked about again.",
        ),
        _gauge("cached_recipients_limit", "", "Most of them.", "`verification.entries_max`."),
        _gauge(
            "spool_fill_ratio",
            "",
            "How full the spool is by its fullest measure, 1 being its limit.",
            "At `defer_fill` of a class, mail servers get 4xx instead of the spool.",
        ),
        _gauge(
            "quota_keys",
            "",
            "Senders, networks and classes whose quotas are remembered.",
            "At the limit those not heard of for longest begin anew.",
        ),
        _gauge("quota_keys_limit", "", "Most of them.", "`quotas.entries_max`."),
        _gauge(
            "retry_clients",
            "",
            "Clients that were told 4xx and have not come back yet.",
            "At the limit those told longest ago are forgotten.",
        ),
        _gauge("retry_clients_limit", "", "Most of them.", "Fixed."),
        _gauge(
            "memory_bytes",
            "",
            "Memory of the process.",
            "At the limit the kernel kills it. Open files are `process_open_fds`, of "
            "`process_max_fds`.",
        ),
        _gauge("memory_limit_bytes", "", "Most of it.", "Of the control group, or the machine."),
    ),
    "Health": (
        _gauge("build_info", "version", "Always 1.", "Which release runs where."),
        _gauge("config_info", "hash", "Always 1.", "Which configuration is in force."),
        _gauge(
            "observe_mode",
            "",
            "Whether mailshed only watches: it decides and counts, and acts on nothing.",
            "1 is for the first days. The backend is not protected.",
        ),
        _gauge(
            "override_active",
            "kind class",
            "Overrides by operators that are in force; no class for a forced level.",
            "`hold`, `limit`, `release` of a class, or `level`; `mailshed override list` has who"
            " and why. While observing they act on nothing.",
        ),
        _gauge(
            "override_age_seconds",
            "kind class",
            "How long each has been in force.",
            "One that is older than a day was forgotten, or belongs in the configuration.",
        ),
        _gauge(
            "class_rank",
            "class",
            "Rank of each class; 0 goes first.",
            "So that rules know clinical mail (0), whatever a site calls it.",
        ),
        _gauge(
            "config_last_reload_successful",
            "",
            "Whether the last reload was accepted.",
            "0: the file on disk is faulty, and a restart would fail.",
        ),
        _gauge(
            "config_last_reload_success_timestamp_seconds",
            "",
            "Unix time at which the configuration in force was loaded.",
            "Older than the file: someone forgot to reload.",
        ),
        _gauge(
            "snapshot_age_seconds",
            "",
            "Age of the snapshot behind all gauges.",
            "Over 1 s the main loop is blocked, and the gauges are of then.",
        ),
        _counter(
            "tasks_failed_total",
            "",
            "Tasks that ended with an unexpected exception.",
            "Each is in the log with its traceback. Please report it.",
        ),
        _counter(
            "log_lines_dropped_total",
            "",
            "Log lines lost because their reader had stalled.",
            "journald, or whatever reads standard error, does not keep up.",
        ),
    ),
}
"""All families, by the question they answer."""

FAMILIES: dict[str, Family] = {
    family.name: family for section in SECTIONS.values() for family in section
}


def reference() -> str:
    """The page docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "Generated from `mailshed/metrics/catalog.py`; do not edit. Every metric is exported on",
        "`/metrics` with the prefix `mailshed_`, in base units. Gauges are of one snapshot, made",
        "every 250 ms, so they agree with each other. No label ever holds an address, a client or",
        "a queue id.",
        "",
    ]
    for title, families in SECTIONS.items():
        lines += [f"## {title}", ""]
        for family in families:
            labels = f" by {', '.join(f'`{label}`' for label in family.labels)}"
            lines += [
                f"### `{family.full_name}`",
                "",
                f"{family.kind.value.capitalize()}{labels if family.labels else ''}. {family.help}",
                "",
                f"*How to read it:* {family.reading}",
                "",
            ]
    lines += ["## Labels", ""]
    lines += [
        f"- `{label}`: {', '.join(f'`{value}`' for value in values)}"
        for label, values in CLOSED_SETS.items()
    ]
    lines += ["- `class`, `listener`, `backend`: names from the configuration", ""]
    return "\n".join(lines)
