"""IP addresses and networks, as Kubernetes has them: no zones, no IPv4 inside IPv6 (`::ffff:…`)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import ClassVar

from reconciler.cel.error import Fault
from reconciler.cel.library.table import Table, traversal
from reconciler.cel.values import Foreign, Frame

NETWORK = Table("ip and cidr", since="1.30")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_TEXT_MAX = 64
_BITS = re.compile(r"0|[1-9][0-9]{0,2}", re.ASCII)
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


@dataclass(frozen=True, slots=True)
class IP(Foreign):
    """An address."""

    cel_type: ClassVar[str] = "net.IP"
    address: Address


@dataclass(frozen=True, slots=True)
class CIDR(Foreign):
    """A network, with the bits of the host as they were written."""

    cel_type: ClassVar[str] = "net.CIDR"
    address: Address
    bits: int

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """Python's network; the bits of the host are dropped."""
        return ipaddress.ip_network(f"{self.address}/{self.bits}", strict=False)


def _address(text: str) -> Address:
    try:
        if len(text) > _TEXT_MAX or "%" in text or not text.isascii():
            raise ValueError
        address = ipaddress.ip_address(text)
    except ValueError:
        raise Fault("this string is no IP address") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise Fault("an IPv4 address inside an IPv6 address is not allowed")
    return address


def _cidr(text: str) -> CIDR:
    before, slash, bits = text[: _TEXT_MAX + 1].rpartition("/")
    if not slash or not _BITS.fullmatch(bits):
        raise Fault("this string is no network such as 10.0.0.0/8")
    address = _address(before)
    if int(bits) > address.max_prefixlen:
        raise Fault("this string is no network such as 10.0.0.0/8")
    return CIDR(address, int(bits))


@NETWORK.add("ip(string) -> IP")
def _(frame: Frame, text: str) -> IP:
    traversal(frame, len(text))
    return IP(_address(text))


@NETWORK.add("isIP(string) -> bool")
def _(frame: Frame, text: str) -> bool:
    traversal(frame, len(text))
    try:
        _address(text)
    except Fault:
        return False
    return True


@NETWORK.add("ip.isCanonical(string) -> bool")
def _(frame: Frame, text: str) -> bool:
    traversal(frame, len(text), factor=2)
    return str(_address(text)) == text


@NETWORK.add("string(IP) -> string")
def _(frame: Frame, ip: IP) -> str:
    return str(ip.address)


@NETWORK.add("IP.family() -> int")
def _(frame: Frame, ip: IP) -> int:
    return ip.address.version


@NETWORK.add("IP.isUnspecified() -> bool")
def _(frame: Frame, ip: IP) -> bool:
    return ip.address.is_unspecified


@NETWORK.add("IP.isLoopback() -> bool")
def _(frame: Frame, ip: IP) -> bool:
    return ip.address.is_loopback


@NETWORK.add("IP.isLinkLocalMulticast() -> bool")
def _(frame: Frame, ip: IP) -> bool:
    packed = ip.address.packed
    if ip.address.version == 4:
        return packed[:3] == b"\xe0\x00\x00"
    return packed[0] == 0xFF and packed[1] & 0x0F == 0x02


@NETWORK.add("IP.isLinkLocalUnicast() -> bool")
def _(frame: Frame, ip: IP) -> bool:
    return ip.address.is_link_local


@NETWORK.add("IP.isGlobalUnicast() -> bool")
def _(frame: Frame, ip: IP) -> bool:
    """Go's: private addresses count as global ones."""
    address = ip.address
    is_other = address.is_unspecified or address.is_loopback or address.is_multicast
    return not (is_other or address.is_link_local or address == _BROADCAST)


@NETWORK.add("cidr(string) -> CIDR")
def _(frame: Frame, text: str) -> CIDR:
    traversal(frame, len(text))
    return _cidr(text)


@NETWORK.add("isCIDR(string) -> bool")
def _(frame: Frame, text: str) -> bool:
    traversal(frame, len(text))
    try:
        _cidr(text)
    except Fault:
        return False
    return True


@NETWORK.add("string(CIDR) -> string")
def _(frame: Frame, cidr: CIDR) -> str:
    return f"{cidr.address}/{cidr.bits}"


@NETWORK.add("CIDR.ip() -> IP")
def _(frame: Frame, cidr: CIDR) -> IP:
    return IP(cidr.address)


@NETWORK.add("CIDR.prefixLength() -> int")
def _(frame: Frame, cidr: CIDR) -> int:
    return cidr.bits


@NETWORK.add("CIDR.masked() -> CIDR")
def _(frame: Frame, cidr: CIDR) -> CIDR:
    return CIDR(cidr.network.network_address, cidr.bits)


@NETWORK.add("CIDR.containsIP(IP) -> bool")
def _holds(frame: Frame, cidr: CIDR, ip: IP) -> bool:
    frame.spend(3 if ip.address.version == 6 else 0)
    return ip.address.version == cidr.address.version and ip.address in cidr.network


@NETWORK.add("CIDR.containsIP(string) -> bool")
def _(frame: Frame, cidr: CIDR, text: str) -> bool:
    traversal(frame, len(text))
    return _holds(frame, cidr, IP(_address(text)))


@NETWORK.add("CIDR.containsCIDR(CIDR) -> bool")
def _covers(frame: Frame, cidr: CIDR, other: CIDR) -> bool:
    frame.spend(6 if other.address.version == 6 else 2)
    is_same = other.address.version == cidr.address.version
    return is_same and cidr.bits <= other.bits and other.address in cidr.network


@NETWORK.add("CIDR.containsCIDR(string) -> bool")
def _(frame: Frame, cidr: CIDR, text: str) -> bool:
    traversal(frame, len(text))
    return _covers(frame, cidr, _cidr(text))
