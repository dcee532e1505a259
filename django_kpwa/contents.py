"""Checks of texts: line feeds, visible characters, what databases can store, and whether an image's host is public."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from urllib.parse import unquote

# Invisible, although Unicode counts them as letters or symbols: Hangul fillers and the Braille cell without dots.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800")
_UNSEEN_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Mn", "Mc", "Me", "Zs", "Zl", "Zp"))
_LOCAL_NAMES = re.compile(
    r"(?:.*\.)?(?:localhost|localdomain|local|internal|intranet|private|corp|home|lan|test|invalid|home\.arpa)",
    re.IGNORECASE,
)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_A_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+", re.IGNORECASE)
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # NAT64: IPv6 addresses that hold an IPv4 address


def with_line_feeds(text: str) -> str:
    """Return `text` with every CRLF and CR replaced by a line feed, the line break that WhatsApp shows."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def says_something(text: str) -> bool:
    """True if `text` has at least one visible character."""
    return any(
        unicodedata.category(character) not in _UNSEEN_CATEGORIES and character not in _BLANK for character in text
    )


def storable(text: str, max_length: int | None = None) -> str:
    """Return `text` in a form that every database can store: NULs and lone surrogates are replaced.

    `max_length`: the number of characters to which the text is cut; None: it is not cut.
    """
    return _UNSTORABLE.sub("\ufffd", text[:max_length])


def is_out_of_reach(host: str) -> bool:
    """True if `host`, as written in a URL, can be reached only from this machine or its own network.

    That covers loopback, private, link-local and reserved addresses in every notation that browsers and libc accept
    (decimal, octal, hexadecimal, short, IPv6 with an IPv4 address inside), names without a dot, and names of local
    networks. No DNS lookup is made.
    """
    name = unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".").strip().rstrip(".")
    if not name or _LOCAL_NAMES.fullmatch(name):
        return True
    if ":" in name:
        return _is_local(name.partition("%")[0])
    if _A_NUMBER.fullmatch(name.rpartition(".")[2]):
        number = _ipv4_number(name.split("."))
        return number is None or _is_local(number)
    return "." not in name


def _ipv4_number(parts: list[str]) -> int | None:
    """Return an IPv4 address as `inet_aton()` reads it, or None if it is invalid.

    It has up to four parts, of which the last fills the remaining bytes. 0x marks hexadecimal, a leading 0 octal.
    """
    if len(parts) > 4 or not all(_A_NUMBER.fullmatch(part) for part in parts):
        return None
    try:
        values = [_value(part) for part in parts]
    except ValueError:
        return None
    *first, last = values
    if any(value > 255 for value in first) or last >= 256 ** (5 - len(parts)):
        return None
    return sum(value << (24 - 8 * index) for index, value in enumerate(first)) + last


def _value(part: str) -> int:
    if part[:2].lower() == "0x":
        return int(part[2:] or "0", 16)
    return int(part, 8) if part.startswith("0") else int(part)


def _is_local(address: str | int) -> bool:
    try:
        read = ipaddress.IPv4Address(address) if isinstance(address, int) else ipaddress.ip_address(address)
    except ValueError:
        return True
    if isinstance(read, ipaddress.IPv6Address):
        inside = read.ipv4_mapped or read.sixtofour or (read.teredo[1] if read.teredo else None)
        if inside is None and (read in _TRANSLATED or int(read) >> 32 == 0):
            inside = ipaddress.IPv4Address(int(read) & 0xFFFFFFFF)
        if inside is not None:
            return _is_local(int(inside))
    return not read.is_global or read.is_multicast or read.is_reserved
