"""What passes: connections, replies, messages and recipients, decisions and their reasons."""

from mailshed.metrics.family import SIZE_BUCKETS, counter, gauge, histogram

TRAFFIC = (
    counter(
        "smtp_connections_total",
        "listener result",
        "SMTP connections, by whether they got a session.",
        "`refused` got 421 at once: the limit of sessions, or a service that is stopping.",
    ),
    counter(
        "smtp_replies_total",
        "listener verb code",
        "Replies to SMTP clients, by command and reply code.",
        "`dot` is the reply to the mail data. A rise of 4xx there means that senders keep "
        "their mail; of 5xx, that mail is refused.",
    ),
    counter(
        "messages_accepted_total",
        "class disposition",
        "Messages that got our 250, by what stood behind it.",
        "`relayed`: the backend's own 250. `spooled`: a durable commit. The share of `spooled` "
        "is how much is being shed.",
    ),
    counter(
        "recipients_accepted_total",
        "class",
        "Recipients of the messages that got our 250.",
        "Divided by the messages: how many people one message reaches.",
    ),
    counter(
        "decisions_total",
        "class action reason",
        "Decisions on messages, by action and reason.",
        "Why mail was not relayed at once: `saturated` and `diverted` are load, `override` an "
        "operator, `backend_away` an outage, "
        "`spool_full` and `spool_sick` need an operator. `spool_filling` and `over_quota` are "
        "what the class and the quotas allow under load.",
    ),
    counter(
        "would_decisions_total",
        "class action reason",
        "While observing: decisions that were not acted on, by action and reason.",
        "What enforcing would have done, one for each message; `reject` with `content` is a "
        "bare CR, LF or NUL. Of those that would `wait`, most would have had a slot in time.",
    ),
    counter(
        "over_quota_total",
        "class quota level",
        "Messages that exceed a quota of their sender, network or class.",
        "Of consequence only under pressure, and never for clinical mail: there it is an "
        "alarm, since somebody sends too much of it or a rule is too wide.",
    ),
    gauge(
        "surge_ratio",
        "class",
        "Messages of the last half hour over the usual number for this time of the week.",
        "2 is twice the usual. The first days have no value, since nothing is usual yet.",
    ),
    gauge(
        "surge_alarm",
        "class",
        "Whether so much more than the usual comes that it is no chance.",
        "An alarm alone throttles nobody; under pressure the class has a quota (`surge.quota`).",
    ),
    gauge(
        "surge_network_ratio",
        "class network",
        "The same as `surge_ratio`, for what comes from one of the named networks.",
        "Where a surge comes from. `other` is all clients in no network that has a name. Only "
        "networks from which the class had mail in the last half hour are here.",
    ),
    gauge(
        "surge_network_alarm",
        "class network",
        "The same as `surge_alarm`, for what comes from one of the named networks.",
        "It tells, and has no effect.",
    ),
    counter(
        "surge_unexpected_work_seconds_total",
        "class",
        "Time that the unloaded backend needs for what came beyond the expected, in surges.",
        "Its rate is the number of slots that a surge costs; more than there are to spare will "
        "fill the spool. It stands still while the backend's speed is not known.",
    ),
    counter(
        "recipient_verifications_total",
        "result",
        "Recipients of our domains at RCPT, by what was known of the mailbox.",
        "`cached_...` was known, `known` and `unknown` was asked of the backend, `listed` and "
        "`unlisted` is of `recipients_file`. `accepts_all`: the backend takes any address of "
        "the domain, so it is not asked. `unverified_...`: it gave no answer; trusted clients "
        "were believed, strangers told to come back. A rise of unknown ones is a harvest of "
        "addresses, or a sender with an old list.",
    ),
    histogram(
        "message_size_bytes",
        "class",
        "Size of accepted messages in wire form.",
        "A class that grows here costs the backend more per message.",
        SIZE_BUCKETS,
    ),
)
