"""Which network addresses are blocked: images are fetched from public addresses only.

The networks are listed here because `ipaddress.is_private` and `is_global` of Python 3.11.7 have
wrong ranges. Sources: IANA's special-purpose address registries for IPv4 and IPv6; RFC 6052 (NAT64),
RFC 3056 (6to4), RFC 4380 (Teredo).
"""

import socket
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network

_BLOCKED_V4 = tuple(
    (IPv4Network(network), why)
    for network, why in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier's customers"),
        ("127.0.0.0/8", "loopback"),
        # A public address on which Azure gives secrets to its own machines.
        ("168.63.129.16/32", "a cloud's own service"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_BLOCKED_V6 = tuple(
    (IPv6Network(network), why)
    for network, why in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "an IPv4-compatible address"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("100::/64", "discarded"),
        ("2001::/32", "a Teredo tunnel"),
        ("2001:2::/48", "for benchmarks"),
        ("2001::/23", "reserved for protocols"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "a 6to4 tunnel"),
        ("3fff::/20", "for documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
# The last 32 bits of these addresses are the IPv4 address that is reached.
_V4_EMBEDDED = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))


def block_reason(address: str) -> str | None:
    """Why a numeric address is blocked.

    Args:
        address: as a resolver returns it: IPv4 in four decimals, or IPv6 without brackets; a zone
            (`%eth0`) is ignored.

    Returns:
        One phrase that names the address and the reason; None if connecting to it is allowed. A string
        that is not an address is blocked too.
    """
    bare = address.partition("%")[0]
    try:
        why = _block_reason_v6(IPv6Address(bare)) if ":" in bare else _block_reason_v4(IPv4Address(bare))
    except AddressValueError:
        return f"{address!r} is no IP address"
    return None if why is None else f"{address} is {why}"


def literal_address(host: str) -> str | None:
    """The address, if a URL's host is a numeric address in any spelling that clients accept.

    Args:
        host: as in a URL: an IPv6 address has brackets, and its zone follows `%` or `%25`. IPv4 may
            be decimal, octal, hexadecimal or shortened, as the C library's `inet_aton` accepts it.

    Returns:
        The address in its standard form; None if the host is a name.
    """
    if host.startswith("["):
        return host[1:-1].partition("%")[0]
    try:
        return socket.inet_ntoa(socket.inet_aton(host.removesuffix(".")))
    except OSError:
        return None


def _block_reason_v4(address: IPv4Address) -> str | None:
    return next((why for network, why in _BLOCKED_V4 if address in network), None)


def _block_reason_v6(address: IPv6Address) -> str | None:
    if any(address in network for network in _V4_EMBEDDED):
        return _block_reason_v4(IPv4Address(int(address) & 0xFFFF_FFFF))
    for network, why in _BLOCKED_V6:
        if address in network:
            return why
    return None if address in _GLOBAL_V6 else "outside the global unicast range"
