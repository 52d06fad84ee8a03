"""Read YAML into plain values, with the place of each, refusing what can be misunderstood.

PyYAML gives the events of a file and their marks; everything above that is done here, so that no
tag is ever resolved and no Python object constructed. What YAML offers beyond a tree of text,
numbers and lists is refused by name, each with a reason:

- anchors and aliases, which also rules out exponential files ('billion laughs'), and merge keys;
- tags (`!!python/name`), several documents, keys that are not text;
- two equal keys in one mapping, of which YAML readers silently take the last;
- scalars that YAML 1.1 and 1.2 read differently (`scalars.py`);
- control characters and line breaks in values, which no key has a use for.

Size and depth are bounded, so reading takes linear time and no recursion runs away. A file that
cannot be parsed to its end has one fault, the first; all others are found together.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

from mailshed.config.faults import Fault, KeyPath, Span
from mailshed.config.scalars import explain_ambiguity, read_scalar

OCTETS_MAX = 1024 * 1024
DEPTH_MAX = 12  # the schema needs 6

_NOWHERE = "\0"  # the key under which values are read that have no place in the result


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file that was read: its plain `value` (None if it could not be parsed) and its faults.

    `doubtful` are the paths whose value is not what was meant, so that further faults there would
    only confuse.
    """

    lines: tuple[str, ...]
    value: object
    keys: dict[KeyPath, Span]
    values: dict[KeyPath, Span]
    doubtful: frozenset[KeyPath] = frozenset()
    faults: tuple[Fault, ...]

    def span(self, path: KeyPath, *, of_key: bool = False) -> Span:
        """Place of the value at `path`, or of its key; of what holds it if the file has no such."""
        while path:
            if of_key and path in self.keys:
                return self.keys[path]
            if path in self.values:
                return self.values[path]
            path, of_key = path[:-1], True
        return self.values.get((), Span(line=0, column=0))


def read(path: Path) -> Document:
    """Read the file at `path`; what is wrong with it is in the document's faults."""
    try:
        with path.open("rb") as file:
            octets = file.read(OCTETS_MAX + 1)
    except OSError as error:
        return _unreadable(f"cannot be read: {error.strerror or error}")
    if len(octets) > OCTETS_MAX:
        return _unreadable(f"cannot be read: larger than {OCTETS_MAX} octets")
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return _not_utf_8(octets, error.start)
    return read_text(text)


def read_text(text: str) -> Document:
    """Read `text` as `read` does a file."""
    reader = _Reader(tuple(text.splitlines()))
    value = reader.read(text)
    return Document(
        lines=reader.lines,
        value=value,
        keys=reader.keys,
        values=reader.values,
        doubtful=frozenset(reader.doubtful),
        faults=tuple(reader.faults),
    )


def _unreadable(message: str) -> Document:
    fault = Fault(span=None, message=message)
    return Document(lines=(), value=None, keys={}, values={}, faults=(fault,))


def _not_utf_8(octets: bytes, position: int) -> Document:
    lines = octets.decode("utf-8", "replace").splitlines()
    before = octets[:position].decode("utf-8").splitlines(keepends=True) or [""]
    line = len(before) - 1
    if before[-1].endswith(("\n", "\r")):
        line, before = line + 1, [""]
    fault = Fault(
        span=Span(line=line, column=len(before[-1])),
        message=f"not UTF-8: octet 0x{octets[position]:02x} cannot stand here",
    )
    return Document(lines=tuple(lines), value=None, keys={}, values={}, faults=(fault,))


class _TooDeep(Exception):
    """The rest of the file is not worth reading."""


