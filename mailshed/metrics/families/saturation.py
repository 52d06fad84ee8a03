"""How full everything is that has a limit, what is shed for it, and how the limit moves."""

from mailshed.metrics.family import counter, gauge

SATURATION = (
    gauge(
        "saturation_ratio",
        "resource",
        "How full each resource is, 1 being its limit.",
        "`backend_slots` is 1 while the backend is away; `spool_disk` is the reserve over free "
        "space, 1 once free space is down to the reserve. `backend` is how hard pressed the "
        "backend is, `waits` how long even the luckiest wait for a slot, `spool_age` how much "
        "too old spooled mail is that has not been tried.",
    ),
    gauge(
        "saturation_binding_info",
        "resource",
        "Always 1, for the resource that binds: the fullest one.",
        "More of any other would not help. Slots, the places to wait for one and the memory "
        "for mail data are there to be used up, and never bind.",
    ),
    gauge(
        "pressure_ratio",
        "",
        "Saturation of the resource that binds, averaged over some seconds.",
        "From 0.5 on mail servers that send bulk mail get slow replies; between 0.7 and 0.5 "
        "quotas begin and cease to bite.",
    ),
    gauge(
        "shed_level",
        "",
        "How much is shed: 0 nothing, 1 slow bulk, 2 bulk waits, 3 telework and applications "
        "wait, 4 all but clinical and continuity mail waits.",
        "For people. An operator may force it; see `derived_shed_level`.",
    ),
    gauge(
        "derived_shed_level",
        "",
        "What the shed level would be by itself.",
        "If it differs from `shed_level`, an operator has forced that.",
    ),
    gauge(
        "backend_offered_ratio",
        "backend",
        "Work that is offered over what the backend can do.",
        "2 is twice the mail that it can take. Not there until its capacity is known.",
    ),
    gauge(
        "backend_slowness_ratio",
        "backend",
        "How many times as long as unloaded the backend takes, by the median message.",
        "1 is unloaded. Above 2 it is the queue inside the backend, or it has become slower "
        "for other reasons; the limit falls. Of adaptive limits only, like the next ones.",
    ),
    gauge(
        "backend_queue_messages",
        "backend",
        "Messages of ours that wait inside the backend, on average.",
        "What waits there is beyond the reach of classes, so it is kept near two to five, or "
        "a tenth to a fifth of the limit.",
    ),
    gauge(
        "backend_capacity_slots",
        "backend",
        "The most work that the backend has done lately, in seconds of service a second.",
        "As many messages as it works on at the same time. 0 until it is known.",
    ),
    gauge(
        "backend_connections_limit",
        "backend",
        "Connections that the backend allows us, as learned from its 421.",
        "Not there if it has refused none. Clinical mail stays within it, too.",
    ),
    gauge(
        "backend_limit_probing",
        "backend",
        "Whether the limit is held down for a moment, to see the backend unloaded.",
        "A second or two in ten minutes is normal under load.",
    ),
    gauge(
        "backend_stage_slowness_ratio",
        "backend stage",
        "How many times as long as unloaded each stage takes, by the median message.",
        "`mail` alone: the backend delays us on purpose (a tarpit). `data` alone: its disk, or "
        "a scanner.",
    ),
    counter(
        "backend_limit_changes_total",
        "backend cause",
        "Changes of the limit, by cause.",
        "`room` and `slow_start` raise it, `queue`, `response`, `busy`, `stall`, `refused`, "
        "`delayed` and `away` lower it. Many of `refused`: the backend allows fewer connections "
        "than there are messages in flight.",
    ),
    gauge(
        "backend_drain_slots",
        "backend",
        "Slots that spooled mail of rank 2 and worse may have in any case.",
        "Grows step by step while the backend has no queue; beyond it, spooled mail has what "
        "live mail leaves.",
    ),
    gauge(
        "class_load_ratio",
        "class",
        "Share of the backend's capacity that a class and all better ones ask for.",
        "Above `class_headroom_ratio` it does not fit, and the class diverts to the spool. Not "
        "there until the capacity is known.",
    ),
    gauge(
        "class_headroom_ratio",
        "class",
        "Share of the backend's capacity that a class and all better ones may have.",
        "1 less the guarantees of the worse classes that have mail waiting.",
    ),
    gauge(
        "class_saturation_ratio",
        "class",
        "How near a class is to not fitting.",
        "That of clinical mail is the one number to watch: it must stay far below 1.",
    ),
    gauge(
        "class_kept_back",
        "class",
        "Whether new mail of the class is spooled at once.",
        "1: since more comes than fits, or since an operator said so.",
    ),
    gauge(
        "slow_reply_sessions",
        "",
        "Sessions whose reply to MAIL is late on purpose.",
        "At the limit, further replies come at once.",
    ),
    gauge("slow_reply_sessions_limit", "", "Most of them.", "`limits.slow_replies_max`."),
    counter(
        "slow_replies_total",
        "",
        "Replies to MAIL that were late on purpose.",
        "Mail servers that send bulk or telework mail were slowed down so often.",
    ),
    gauge("smtp_sessions", "", "Open SMTP sessions.", "At the limit, clients get 421."),
    gauge(
        "tls_open_handshakes",
        "",
        "TLS handshakes with clients that are under way; none without TLS.",
        "Near `tls_open_handshakes_limit` somebody begins many and does not finish them.",
    ),
    gauge(
        "tls_open_handshakes_limit",
        "",
        "Most of them (`tls.handshakes_max`).",
        "Beyond, STARTTLS gets 454, and connections that begin with TLS are closed.",
    ),
    gauge(
        "smtp_stress_mode",
        "",
        "Whether sessions are scarce, so that strangers have less time.",
        "1 from 80 % of `limits.sessions_max` until below 60 %: `limits.stress_timeout` holds.",
    ),
    gauge("smtp_sessions_limit", "", "Most SMTP sessions.", "`sessions_max`."),
    gauge(
        "content_memory_bytes",
        "",
        "Memory used by mail data in transit.",
        "At the limit, mail data goes to disk.",
    ),
    gauge("content_memory_limit_bytes", "", "Most of it.", "`content_memory_max`."),
    gauge(
        "content_disk_bytes",
        "",
        "Disk used by mail data in transit.",
        "At the limit, clients get 452.",
    ),
    gauge("content_disk_limit_bytes", "", "Most of it.", "`content_disk_max`."),
    gauge(
        "cached_recipients",
        "",
        "Addresses of which it is remembered whether the backend takes them.",
        "At the limit, those not used for longest are asked about again.",
    ),
    gauge("cached_recipients_limit", "", "Most of them.", "`verification.entries_max`."),
    gauge(
        "remembered_logins",
        "",
        "Entries of the fullest table about logins: failures, homes, right passwords.",
        "At the limit the oldest are forgotten: then some wrong passwords of a flood of them "
        "count for nobody.",
    ),
    gauge("remembered_logins_limit", "", "Most of them.", "`authentication.entries_max`."),
    gauge(
        "spool_fill_ratio",
        "",
        "How full the spool is by its fullest measure, 1 being its limit.",
        "At `defer_fill` of a class, mail servers get 4xx instead of the spool.",
    ),
    gauge(
        "quota_keys",
        "",
        "Senders, networks and classes whose quotas are remembered.",
        "At the limit those not heard of for longest begin anew.",
    ),
    gauge("quota_keys_limit", "", "Most of them.", "`quotas.entries_max`."),
    gauge(
        "retry_clients",
        "",
        "Clients that were told 4xx and have not come back yet.",
        "At the limit those told longest ago are forgotten.",
    ),
    gauge("retry_clients_limit", "", "Most of them.", "Fixed."),
    gauge(
        "memory_bytes",
        "",
        "Memory of the process.",
        "At the limit the kernel kills it. Open files are `process_open_fds`, of "
        "`process_max_fds`.",
    ),
    gauge("memory_limit_bytes", "", "Most of it.", "Of the control group, or the machine."),
)
