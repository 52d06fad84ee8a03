"""A bounded look at the header section of a message: never parsed, never decoded, never changed.

Classification and loop detection need a few fields and their values. The standard library's
header parsers are quadratic on hostile input, so this view does two linear things only: it splits
the section into fields (RFC 5322, 2.2) and finds fields by name. It reads at most `OCTETS_MAX`
octets and `FIELDS_MAX` fields; what lies beyond does not count, and `is_truncated` says so.

Values are shown unfolded, with each run of white space as one space, so that it does not matter
where a server on the way has broken a line. That is done when a value is asked for: most fields
never are.
"""

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

OCTETS_MAX = 64 * 1024
FIELDS_MAX = 1000

EXCERPT_OCTETS_MAX = 4096
"""How many octets of names and values an excerpt keeps."""
EXCERPT_VALUE_MAX = 1024
"""How many of them of one value: as much as any rule looks at."""

_PRIORITY = re.compile(r"-?[1-9]|0")


class HeaderView:
    """The header section at the start of `head`, which is in wire form (CRLF, dot-stuffed)."""

    __slots__ = ("_fields", "_names", "is_truncated")

    def __init__(self, head: bytes) -> None:
        # One octet pair before the message makes an empty header section no special case.
        section = b"\r\n" + head[:OCTETS_MAX]
        end = section.find(b"\r\n\r\n")
        self.is_truncated = end < 0 and len(head) >= OCTETS_MAX
        """Whether there may be fields that were not looked at."""
        self._fields: dict[bytes, list[bytes]] = {}
        self._names: bytes | None = None
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
        fields = self._fields
        for line in lines:
            name, colon, value = line.partition(b":")
            if colon:
                key = name.rstrip(b" \t").lower()
                if key in fields:
                    fields[key].append(value)
                else:
                    fields[key] = [value]

    def __contains__(self, name: str) -> bool:
        return name.lower().encode("ascii") in self._fields

    def items(self) -> list[tuple[str, str]]:
        """Names in lower case with their values; alike names together, in the order of the first.

        A name may hold anything that stood before a colon.
        """
        return [
            (name.decode("latin-1"), value)
            for name in self._fields
            for value in self.values_of(name)
        ]

    def values(self, name: str) -> list[str]:
        """All values of field `name`, unfolded, in order; empty if the field is absent."""
        return self.values_of(name.lower().encode("ascii"))

    def count(self, name: str) -> int:
        """How many fields have this name."""
        return len(self._fields.get(name.lower().encode("ascii"), ()))

    # For rules, whose names are made ready once: lower-case octets.

    def has(self, key: bytes) -> bool:
        """Whether there is a field of this name, which is in lower case."""
        return key in self._fields

    def values_of(self, key: bytes) -> list[str]:
        """What `values` gives, for a name in lower case."""
        found = self._fields.get(key, ())
        return [b" ".join(value.split()).decode("latin-1") for value in found]

    def has_prefix(self, prefix: bytes) -> bool:
        """Whether there is a field whose name begins with `prefix`, which is in lower case."""
        if self._names is None:
            self._names = b"\r\n" + b"\r\n".join(self._fields)  # which no name holds
        return b"\r\n" + prefix in self._names

    def keys_with(self, prefix: bytes) -> list[bytes]:
        """Names, in lower case and in order, that begin with `prefix`."""
        return [key for key in self._fields if key.startswith(prefix)]

    def excerpt(self, keys: AbstractSet[bytes], prefixes: Iterable[bytes] = ()) -> "HeaderView":
        """A view of these fields alone, cut to a bounded size, for keeping."""
        wanted = [] if keys.isdisjoint(self._fields) else sorted(keys & self._fields.keys())
        for prefix in prefixes:
            if self.has_prefix(prefix):
                wanted += self.keys_with(prefix)
        if not wanted and not self.is_truncated:
            return NO_HEADER  # nearly always, and this is kept for each of the last messages
        view = HeaderView(b"")
        view.is_truncated = self.is_truncated
        left = EXCERPT_OCTETS_MAX
        for key in wanted:
            for value in self._fields[key]:
                piece = value[:EXCERPT_VALUE_MAX]
                left -= len(key) + len(piece)
                if left < 0:
                    return view
                view._fields.setdefault(key, []).append(piece)
        return view


NO_HEADER = HeaderView(b"")
"""A header section without fields."""


def priority_in(header: HeaderView) -> int | None:
    """The priority of a field `MT-Priority` (RFC 6758), -9..9; None without one that is clear."""
    values = header.values("mt-priority")
    return int(values[0]) if len(values) == 1 and _PRIORITY.fullmatch(values[0]) else None
