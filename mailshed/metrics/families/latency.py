"""How long it takes: for clients, in the queue, for a slot, at each stage of the backend."""

from mailshed.metrics.family import (
    QUESTION_BUCKETS,
    SECONDS_BUCKETS,
    SLOT_BUCKETS,
    STAGE_BUCKETS,
    TRANSACTION_BUCKETS,
    WAIT_BUCKETS,
    counter,
    histogram,
)

LATENCY = (
    histogram(
        "transaction_duration_seconds",
        "class outcome",
        "Time from MAIL to the reply to the mail data.",
        "What the client waits, whatever comes of it.",
        TRANSACTION_BUCKETS,
    ),
    histogram(
        "slot_wait_seconds",
        "class",
        "Time that live messages waited for a slot of the backend, in vain or not.",
        "How far a class is from being shed: at the end of its patience the message is "
        "spooled. All in the first bucket means that there is room.",
        SLOT_BUCKETS,
    ),
    counter(
        "delivered_messages_total",
        "class timeliness",
        "Messages that the backend took, by whether within the class's objective.",
        "Counted from the arrival of the whole message, live or through the spool; a message "
        "whose recipients are taken one after the other counts at each. The share of `late` is "
        "how the promise of the class is kept.",
    ),
    counter(
        "delivered_bytes_total",
        "class",
        "Mail data that the backend took.",
        "What each class costs the backend; with `message_size_bytes_sum`, what came in.",
    ),
    histogram(
        "delivery_stage_seconds",
        "backend stage",
        "Time of deliveries to the backend, by stage.",
        "`service` is from MAIL sent to the reply to the final dot: the backend's own speed. "
        "`connect` only counts new connections.",
        STAGE_BUCKETS,
    ),
    histogram(
        "call_ahead_seconds",
        "",
        "Time from a question to the backend's answer whether it has a mailbox.",
        "A client waits for it at RCPT. Over 1 s: a slow directory, or the backend holds back "
        "the refusal of unknown users (Exchange: `TarpitInterval`).",
        QUESTION_BUCKETS,
    ),
    histogram(
        "queue_wait_seconds",
        "class",
        "Time that delivered messages had been in the spool.",
        "The price of shedding. Compare with `queue_age_objective_seconds`.",
        WAIT_BUCKETS,
    ),
    histogram(
        "spool_sync_seconds",
        "",
        "Time of one durable commit of the spool.",
        "Each spooled message waits for one. Over 0.1 s the disk is the bottleneck.",
        SECONDS_BUCKETS,
    ),
    histogram(
        "event_loop_lag_seconds",
        "",
        "How late the event loop ran a timer.",
        "Over 0.1 s something computes or blocks where it must not; all sessions wait.",
        SECONDS_BUCKETS,
    ),
)
