"""Who may use the socket, and that it is the kernel who says who asks."""

import os
from collections.abc import Iterable

import pytest

from mailshed.admin import api
from mailshed.admin.peer import Peer, may_administer
from tests.unit.admin.conftest import World


async def test_the_kernel_tells_who_the_peer_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Peer, int]] = []

    def remember(peer: Peer, group: int) -> bool:
        seen.append((peer, group))
        return True

    monkeypatch.setattr(api, "may_administer", remember)
    async with world.serving() as client:
        assert (await client.get("/v1/status"))[0] == 200
    groups = frozenset({os.getgid(), *os.getgroups()})
    me = Peer(uid=os.getuid(), pid=os.getpid(), groups=groups)
    assert seen == [(me, world.admin_group)]


def test_root_ourselves_and_the_group_may_administer() -> None:
    def may(uid: int, groups: Iterable[int]) -> bool:
        return may_administer(Peer(uid=uid, pid=1, groups=frozenset(groups)), 990)

    assert may(0, set())
    assert may(os.geteuid(), set())
    assert may(4711, {100, 990})
    assert not may(4711, {100, 101})
