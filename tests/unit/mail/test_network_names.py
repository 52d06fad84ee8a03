from ipaddress import IPv4Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from mailshed.mail.network_names import NetworkNames
from mailshed.mail.networks import Network


def names(**networks: str) -> NetworkNames:
    return NetworkNames(
        {name: [ip_network(each) for each in text.split()] for name, text in networks.items()}
    )


def name_of(found: NetworkNames, text: str) -> str | None:
    address = ip_address(text)
    return found.name_of(address.version, int(address))


def test_an_address_has_the_name_of_its_network() -> None:
    found = names(vpn="10.64.0.0/14", lab="10.20.8.0/24 2001:db8:8::/48")

    assert name_of(found, "10.65.3.1") == "vpn"
    assert name_of(found, "10.20.8.255") == "lab"
    assert name_of(found, "2001:db8:8::1") == "lab"


def test_an_address_elsewhere_has_none() -> None:
    found = names(vpn="10.64.0.0/14")

    assert [name_of(found, each) for each in ("10.63.255.255", "10.68.0.0", "::a40:1")] == [
        None,
        None,
        None,
    ]
    assert name_of(names(), "10.0.0.1") is None


def test_the_narrowest_network_counts_whatever_the_order() -> None:
    for found in (
        names(site="10.0.0.0/8", ward="10.1.2.0/24", bed="10.1.2.3/32"),
        names(bed="10.1.2.3/32", ward="10.1.2.0/24", site="10.0.0.0/8"),
    ):
        assert [name_of(found, f"10.1.2.{last}") for last in (2, 3, 4)] == ["ward", "bed", "ward"]
        assert name_of(found, "10.1.3.0") == "site"


def test_of_equal_networks_the_first_counts() -> None:
    assert name_of(names(one="10.0.0.0/8", two="10.0.0.0/8"), "10.1.1.1") == "one"


def test_all_addresses_are_a_network_too() -> None:
    found = names(world="0.0.0.0/0", last="255.255.255.255/32")

    assert name_of(found, "0.0.0.0") == "world"
    assert name_of(found, "255.255.255.255") == "last"


blocks = st.builds(
    lambda number, length: IPv4Network((number >> (32 - length) << (32 - length), length)),
    st.integers(0, 2**32 - 1),
    st.sampled_from((0, 1, 2, 7, 8, 9, 16, 31, 32)),
)


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.lists(blocks, max_size=4), max_size=6), st.data()
)
def test_it_says_what_looking_at_each_network_says(
    networks: dict[str, list[Network]], data: st.DataObject
) -> None:
    edges = [
        int(edge) + step
        for members in networks.values()
        for network in members
        for edge in (network.network_address, network.broadcast_address)
        for step in (-1, 0, 1)
    ]
    near = [edge for edge in edges if 0 <= edge < 2**32]
    number = data.draw(st.sampled_from(near) if near else st.integers(0, 2**32 - 1))
    holding = [
        (-network.prefixlen, place, name)
        for place, (name, network) in enumerate(
            (name, network) for name, members in networks.items() for network in members
        )
        if ip_address(number) in network
    ]

    assert NetworkNames(networks).name_of(4, number) == (min(holding)[2] if holding else None)
