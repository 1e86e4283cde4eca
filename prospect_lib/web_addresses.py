"""Origins of websites as browsers write them, and public addresses of this server.

Example::

    parse_origin("https://www.Bücher.example:443/")  # "https://www.xn--bcher-kva.example"
"""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

import idna

from prospect_lib.errors import SettingsError, one_line

_LABEL = "[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\.?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def parse_origin(text: str) -> str:
    """Return the origin of a website as a browser sends it: lower case, no default port.

    Args:
        text: ``https://www.example.com``, perhaps with a port or a slash at its end; a name in
            another script and an address such as ``http://[::1]:3000`` are accepted.
    Raises:
        SettingsError: it has another shape; the message shows the right one.
    """
    return _parse(text, "the origin of a website")


def parse_address(text: str) -> str:
    """Return a public address of this server, without a slash at its end.

    Args:
        text: an origin, perhaps with a path: ``https://www.example.com/scores``.
    Raises:
        SettingsError: it has another shape; the message shows the right one.
    """
    return _parse(text, "a server's address", path="/scores")


def parse_domain(text: str) -> str:
    """Return the name of a public host, such as ``name.ngrok-free.app``.

    Raises:
        SettingsError: it has another shape; the message shows the right one.
    """
    name, right = re.sub(r"(?i)^https?://|/.*$", "", text), "name.ngrok-free.app"
    try:
        host = _host(name.lower())
        if "." in host and name == text:
            return host
        right = host if "." in host else right
    except ValueError:
        pass
    raise SettingsError(f"{one_line(text, 80)!r} is not the name of a host. Write it as {right}")


def _parse(text: str, what: str, path: str = "") -> str:
    """Return an origin; with its path, if an example of a path is given."""
    address, example = "", f"https://www.example.com{path}"
    try:
        if re.match(r"(?i)(?!https?:)[a-z]+:(?!\d|//)", text):
            raise ValueError("its scheme is neither http nor https")
        # without a scheme, or with one that lacks its slashes
        bare = re.sub(r"(?i)^(https?:(?!\d))?/*", "", text)
        parts = urlsplit(text if "://" in text else f"https://{bare}")
        host, port = _host(parts.hostname or ""), _port(parts)
        address = f"{parts.scheme}://{host}"
        if port not in (None, _DEFAULT_PORTS.get(parts.scheme)):
            address += f":{port}"
        if path:
            address += parts.path.rstrip("/")
        fault = ""
        if not text.isprintable() or re.search(r"[ \\]", text):
            fault = "it has a space, or a character that no address has"
        elif text == "null":
            fault, address = "pages without an origin, as of files, cannot be named", ""
        elif parts.scheme not in _DEFAULT_PORTS:
            fault, address = "its scheme is neither http nor https", ""
        elif "://" not in text:
            fault = "http:// or https:// is missing"
        elif "@" in parts.netloc:
            fault = "it has a user name or a password"
        elif re.search("[?#]", text) or (parts.path.strip("/") and not path):
            fault = "it has more than scheme, host and port" if not path else "it has a query"
        if not fault:
            return address
    except ValueError as error:
        fault = str(error)
    right = address if re.search(r"[.:]\w|localhost", address[6:]) else example
    shown = one_line(re.sub("[^/]*@", "***@", text), 80)  # a name and its password are not echoed
    raise SettingsError(f"{shown!r} is not {what}: {fault}. Write it as {right}")


def _port(parts: SplitResult) -> int | None:
    """Return the port of an address, ``None`` for none; ValueError if it is out of range."""
    try:
        if parts.port != 0:
            return parts.port
    except ValueError:
        pass
    raise ValueError("its port is not a number from 1 to 65535")


def _host(name: str) -> str:
    """Return a host's name in a browser's spelling.

    Raises:
        ValueError: it is none; the message says why.
    """
    if "*" in name:
        raise ValueError("each website is named in full, without *")
    if ":" in name:
        if "%" in name:
            raise ValueError("an address with a zone is known to one machine only")
        return f"[{ipaddress.IPv6Address(name).compressed}]"
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode()
        except idna.IDNAError:
            raise ValueError("its name has no form in punycode, which begins with xn--") from None
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a host" if name else "it has no host")
    if name.rstrip(".").rpartition(".")[2].isdigit():
        ipaddress.IPv4Address(name)
    return name
