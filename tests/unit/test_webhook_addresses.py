"""Public addresses, against Python's own idea of them where the two agree, and by name where they must not."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aion_extproc.events.addresses import is_public

V4 = st.builds(IPv4Address, st.integers(0, 2**32 - 1))
V6 = st.builds(IPv6Address, st.integers(0, 2**128 - 1) | st.integers(0x2000 << 112, (0x4000 << 112) - 1))


@given(V4 | V6)
@example(IPv4Address("0.0.0.0"))
def test_nothing_is_public_that_python_calls_private(address: IPv4Address | IPv6Address) -> None:
    inside = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    if inside or address.is_reserved or address.is_unspecified:
        assert not is_public(address)


@given(V4)
def test_an_address_within_another_decides(address: IPv4Address) -> None:
    number = int(address)
    for outer in (
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(int(IPv6Address("64:ff9b::")) | number),
        IPv6Address(0x2002 << 112 | number << 80),
    ):
        assert is_public(outer) == is_public(address), outer


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "100.127.255.255", "127.0.0.1", "127.255.255.254"),
        *("168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1"),
        *("192.88.99.1", "192.168.255.255", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1"),
        *("240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1"),
        *("64:ff9b:1::808:808",),
        *("100::1", "2001::1", "2001:0:1:2:3:4:f5ff:fffe", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "3fff::1"),
        *("5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1"),
    ],
)
def test_inside(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        *("1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "223.255.255.255"),
        *("168.63.129.15", "2001:4860:4860::8888", "2606:4700:4700::1111", "2a00:1450::1", "2002:808:808::1"),
        *("::ffff:8.8.8.8", "64:ff9b::808:808"),
    ],
)
def test_outside(text: str) -> None:
    assert is_public(ip_address(text))
