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
        "smtp_connections_refused_total",
        "cause",
        "SMTP connections that got no session, by what kept them out.",
        "`total`: `limits.sessions_max`. `address`, `network`, `rate`: one client, or one "
        "network, has too many or opens them too fast. `no_proxy`: a peer that is not in "
        "`trusted_proxies` where a PROXY header is asked for. `proxy_header`: a proxy that sent "
        "none, or one that cannot be read.",
    ),
    counter(
        "smtp_sessions_overdue_total",
        "phase",
        "SMTP sessions that were ended since the client was too slow, by what it was slow with.",
        "`command`: the next one did not come; common. `line`: it did not end. `data`: mail data "
        "stood still or dripped. `reply`: replies were not read. `no_mail`: a session without "
        "any message. A rise of all but the first is a flood of slow clients, or a network that "
        "loses packets.",
    ),
    counter(
        "tls_handshakes_total",
        "result",
        "TLS handshakes with clients, by how they ended.",
        "`failed` are port scanners, devices that are too old, and clients that do not trust our "
        "certificate: a rise after a new certificate is a chain that is not whole. `timeout`: "
        "begun and not finished. `refused`: `tls.handshakes_max` or `tls.handshakes_per_network`. "
        "Why is in the log (`tls_failed`).",
    ),
    counter(
        "tls_sessions_total",
        "protocol",
        "TLS sessions with clients, by version.",
        "Once nobody comes with TLS 1.2 any more, `tls.minimum` can be raised.",
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
    counter(
        "authentications_total",
        "result",
        "Attempts of clients to authenticate, by what came of them.",
        "`rejected` is a wrong password: a rise is somebody guessing, or a password that was "
        "changed. `limited` was not looked at after too many of them. `unavailable`: nobody could "
        "say, so users cannot send; see `verifier_failing` in the log.",
    ),
    histogram(
        "message_size_bytes",
        "class",
        "Size of accepted messages in wire form.",
        "A class that grows here costs the backend more per message.",
        SIZE_BUCKETS,
    ),
)
