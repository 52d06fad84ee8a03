"""What a client is asked to do: one message, as files, and the way to mailshed."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.interop.contents import Message
from tests.interop.ways import Way
from tests.support.dovecot import ACCOUNTS

USER, PASSWORD = next(iter(ACCOUNTS.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One message to be sent; the files are removed by whoever made them."""

    port: int
    is_tls: bool
    ca_file: str
    user: str
    """Empty for no login."""
    password: str
    sender: str
    recipient: str
    subject: str
    is_8bit: bool
    is_utf8: bool
    text: str
    """A file of the message with LF line endings, but for the last, which the client adds."""
    wire: str
    """The same with CRLF line endings, and the last."""
    body: str
    """Its body alone, with LF line endings."""
    file: str
    """Of this job, as JSON."""


def new_job(message: Message, folder: Path, *, port: int, way: Way, ca_file: Path) -> Job:
    """Write the files of a job into a folder."""
    stem = folder / "message"
    files = {
        "text": message.text.removesuffix(b"\n"),
        "wire": message.text.replace(b"\n", b"\r\n"),
        "body": message.body,
    }
    for name, content in files.items():
        stem.with_suffix(f".{name}").write_bytes(content)
    job = Job(
        port=port,
        is_tls=way is not Way.PLAIN,
        ca_file=str(ca_file),
        user=USER if way is Way.AUTH else "",
        password=PASSWORD if way is Way.AUTH else "",
        sender=message.sender,
        recipient=message.recipient,
        subject=message.subject,
        is_8bit=message.is_8bit,
        is_utf8=message.is_utf8,
        file=str(stem.with_suffix(".json")),
        **{name: str(stem.with_suffix(f".{name}")) for name in files},
    )
    Path(job.file).write_text(json.dumps(asdict(job)))
    return job
