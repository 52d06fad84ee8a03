"""A bounded look at the header section of a message: never parsed, never decoded, never changed.

Classification and loop detection need a few fields and their values. The standard library's
header parsers are quadratic on hostile input, so this view does two linear things only: it splits
the section into fields (RFC 5322, 2.2) and finds fields by name. It reads at most `OCTETS_MAX`
octets and `FIELDS_MAX` fields; what lies beyond does not count, and `is_truncated` says so.
"""

OCTETS_MAX = 64 * 1024
FIELDS_MAX = 1000


class HeaderView:
    """The header section at the start of `head`, which is in wire form (CRLF, dot-stuffed)."""

    __slots__ = ("_fields", "is_truncated")

    def __init__(self, head: bytes) -> None:
        section = head[:OCTETS_MAX]
        end = section.find(b"\r\n\r\n")
        self.is_truncated = end < 0 and len(head) > OCTETS_MAX
        if section.startswith(b"\r\n"):
            end = 0  # no header at all
        self._fields: dict[bytes, list[bytes]] = {}
        self._split(section[:end] if end >= 0 else section)

    def _split(self, section: bytes) -> None:
        fields = self._fields
        name = b""
        for count, line in enumerate(section.split(b"\r\n")):
            if count >= FIELDS_MAX:
                self.is_truncated = True
                return
            if line[:1] in (b" ", b"\t"):
                if name:
                    fields[name][-1] += b" " + line.strip()
                continue
            raw_name, colon, value = line.partition(b":")
            if not colon:
                name = b""
                continue
            name = raw_name.rstrip(b" \t").lower()
            fields.setdefault(name, []).append(value.strip())

    def __contains__(self, name: str) -> bool:
        return name.lower().encode("ascii") in self._fields

    def values(self, name: str) -> list[str]:
        """All values of field `name`, unfolded, in order; empty if the field is absent."""
        found = self._fields.get(name.lower().encode("ascii"), ())
        return [value.decode("latin-1") for value in found]

    def count(self, name: str) -> int:
        """How many fields have this name."""
        return len(self._fields.get(name.lower().encode("ascii"), ()))
