"""How explanations write what they speak of: short, and without anybody's name in the wrong place.

The words are for the command line, made when somebody asks and never while mail passes.
"""

from collections.abc import Iterable

from mailshed.mail.privacy import mask, mask_text

ENTRIES_SHOWN = 4
VALUE_SHOWN = 60
"""Characters of a value."""


def listed(entries: Iterable[str]) -> str:
    """Some of `entries`, and how many more there are."""
    texts = [mask(entry) for entry in entries]
    if not texts:
        return "an empty list"
    shown = ", ".join(texts[:ENTRIES_SHOWN])
    more = len(texts) - ENTRIES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def shown(value: str) -> str:
    """A value from the message, cut, printable, and with patients' addresses masked."""
    text = "".join(each if each.isprintable() else "?" for each in mask_text(value))
    return text if len(text) <= VALUE_SHOWN else text[: VALUE_SHOWN - 3] + "..."


def at_least(what: str, found: object, lower: object | None, upper: object | None) -> str:
    """`412 recipients, asked for at least 50`: a number and its bounds."""
    bounds = []
    if lower is not None:
        bounds.append(f"at least {lower}")
    if upper is not None:
        bounds.append(f"at most {upper}")
    return f"{what} {found}, asked for {' and '.join(bounds)}"
