"""Every metric, once: name, kind, labels, what it is and how to read it.

`recorder` makes counters and histograms of these families and updates them as mail passes;
`collector` exports the others from the snapshot. Both look families up by name here, so a metric
that is not in the catalogue cannot exist, and docs/metrics.md is generated from it
(`python -m mailshed.metrics > docs/metrics.md`).

Names are `mailshed_<noun>_<unit>[_total]` in base units. Labels come from closed sets (below) or
from the configuration (class, listener, backend); never an address, a client, a queue id or
anything else a peer can choose. Whatever has a limit is exported with it, as used and limit.
"""

from mailshed.metrics.families.backend import BACKEND
from mailshed.metrics.families.health import HEALTH
from mailshed.metrics.families.latency import LATENCY
from mailshed.metrics.families.saturation import SATURATION
from mailshed.metrics.families.spool import SPOOL
from mailshed.metrics.families.traffic import TRAFFIC
from mailshed.metrics.family import Family
from mailshed.metrics.labels import CLOSED_SETS

SECTIONS: dict[str, tuple[Family, ...]] = {
    "Traffic": TRAFFIC,
    "Latency": LATENCY,
    "Backend": BACKEND,
    "Spool": SPOOL,
    "Saturation": SATURATION,
    "Health": HEALTH,
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
        "Generated from `mailshed/metrics/families`; do not edit. Every metric is exported on",
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
