"""Which addresses are on the public internet. Nobody may have us ask the machine itself, its network or its cloud.

The lists are IANA's registries of special addresses (RFC 6890 and its updates), written out here because what Python
calls global has changed between its versions. https://www.iana.org/assignments/iana-ipv4-special-registry
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address

_SPECIAL_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT, and Alibaba's metadata
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's host, though it looks public
            "169.254.0.0/16",  # link-local, and most clouds' metadata
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")  # all that is given out
_SPECIAL_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocols', Teredo among them, which hides an IPv4 address
            "2001:db8::/32",
            "3fff::/20",
        ),
    )
)
# Prefixes with an IPv4 address after them, and at which bit it ends, counted from the right.
_WITH_V4 = (
    (IPv6Network("::ffff:0:0/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (IPv6Network("2002::/16"), 80),  # 6to4
)


def is_public(address: Address) -> bool:
    """Whether the address belongs to somebody on the internet. Of one with an IPv4 address in it, that one decides."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    for network, shift in _WITH_V4:
        if address in network:
            return is_public(IPv4Address(int(address) >> shift & 0xFFFFFFFF))
    return address in _GLOBAL_V6 and not any(address in network for network in _SPECIAL_V6)
