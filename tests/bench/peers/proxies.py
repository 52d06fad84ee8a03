"""Proxies: what can stand before a mail server and promises nothing by itself.

- `haproxy`: TCP mode with one thread. It copies octets and knows no SMTP: the bound for anything
  that stands in between. With TLS it ends that, and speaks plainly to the sink.
- `nginx`: the mail module with one worker. It answers EHLO and MAIL by itself, asks an HTTP server
  at RCPT which backend to use (the same nginx, which says it in a header), and copies octets from
  then on until the connection ends. So what it knows of SMTP is paid for once a connection. Its
  buffer is 64 KiB: with the 4 KiB of the default a message of 10 KiB takes three writes to a socket
  without TCP_NODELAY, and each message waits 40 ms for a delayed acknowledgement.
- `naive`: our own libraries as they come; see tests/bench/naive.py.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench import loads
from tests.bench.peers.peer import Peer, Place
from tests.support.debian import require
from tests.support.processes import Process, free_port

_ROOT = Path(__file__).parents[3]

_HAPROXY = """\
global
    nbthread 1
    maxconn 4000
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen smtp
    bind 127.0.0.1:{port}
    bind 127.0.0.1:{tls_port} ssl crt {certificate}
    server backend 127.0.0.1:{backend}
"""


@contextlib.contextmanager
def haproxy(place: Place) -> Iterator[Peer]:
    """HAProxy in TCP mode."""
    port, tls_port = free_port(), free_port()
    certificate = place.folder / "both.pem"
    certificate.write_text(place.certificate.read_text() + place.key.read_text())
    configuration = place.folder / "haproxy.cfg"
    configuration.write_text(
        _HAPROXY.format(
            port=port, tls_port=tls_port, certificate=certificate, backend=place.backend_port
        )
    )
    binary = require("haproxy")
    # -db: in the foreground and in one process.
    with Process([binary, "-db", "-f", configuration], place.folder / "haproxy.log") as process:
        process.wait_for_port(port)
        yield Peer(name=loads.HAPROXY, port=port, tls_port=tls_port, session=process.pid)


_MAIL_MODULE = "/usr/lib/nginx/modules/ngx_mail_module.so"
_NGINX = """\
load_module {module};
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path .; proxy_temp_path .; fastcgi_temp_path .;
    uwsgi_temp_path .; scgi_temp_path .;
    server {{
        listen 127.0.0.1:{auth_port};
        add_header Auth-Status OK;
        add_header Auth-Server 127.0.0.1;
        add_header Auth-Port {backend};
        location / {{ return 200 ""; }}
    }}
}}
mail {{
    server_name nginx.hospital.example;
    auth_http 127.0.0.1:{auth_port}/;
    smtp_auth none;
    smtp_client_buffer 64k;
    smtp_capabilities PIPELINING "SIZE 52428800" 8BITMIME;
    proxy_smtp_auth off;
    xclient off;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    server {{ listen 127.0.0.1:{port}; protocol smtp; starttls on; }}
    server {{ listen 127.0.0.1:{tls_port} ssl; protocol smtp; }}
}}
"""


@contextlib.contextmanager
def nginx(place: Place) -> Iterator[Peer]:
    """The mail proxy of nginx, which is a module of its own in Debian."""
    binary = require("nginx", binary="nginx")
    module = require("libnginx-mod-mail", binary=_MAIL_MODULE)
    port, tls_port, auth_port = free_port(), free_port(), free_port()
    configuration = place.folder / "nginx.conf"
    configuration.write_text(
        _NGINX.format(
            module=module,
            port=port,
            tls_port=tls_port,
            auth_port=auth_port,
            backend=place.backend_port,
            certificate=place.certificate,
            key=place.key,
        )
    )
    command: list[str | Path] = [binary, "-p", place.folder, "-c", configuration]
    with Process(command, place.folder / "nginx.log") as process:
        process.wait_for_port(port)
        yield Peer(
            name=loads.NGINX,
            port=port,
            starttls_port=port,
            tls_port=tls_port,
            session=process.pid,
        )


@contextlib.contextmanager
def naive(place: Place) -> Iterator[Peer]:
    """The naive proxy."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.naive", str(port), str(place.backend_port)]
    with Process(command, place.folder / "naive.log", cwd=_ROOT) as process:
        process.wait_for_port(port)
        yield Peer(name=loads.NAIVE, port=port, session=process.pid)
