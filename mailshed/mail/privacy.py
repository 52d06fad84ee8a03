"""What must not be seen in logs, listings and reports: the local part of a patient's mailbox.

A French patient's mailbox is `<national health number>@patient.mssante.fr`, so the address alone
is health data about a named person. Every place that shows an address to an operator passes it
through `mask`; mail itself is never changed. Subjects are not shown at all.
"""

PATIENT_DOMAIN = "patient.mssante.fr"
_SUFFIX = "@" + PATIENT_DOMAIN


def mask(address: str) -> str:
    """Replace the local part of a patient's address by `***`; leave every other as it is."""
    if address.lower().endswith(_SUFFIX):
        return "***" + address[-len(_SUFFIX) :]
    return address
