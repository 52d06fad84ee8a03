"""Who is at the other end of the Unix socket, as the kernel tells (unix(7)), and who may be."""

import os
import socket
import struct
from dataclasses import dataclass

from aiohttp import web

# linux/socket.h; the socket module does not have it.
_SO_PEERGROUPS = 59
_GROUPS_OCTETS = 1024  # the most that socket.getsockopt takes: 256 groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The user, the process and the groups that the peer had when it connected."""

    uid: int
    pid: int
    groups: frozenset[int]


def may_administer(peer: Peer, admin_group: int) -> bool:
    """Whether this peer may use the socket that `admin_group` owns."""
    return peer.uid in {0, os.geteuid()} or admin_group in peer.groups


def peer_of(request: web.Request) -> Peer:
    """Who asks; HTTPForbidden if it has left."""
    end = None if request.transport is None else request.transport.get_extra_info("socket")
    if end is None:
        raise web.HTTPForbidden(text="the peer has left")
    raw = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, gid = struct.unpack("3i", raw)
    try:
        raw = end.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_OCTETS)
    except OSError:  # more groups than fit: the primary one still counts
        raw = b""
    groups = struct.unpack(f"{len(raw) // 4}i", raw)
    return Peer(uid=uid, pid=pid, groups=frozenset((gid, *groups)))
