"""Mail programs of the command line: the words that make each send a message.

Those that need a name for EHLO are given one; all verify the certificate of mailshed.
"""

from collections.abc import Sequence
from urllib.parse import quote

from tests.interop.job import Job
from tests.support.debian import require


def swaks(job: Job) -> Sequence[str]:
    login = ("--auth", "PLAIN", "--auth-user", job.user, "--auth-password", job.password)
    return (
        *(str(require("swaks")), "--server", "localhost", "--port", str(job.port)),
        *("--helo", "swaks.example", "--from", job.sender, "--to", job.recipient),
        *("--data", f"@{job.text}", "--silent", "1", "--timeout", "300"),
        *(("--tls", "--tls-verify", "--tls-ca-path", job.ca_file) if job.is_tls else ()),
        *(login if job.user else ()),
    )


def msmtp(job: Job) -> Sequence[str]:
    tls = ("--tls=on", "--tls-starttls=on", f"--tls-trust-file={job.ca_file}")
    login = ("--auth=plain", f"--user={job.user}", f"--passwordeval=printf %s '{job.password}'")
    return (
        *(str(require("msmtp")), "--host=localhost", f"--port={job.port}"),
        *("--domain=msmtp.example", f"--from={job.sender}", "--timeout=300"),
        *(tls if job.is_tls else ("--tls=off",)),
        *(login if job.user else ("--auth=off",)),
        *("--", job.recipient),
    )


def curl(job: Job) -> Sequence[str]:
    return (
        *(str(require("curl")), "-sS", f"smtp://localhost:{job.port}/curl.example"),
        *("--mail-from", job.sender, "--mail-rcpt", job.recipient, "--upload-file", job.wire),
        *(("--ssl-reqd", "--cacert", job.ca_file) if job.is_tls else ()),
        *(("--user", f"{job.user}:{job.password}") if job.user else ()),
    )


def s_nail(job: Job) -> Sequence[str]:
    login = f"{quote(job.user, safe='')}:{quote(job.password, safe='')}@" if job.user else ""
    settings = {
        "v15-compat": "yes",
        "ttycharset": "utf-8",
        "mime-encoding": "8bit",
        "mta": f"smtp://{login}localhost:{job.port}",
        "smtp-auth": "plain" if job.user else "none",
        "hostname": "snail.example",
        "socket-connect-timeout": "300",
        "tls-ca-file": job.ca_file,
        "tls-verify": "strict",
    }
    words = [f"-S{name}={value}" for name, value in settings.items()]
    if job.is_tls:
        words.append("-Ssmtp-use-starttls")
    return (
        *(str(require("s-nail")), "-:/", "-Ssendwait", "-Snosave", *words),
        *("-r", job.sender, "-s", job.subject, job.recipient),
    )
