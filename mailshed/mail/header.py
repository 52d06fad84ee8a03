"""A bounded look at the header section of a message: never parsed, never decoded, never changed.

Classification and loop detection need a few fields and their values. The standard library's
header parsers are quadratic on hostile input, so this view does two linear things only: it splits
the section into fields (RFC 5322, 2.2) and finds fields by name. It reads at most `OCTETS_MAX`
octets and `FIELDS_MAX` fields; what lies beyond does not count, and `is_truncated` says so.

Values are shown unfolded, with each run of white space as one space, so that it does not matter
where a server on the way has broken a line.
"""

OCTETS_MAX = 64 * 1024
FIELDS_MAX = 1000


class HeaderView:
    """The header section at the start of `head`, which is in wire form (CRLF, dot-stuffed)."""

    __slots__ = ("_fields", "is_truncated")

    def __init__(self, head: bytes) -> None:
        # One octet pair before the message makes an empty header section no special case.
        section = b"\r\n" + head[:OCTETS_MAX]
        end = section.find(b"\r\n\r\n")
        self.is_truncated = end < 0 and len(head) >= OCTETS_MAX
        """Whether there may be fields that were not looked at."""
        self._fields: dict[bytes, list[bytes]] = {}
        self._split(section[2:end] if end >= 0 else section[2:])

    def _split(self, section: bytes) -> None:
        # Unfolding is done for all fields at once: the pieces of one field are never joined one by
        # one, which would be quadratic in their number.
        unfolded = section.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
        lines = unfolded.split(b"\r\n", FIELDS_MAX)
        if len(lines) > FIELDS_MAX:
            self.is_truncated = True
        if self.is_truncated:
            lines.pop()  # it is not whole
        for line in lines:
            name, colon, value = line.partition(b":")
            if colon:
                key = name.rstrip(b" \t").lower()
                self._fields.setdefault(key, []).append(b" ".join(value.split()))

    def __contains__(self, name: str) -> bool:
        return name.lower().encode("ascii") in self._fields

    def items(self) -> list[tuple[str, str]]:
        """Names in lower case with their values; alike names together, in the order of the first.

        A name may hold anything that stood before a colon.
        """
        return [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, values in self._fields.items()
            for value in values
        ]

    def values(self, name: str) -> list[str]:
        """All values of field `name`, unfolded, in order; empty if the field is absent."""
        found = self._fields.get(name.lower().encode("ascii"), ())
        return [value.decode("latin-1") for value in found]

    def count(self, name: str) -> int:
        """How many fields have this name."""
        return len(self._fields.get(name.lower().encode("ascii"), ()))
