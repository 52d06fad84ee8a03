"""Sets of networks."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.mail.networks import NO_ADDRESS, NetworkSet, as_told

low_v4 = st.integers(0, 2**16 - 1)
networks_v4 = st.tuples(low_v4, st.integers(16, 32)).map(
    lambda pair: IPv4Network((pair[0], pair[1]), strict=False)
)
networks_v6 = st.tuples(low_v4, st.integers(112, 128)).map(
    lambda pair: IPv6Network((pair[0], pair[1]), strict=False)
)


def holds(networks: NetworkSet, text: str) -> bool:
    address = ip_address(text)
    return networks.holds(address.version, int(address))


@settings(deadline=None, max_examples=300)
@given(
    st.lists(networks_v4 | networks_v6, max_size=12),
    st.tuples(st.sampled_from([4, 6]), st.integers(0, 2**17)),
)
def test_agrees_with_the_standard_library(
    networks: list[IPv4Network | IPv6Network], asked: tuple[int, int]
) -> None:
    version, number = asked
    address = ip_address(number) if version == 4 else ip_address(number.to_bytes(16, "big"))
    expected = any(address in network for network in networks)
    assert NetworkSet(networks).holds(version, number) is expected


def test_the_versions_do_not_mix() -> None:
    networks = NetworkSet([ip_network("0.0.0.0/0")])
    assert holds(networks, "192.0.2.1")
    assert not holds(networks, "::1")


def test_the_first_and_the_last_address_belong_to_it() -> None:
    networks = NetworkSet([ip_network("10.1.0.0/16"), ip_network("10.3.0.0/16")])
    inside = ["10.1.0.0", "10.1.255.255", "10.3.0.0", "10.3.255.255"]
    outside = ["10.0.255.255", "10.2.0.0", "10.2.255.255", "10.4.0.0"]
    assert all(holds(networks, text) for text in inside)
    assert not any(holds(networks, text) for text in outside)


def test_an_empty_set_is_false_and_holds_nothing() -> None:
    assert not NetworkSet([])
    assert NetworkSet([ip_network("::1/128")])
    assert not holds(NetworkSet([]), "127.0.0.1")


def test_the_same_addresses_make_the_same_set() -> None:
    halves = NetworkSet([ip_network("10.0.0.0/9"), ip_network("10.128.0.0/9")])
    whole = NetworkSet([ip_network("10.0.0.0/8")])
    assert halves == whole
    assert hash(halves) == hash(whole)
    assert halves != NetworkSet([ip_network("10.0.0.0/9")])
    assert ip_address("10.200.0.1") in whole
    assert ip_address("11.0.0.1") not in whole
    assert ip_address("::1") not in whole


@pytest.mark.parametrize(
    ("claimed", "proxy", "taken"),
    [
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
        ("127.0.0.1", "::1", "127.0.0.1"),
        ("127.8.0.1", "198.51.100.1", None),
        ("::1", "2001:db8::1", None),
        (None, "127.0.0.1", None),
    ],
)
def test_a_proxy_names_clients_but_not_programs_of_our_host(
    claimed: str | None, proxy: str, taken: str | None
) -> None:
    address = None if claimed is None else ip_address(claimed)
    expected = NO_ADDRESS if taken is None else ip_address(taken)
    assert as_told(address, ip_address(proxy)) == expected
