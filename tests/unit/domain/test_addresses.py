"""Which addresses are blocked."""

import pytest

from mnist_ops.domain.addresses import block_reason, literal_address

BLOCKED = [
    ("0.0.0.0", "this network"),  # noqa: S104 - not listened on
    ("0.1.2.3", "this network"),
    ("10.0.0.1", "private"),
    ("10.255.255.255", "private"),
    ("100.64.0.1", "carrier"),
    ("100.100.100.200", "carrier"),
    ("100.127.255.255", "carrier"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("168.63.129.16", "cloud"),
    ("169.254.169.254", "link-local"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.192", "protocols"),
    ("192.0.2.1", "documentation"),
    ("192.88.99.1", "6to4"),
    ("192.168.1.1", "private"),
    ("198.18.0.1", "benchmarks"),
    ("198.19.255.255", "benchmarks"),
    ("198.51.100.7", "documentation"),
    ("203.0.113.9", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::7f00:1", "IPv4-compatible"),
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:a9fe:a9fe", "link-local"),
    ("::ffff:0:127.0.0.1", "outside"),
    ("64:ff9b::127.0.0.1", "loopback"),
    ("64:ff9b::a9fe:a9fe", "link-local"),
    ("64:ff9b:1::808:808", "NAT64"),
    ("100::1", "discarded"),
    ("2001::1", "Teredo"),
    ("2001:2::1", "benchmarks"),
    ("2001:10::1", "protocols"),
    ("2001:db8::1", "documentation"),
    ("2002:7f00:1::", "6to4"),
    ("3fff::1", "documentation"),
    ("4000::1", "outside"),
    ("5f00::1", "outside"),
    ("fc00::1", "private"),
    ("fd00:ec2::254", "private"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("febf::1", "link-local"),
    ("fec0::1", "site-local"),
    ("ff02::1", "multicast"),
]
ALLOWED = [
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700::1111",
    "2a00:1450::1",
]


@pytest.mark.parametrize(("address", "why"), BLOCKED)
def test_addresses_that_are_not_on_the_public_internet_are_blocked(address, why):
    """The reason names the kind of network."""
    reason = block_reason(address)
    assert reason is not None
    assert why in reason
    assert address in reason


@pytest.mark.parametrize("address", ALLOWED)
def test_public_addresses_are_allowed_up_to_the_edges_of_the_blocked_networks(address):
    """The neighbours of the blocked networks are public."""
    assert block_reason(address) is None


@pytest.mark.parametrize("text", ["", "example.org", "1.2.3", "0x7f.1", "1.2.3.4.5", ":::", "/run/socket"])
def test_a_string_that_is_not_an_address_is_blocked(text):
    """Nothing is connected to unless it can be checked."""
    assert "is no IP address" in (block_reason(text) or "")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0177.0.0.01", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("0", "0.0.0.0"),  # noqa: S104 - not listened on
        ("[::1]", "::1"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ("[fe80::1%25lo]", "fe80::1"),
        ("example.org", None),
        ("256.1.1.1.example.org", None),
        ("localhost", None),
    ],
)
def test_every_spelling_of_an_address_is_recognised(host, address):
    """Decimal, octal, hexadecimal and shortened literals are parsed as the C library parses them."""
    assert literal_address(host) == address
