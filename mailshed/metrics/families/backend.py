"""The mail server behind: whether it is there, how mail ends with it, its slots and probes."""

from mailshed.metrics.family import counter, gauge

BACKEND = (
    gauge(
        "backend_up",
        "backend",
        "Whether the backend answers.",
        "0: the breaker is open, mail goes to the spool, one probe at a time is made.",
    ),
    gauge(
        "backend_breaker_state",
        "backend state",
        "Which state the breaker is in: 1 for that one, 0 for the others.",
        "`half_open`: the backend answers again and gets more and more mail, all of it half a "
        "minute later. Often: it comes and goes.",
    ),
    gauge(
        "backend_stuck_senders",
        "backend",
        "Senders whose messages have had no answer for a minute, or are in doubt since.",
        "More of them than half of the slots open the breaker: the backend takes mail in and "
        "does not answer.",
    ),
    counter(
        "backend_endings_total",
        "backend ending",
        "How messages ended, as far as the backend's health and room are concerned.",
        "`busy` is a backend out of room; `refused` no connection, or 421: often its own limit "
        "of them; `stalled` and `in_doubt` no answer in time. `recipient` and `policy` are 4xx "
        "that say nothing about load.",
    ),
    gauge(
        "backend_in_flight",
        "backend",
        "Messages being handed to the backend.",
        "At `backend_in_flight_limit` the backend is used fully and classes begin to wait.",
    ),
    gauge(
        "backend_in_flight_limit",
        "backend",
        "Most messages that may be handed to the backend at a time.",
        "The limit in force.",
    ),
    gauge(
        "backend_in_flight_ceiling",
        "backend",
        "Slots that are never exceeded; up to it clinical mail may overdraw the limit.",
        "`in_flight_max`, or `backend_connections_limit` if that is less.",
    ),
    gauge(
        "backend_reserved_slots",
        "backend",
        "Slots that are kept free for clinical mail.",
        "0 where its strict priority is enough. More: the backend is slow for so few slots.",
    ),
    gauge(
        "backend_live_waiting",
        "backend",
        "Messages below rank 0 that wait for a slot while their client does.",
        "At `backend_live_waiting_limit` more of them go to the spool at once.",
    ),
    gauge("backend_live_waiting_limit", "backend", "Most of them.", "Half of the slots."),
    gauge(
        "backend_waiting",
        "backend",
        "Messages that wait for a slot of the backend, live and spooled.",
        "Above 0 for long: more mail comes than the backend takes.",
    ),
    gauge(
        "backend_spooled_messages",
        "backend",
        "Messages in the spool that are to be delivered to the backend.",
        "Of one that is away it grows; with a fallback that takes them, it does not.",
    ),
    gauge(
        "backend_fallback_active",
        "backend",
        "Whether another backend takes its mail, since it has been away for long.",
        "1: `mailshed status` says which one, and since when.",
    ),
    gauge(
        "backend_connections",
        "backend state",
        "Open connections to the backend.",
        "`idle` ones are kept for the next message.",
    ),
    counter(
        "backend_connections_opened_total",
        "backend",
        "Connections that were opened to the backend.",
        "Nearly as many as messages means that connections are not reused.",
    ),
    counter(
        "backend_connection_failures_total",
        "backend",
        "Connections to the backend that could not be opened.",
        "The network, the name, or the backend's own limit of connections.",
    ),
    counter(
        "backend_replies_total",
        "backend stage code_class",
        "Replies of the backend, by stage of the dialog; `none` is no reply in time.",
        "`4xx` at `connect` or `dot` is a backend under load; `none` at `dot`, mail in doubt.",
    ),
    counter(
        "deliveries_total",
        "class source result",
        "Results of delivery attempts, in recipients.",
        "`source` is `live` (the client is waiting) or `spool`. `in_doubt` bounds duplicates.",
    ),
    gauge(
        "messages_in_flight",
        "class",
        "Messages being handed to the backend, by class.",
        "Who uses the slots.",
    ),
    gauge(
        "messages_in_flight_limit",
        "class",
        "Slots in use, by all classes, at which the class has to wait.",
        "Its `threshold` of the limit (where slots come back fast: all of it), less the slots "
        "reserved for clinical mail. Its `guarantee` it may have in any case.",
    ),
    gauge(
        "messages_waiting",
        "class",
        "Messages that wait for a slot, live and spooled, by class.",
        "Who is next. Clinical mail here for more than a moment is an inversion: report it.",
    ),
    counter(
        "in_doubt_total",
        "class",
        "Messages whose final dot got no answer.",
        "Each may have been delivered and is delivered again: the bound on duplicates.",
    ),
)
