"""Which addresses may be fetched: of hosts on a list, that lead to public addresses."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from isthmus.data.errors import fault

HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
"""Of the list: a name with a dot, with ``*.`` for all names below it."""
PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
EMBEDDING = [ipaddress.IPv6Network(net) for net in ("2001::/32", "2002::/16", "64:ff9b::/96", "64:ff9b:1::/48")]
"""Networks whose addresses stand for IPv4 ones, to which a gateway may lead: Teredo, 6to4 and NAT64."""

Resolve = Callable[[str, int], Sequence[str]]
"""A name and a port -> all of its addresses."""


@dataclass(frozen=True)
class Place:
    """An address on the web, taken apart.

    Attributes:
        host: its name, on the list.
        target: path and query, as they are sent.
    """

    host: str
    target: str


def read_hosts(text: str) -> tuple[str, ...]:
    """Hosts of a list with commas.

    Raises:
        ValueError: a word isn't a name.
    """
    hosts = tuple(host.strip().lower() for host in text.split(",") if host.strip())
    for host in hosts:
        if not HOST.fullmatch(host):
            raise ValueError(
                f"fetch: found '{host}'; expected names of hosts, as media.example.org or *.example.org. Fix: correct "
                "the list."
            )
    return hosts


def place(url: str, hosts: Sequence[str], where: str) -> Place:
    """The parts of an address that may be fetched.

    Raises:
        DataError: it isn't https, has a port, a user or odd characters, or its host isn't on the list.
    """
    fix = "send the file's content in a data URI"
    if not re.fullmatch(r"[!-\[\]-~]+", url):  # what URLs may hold; a backslash is read in two ways
        raise fault(where, "found an address with spaces or characters beyond ASCII", "them in %-form", fix)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise fault(where, "found no valid address", "https://HOST/PATH", fix) from None
    if parts.scheme != "https" or port not in (None, 443) or "@" in parts.netloc or not parts.hostname:
        raise fault(where, "found another address", "https://HOST/PATH, without user and port", fix)
    host = parts.hostname.removesuffix(".")
    if not any(host == own or (own.startswith("*.") and host.endswith(own[1:])) for own in hosts):
        raise fault(where, f"found the host '{host[:80]}'", f"one of {', '.join(hosts)}", fix)
    return Place(host, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def is_public(text: str) -> bool:
    """Whether an IP address is one of the internet: not this machine's, a private network's, or a special one."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # with a zone, as fe80::1%eth0
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(str(address.ipv4_mapped))
        if address not in PUBLIC_6 or any(address in net for net in EMBEDDING):
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def resolved(host: str, where: str, resolve: Resolve) -> str:
    """The address to connect to, once all addresses of a name have been checked. The name isn't looked up again.

    Raises:
        DataError: it has none, or one that isn't public.
    """
    try:
        found = resolve(host, 443)
    except (OSError, UnicodeError):
        found = []
    if not found or not all(is_public(address) for address in found):
        expected = "a name that leads to public addresses alone"
        raise fault(where, f"found the host '{host[:80]}'", expected, "send the file's content in a data URI")
    return found[0]


def system_resolve(host: str, port: int) -> list[str]:
    """What the system's resolver says."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