class _Reader:
    """Builds one document from the events of PyYAML's parser."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        self.lines = lines
        self.keys: dict[KeyPath, Span] = {}
        self.values: dict[KeyPath, Span] = {}
        self.doubtful: set[KeyPath] = set()
        self.faults: list[Fault] = []
        self._is_quiet = False
        self._parser: yaml.SafeLoader

    def read(self, text: str) -> object:
        """Return the plain value of the only document in `text`, or None."""
        try:
            self._parser = yaml.SafeLoader(text)
        except yaml.reader.ReaderError as error:
            self._refuse_character(text, error.position)
            return None
        try:
            return self._document()
        except yaml.MarkedYAMLError as error:
            self._refuse_syntax(error)
        except (ValueError, OverflowError):  # an escape such as "\UFFFFFFFF" is no character
            mark = self._parser.get_mark()
            self._add(Span(line=mark.line, column=mark.column), (), "not valid YAML: bad escape")
        except _TooDeep:
            pass
        finally:
            self._parser.dispose()
        return None

    def _next(self) -> yaml.Event:
        event: yaml.Event = self._parser.get_event()  # type: ignore[no-untyped-call]
        return event

    def _document(self) -> object:
        self._next()  # the start of the stream
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            self._add(None, (), "is empty; config/mailshed.yaml is an example")
            return None
        value = self._node((), self._next())
        self._next()  # the end of the document
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            self._add(self._span(event), (), "a second document starts here; only one is read")
        return value

    def _node(self, path: KeyPath, event: yaml.Event) -> object:
        """Build the value that starts with `event` and read to its end."""
        if len(path) > DEPTH_MAX:
            self._add(self._span(event), path[:1], f"nested deeper than {DEPTH_MAX} levels")
            raise _TooDeep
        self.values[path] = self._span(event)
        if isinstance(event, yaml.AliasEvent):
            self._doubt(self._span(event), path, "aliases are not supported; repeat the value")
            return None
        assert isinstance(event, yaml.NodeEvent)
        self._refuse_decoration(path, event)
        match event:
            case yaml.ScalarEvent():
                return self._scalar(path, event)
            case yaml.SequenceStartEvent():
                return self._sequence(path)
            case _:
                return self._mapping(path)

    def _refuse_decoration(self, path: KeyPath, event: yaml.NodeEvent) -> None:
        """Refuse an anchor or a tag in front of a node."""
        if event.anchor is not None:
            span = self._span(event)
            self._add(span, path, "anchors are not supported; repeat the value where it is needed")
        if getattr(event, "tag", None) is not None:
            self._doubt(self._span(event), path, "tags are not supported")

    def _sequence(self, path: KeyPath) -> list[object]:
        items: list[object] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node((*path, len(items)), event))
        return items

    def _mapping(self, path: KeyPath) -> dict[str, object]:
        items: dict[str, object] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(path, event)
            if key is None:
                self._discard(path, self._next())
            elif key in items:
                line = self.keys[*path, key].line + 1
                message = f'duplicate key "{key}" (first at line {line})'
                self._add(self._span(event), path, message)
                self._discard(path, self._next())
            else:
                self.keys[*path, key] = self._span(event)
                items[key] = self._node((*path, key), self._next())
        return items

    def _key(self, path: KeyPath, event: yaml.Event) -> str | None:
        """Read a key; None, with a fault, if it is not text."""
        span = self._span(event)
        if not isinstance(event, yaml.ScalarEvent):
            self._add(span, path, "a key must be text")
            self._discard(path, event)
            return None
        if event.style is None and event.value == "<<":
            self._add(span, path, "merge keys are not supported; repeat what they would merge")
            return None
        self._refuse_decoration(path, event)
        faults = len(self.faults)
        key = self._scalar((*path, str(event.value)), event)
        if isinstance(key, str):
            return key
        if faults == len(self.faults):
            self._add(span, path, "a key must be text")
        return None

    def _discard(self, path: KeyPath, event: yaml.Event) -> None:
        """Read over a value that has no place in the result, keeping quiet about it."""
        was_quiet, self._is_quiet = self._is_quiet, True
        self._node((*path, _NOWHERE), event)
        self._is_quiet = was_quiet

    def _scalar(self, path: KeyPath, event: yaml.ScalarEvent) -> object:
        text: str = event.value
        span = self._span(event)
        if not text.isprintable():
            self._doubt(span, path, "must be one line of printable text")
            return text
        if event.style is not None or event.tag is not None:
            return text
        if (reason := explain_ambiguity(text)) is not None:
            self._doubt(span, path, f"{text} is ambiguous: {reason}")
        if not text and path in self.keys:
            self.values[path] = self.keys[path]  # an empty value has no width to point at
        return read_scalar(text)

    def _span(self, event: yaml.Event) -> Span:
        start, end = event.start_mark, event.end_mark
        assert start is not None
        assert end is not None
        line = self.lines[start.line] if start.line < len(self.lines) else ""
        if isinstance(event, yaml.ScalarEvent | yaml.AliasEvent) and end.line == start.line:
            width = end.column - start.column
        else:  # a list or a mapping: the rest of its first line without a comment
            width = len(line.split(" #")[0].rstrip()) - start.column
        return Span(line=start.line, column=start.column, width=max(1, width))

    def _add(self, span: Span | None, path: KeyPath, message: str) -> None:
        if not self._is_quiet:
            self.faults.append(Fault(span=span, path=path, message=message))

    def _doubt(self, span: Span, path: KeyPath, message: str) -> None:
        """Add a fault of the value at `path` that makes any other fault there meaningless."""
        self.doubtful.add(path)
        self._add(span, path, message)

    def _refuse_character(self, text: str, position: int) -> None:
        before = (text[:position] + "x").splitlines()
        span = Span(line=len(before) - 1, column=len(before[-1]) - 1)
        self._add(span, (), f"control character U+{ord(text[position]):04X} cannot stand here")

    def _refuse_syntax(self, error: yaml.MarkedYAMLError) -> None:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        if line >= len(self.lines):  # the end of the file: point behind its last line
            line = max(0, len(self.lines) - 1)
            column = len(self.lines[line]) if self.lines else 0
        problem = error.problem or "cannot be parsed"
        if "'\\t'" in problem:
            message = "a tab cannot indent or separate; use spaces"
        else:
            message = f"not valid YAML: {problem}"
            if error.context and error.context_mark and error.context_mark.line != line:
                message += f", {error.context} that starts at line {error.context_mark.line + 1}"
        self._add(Span(line=line, column=column), (), message)
