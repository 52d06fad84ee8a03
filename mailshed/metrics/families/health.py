"""Whether the service itself is well: its configuration, its loop, its operators."""

from mailshed.metrics.family import counter, gauge

HEALTH = (
    gauge("build_info", "version", "Always 1.", "Which release runs where."),
    gauge("config_info", "hash", "Always 1.", "Which configuration is in force."),
    gauge(
        "observe_mode",
        "",
        "Whether mailshed only watches: it decides and counts, and acts on nothing.",
        "1 is for the first days. The backend is not protected.",
    ),
    gauge(
        "override_active",
        "kind class",
        "Overrides by operators that are in force; no class for a forced level.",
        "`hold`, `limit`, `release` of a class, or `level`; `mailshed override list` has who"
        " and why. While observing they act on nothing.",
    ),
    gauge(
        "override_age_seconds",
        "kind class",
        "How long each has been in force.",
        "One that is older than a day was forgotten, or belongs in the configuration.",
    ),
    gauge(
        "class_rank",
        "class",
        "Rank of each class; 0 goes first.",
        "So that rules know clinical mail (0), whatever a site calls it.",
    ),
    gauge(
        "config_last_reload_successful",
        "",
        "Whether the last reload was accepted.",
        "0: the file on disk is faulty, and a restart would fail.",
    ),
    gauge(
        "config_last_reload_success_timestamp_seconds",
        "",
        "Unix time at which the configuration in force was loaded.",
        "Older than the file: someone forgot to reload.",
    ),
    gauge(
        "tls_certificate_expiry_timestamp_seconds",
        "",
        "Unix time at which the certificate that clients are shown ends; none without TLS.",
        "Renew it two weeks before; a new file is taken up within seconds. If the file is new and "
        "this is not, see `config_last_reload_successful`.",
    ),
    gauge(
        "snapshot_age_seconds",
        "",
        "Age of the snapshot behind all gauges.",
        "Over 1 s the main loop is blocked, and the gauges are of then.",
    ),
    counter(
        "tasks_failed_total",
        "",
        "Tasks that ended with an unexpected exception.",
        "Each is in the log with its traceback. Please report it.",
    ),
    counter(
        "log_lines_dropped_total",
        "",
        "Log lines lost because their reader had stalled.",
        "journald, or whatever reads standard error, does not keep up.",
    ),
)
