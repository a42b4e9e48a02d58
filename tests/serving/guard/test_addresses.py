"""Addresses: https alone, hosts of a list, and IP addresses of the internet."""

from __future__ import annotations

import pytest

from isthmus.data.errors import DataError
from isthmus.serving.guard.addresses import is_public, place, read_hosts, resolved, system_resolve

HOSTS = ("media.example.org", "*.pictures.example.org")


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd12:3456::1",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:a9fe:a9fe",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:a00:1::",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "100::1",
        "4000::1",
        "localhost",
        "x",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_what_is_on_the_list() -> None:
    assert read_hosts(" Media.example.org, *.pictures.example.org,") == HOSTS
    assert place("https://media.example.org", HOSTS, "url").target == "/"
    found = place("https://A.Pictures.example.org:443/b/c.png?d=e#f", HOSTS, "url")
    assert (found.host, found.target) == ("a.pictures.example.org", "/b/c.png?d=e")
    for wrong in ("localhost", "*", "10.0.0.1/8", "https://a.org", "a..b", "-a.org", "*.*.org", "*a.org"):
        with pytest.raises(ValueError, match="expected names of hosts"):
            read_hosts(wrong)


@pytest.mark.parametrize(
    "url",
    [
        "http://media.example.org/",
        "ftp://media.example.org/",
        "file:///etc/passwd",
        "//media.example.org/",
        "https://",
        "https://pictures.example.org/",
        "https://evilpictures.example.org/",
        "https://media.example.org.evil.org/",
        "https://evil.org/media.example.org",
        "https://media.example.org:22/",
        "https://media.example.org:99999/",
        "https://user@media.example.org/",
        "https://media.example.org@evil.org/",
        "https://evil.org\\@media.example.org/",
        "https://media.example.org\\.evil.org/",
        "https://evil.org#@media.example.org/",
        "https://media.example.org/ HTTP/1.1\r\nHost: evil.org",
        "https://media.example.org/\n",
        "https://mediä.example.org/",
        "https://[::1]/",
        "https://[media.example.org/",
        "https://127.0.0.1/",
        "https://2130706433/",
    ],
)
def test_what_is_not_on_the_list(url: str) -> None:
    with pytest.raises(DataError, match=r"^url: found .*; expected .*Fix: send the file's content"):
        place(url, HOSTS, "url")


@pytest.mark.parametrize("found", [[], ["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["::ffff:127.0.0.1"]])
def test_names_that_lead_elsewhere(found: list[str]) -> None:
    with pytest.raises(DataError, match="public addresses alone"):
        resolved("media.example.org", "url", lambda host, port: found)


@pytest.mark.parametrize("name", ["localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "a" * 70 + ".org"])
def test_names_that_the_system_resolves_by_itself(name: str) -> None:
    with pytest.raises(DataError, match="public addresses alone"):
        resolved(name, "url", system_resolve)
