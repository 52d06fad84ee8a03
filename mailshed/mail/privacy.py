"""Patients' addresses are masked wherever mailshed shows an address: logs, command line, screen.

The mailboxes of patients in the French secure health mail system are named by the national health
number, `<number>@patient.mssante.fr`; such an address in a log is health data. The local part
becomes `***`. The same is done where the address hides in another's local part, as variable
reverse-paths have it (`bounce+number=patient.mssante.fr@list.example`), and in the free text of
replies, where servers like to repeat the address they refuse.

Masking twice is the same as masking once.
"""

import re

PATIENT_DOMAIN = "patient.mssante.fr"
MASK = "***"

_PATIENT = re.compile(rf"(?<![a-z0-9-]){re.escape(PATIENT_DOMAIN)}(?![a-z0-9-])", re.IGNORECASE)
# An address in running text: a quoted local part, or anything up to white space or a bracket.
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"@[^\s<>(),;]+|[^\s<>(),;]+')


def is_patient(address: str) -> bool:
    """Whether `address` names a patient, as its domain or inside its local part."""
    return _PATIENT.search(address) is not None


def mask(address: str) -> str:
    """Return `address`, or its domain behind `***` if it is a patient's; brackets are kept."""
    if not is_patient(address):
        return address
    opening = "<" if address.startswith("<") else ""
    _, at, domain = address.rpartition("@")
    return f"{opening}{MASK}{at}{domain}" if at else MASK


def mask_text(text: str, *addresses: str) -> str:
    """Mask all patients' addresses in free text such as a reply.

    Where one of `addresses` is a patient's, its local part is masked too when it stands alone.
    """
    for address in addresses:
        local = address.strip("<>").rpartition("@")[0]
        if local and local != MASK and is_patient(address):
            text = text.replace(local, MASK)
    if not is_patient(text):
        return text
    return _WORD.sub(lambda match: mask(match[0]), text)
