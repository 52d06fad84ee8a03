"""smtplib, of Python's standard library."""

import json
import smtplib
import ssl
import sys
from pathlib import Path


def main() -> None:
    """Send the message of the job."""
    job = json.loads(Path(sys.argv[1]).read_text())
    options = ["BODY=8BITMIME"] if job["is_8bit"] else []
    if job["is_utf8"]:
        options.append("SMTPUTF8")
    with smtplib.SMTP("localhost", job["port"], local_hostname="smtplib.example") as client:
        if job["is_tls"]:
            client.starttls(context=ssl.create_default_context(cafile=job["ca_file"]))
        if job["user"]:
            client.login(job["user"], job["password"])
        client.sendmail(
            job["sender"], [job["recipient"]], Path(job["wire"]).read_bytes(), mail_options=options
        )


if __name__ == "__main__":
    try:
        main()
    except smtplib.SMTPException as error:
        sys.exit(f"{type(error).__name__}: {error}")
