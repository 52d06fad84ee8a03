"""What waits on disk, how old it is, when it will be gone, and that nothing is missing."""

from mailshed.metrics.family import counter, gauge

SPOOL = (
    gauge(
        "queue_messages",
        "class state",
        "Messages in the spool.",
        "`hold` and `corrupt` wait for an operator.",
    ),
    gauge("queue_recipients", "class state", "Recipients in the spool.", "As the ledger."),
    gauge("queue_bytes", "class", "Mail data in the spool.", "What each class fills."),
    gauge(
        "queue_oldest_message_age_seconds",
        "class",
        "Age of the oldest message that waits for its delivery; 0 if there is none.",
        "Alarm when it passes `queue_age_objective_seconds`. Mail in `hold` or `corrupt` waits "
        "for a person and has no part in it. A class that is not configured "
        "any more is here while mail of it is.",
    ),
    gauge(
        "queue_age_objective_seconds",
        "class",
        "Delay that is promised for the class.",
        "From the configuration, so that alerts need no figures of their own.",
    ),
    gauge(
        "queue_drain_seconds",
        "class",
        "Time until the spool has no more mail of the class, if it goes on as now.",
        "From the work that waits, the work that comes in, and what the backend can do. Not "
        "there while that is not known, or the backlog does not shrink, as while the backend is "
        "away or the class is held.",
    ),
    gauge("spool_bytes", "", "Mail data in the spool.", "At the limit, clients get 452."),
    gauge("spool_bytes_limit", "", "Most mail data the spool may hold.", "`octets_max`."),
    gauge("spool_messages", "", "Messages in the spool.", "At the limit, clients get 452."),
    gauge("spool_messages_limit", "", "Most messages the spool may hold.", "`messages_max`."),
    gauge(
        "spool_disk_free_bytes",
        "",
        "Free space on the spool's file system.",
        "Below `spool_disk_reserve_bytes` nothing is spooled, so that marks can be written.",
    ),
    gauge("spool_disk_reserve_bytes", "", "Space that stays free.", "`disk_reserve`."),
    gauge(
        "spool_healthy",
        "",
        "Whether the spool takes mail.",
        "0 is relay-only mode: mail passes while the backend takes it, otherwise clients get 4xx.",
    ),
    counter(
        "messages_postponed_total",
        "class cause",
        "Times that a due message of the spool was not tried.",
        "`mailbox`: all its mailboxes are held. `retry_budget`: it is a retry, and nearly all "
        "retries fail; see `retry_tokens`.",
    ),
    gauge(
        "held_mailboxes",
        "",
        "Mailboxes that get no mail for a while, because they are full or busy.",
        "Mail for them waits, other mail does not. Many at once: a quota, or a full disk.",
    ),
    gauge(
        "held_mailboxes_limit",
        "",
        "Most of them.",
        "At the limit, those that failed longest ago are simply tried again.",
    ),
    gauge(
        "retry_tokens",
        "",
        "Retries that might begin now.",
        "Near 0: the backend fails what it is given again, so retries are a tenth of all attempts.",
    ),
    gauge("retry_tokens_limit", "", "Most of them.", "What a calm backend has."),
    counter(
        "reports_total",
        "class kind",
        "Reports to senders about their mail, by what they tell.",
        "`failed`: returned for good. `delayed`: still waiting after `report_after` of the "
        "class. `relayed`, `delivered`: a success that the sender wanted to hear of. `summary`: "
        "one in place of many. Their mail is `generated` in the ledger.",
    ),
    counter(
        "reports_limited_total",
        "",
        "Recipients that were not reported one by one, since their sender had too many reports.",
        "They are in a summary and in the log. A rise: a list of dead addresses, or a program "
        "gone wild.",
    ),
    counter(
        "downgrades_total",
        "kind",
        "Transactions in which the backend did not offer what the message would have needed.",
        "`8bitmime`: sent all the same, without the label. `smtputf8`: not sent; it waits for a "
        "day and is returned then.",
    ),
    counter(
        "recipients_ledger_total",
        "class term",
        "Recipients that entered the spool and left it, by term of the conservation law.",
        "accepted + generated - delivered - bounced - refused - expired - removed must equal "
        "`queue_recipients`. Anything else is lost or invented mail.",
    ),
)
