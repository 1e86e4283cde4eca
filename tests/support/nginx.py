"""A real nginx (Debian's package), with the lines of ``docs/serving.md`` or others."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.conftest import free_port
from tests.support.keys import elliptic_key, pem
from tests.support.waiting import wait_for

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx"
PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
UPSTREAM = "127.0.0.1:9091"
#: Paths of the build, which only root may write.
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def documented() -> list[str]:
    """The configurations of nginx in the document, as they are."""
    return re.findall(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@contextmanager
def nginx(folder: Path, server: str, upstream: str) -> Iterator[str]:
    """Run nginx with one ``server`` block in place of its upstream; yields its https address.

    Its certificate is ``folder / "certificate.pem"``. Without nginx the test is skipped, and in CI
    it fails.
    """
    if shutil.which(NGINX) is None and "CI" not in os.environ:
        pytest.skip("no nginx: apt-get install nginx-light")
    folder.mkdir()
    port, files = free_port(), certificate(folder)
    server, listening = re.subn(r"listen [^;]+;", f"listen 127.0.0.1:{port} ssl;", server)
    for name, file in files.items():
        server = re.sub(rf"{name} [^;]+;", f"{name} {file};", server)
    assert listening == 1 and server.count(UPSTREAM) == 1
    paths = "".join(f"{name}_temp_path {folder / name};" for name in TEMPORARY)
    (folder / "nginx.conf").write_text(
        f"pid {folder}/pid; error_log stderr; daemon off; events {{}}\n"
        f"http {{ access_log off; {paths}\n{server.replace(UPSTREAM, upstream)} }}"
    )
    process = subprocess.Popen([NGINX, "-c", str(folder / "nginx.conf")], stderr=subprocess.PIPE)
    try:
        wait_for(lambda: accepts(port) or process.poll() is not None)
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=60)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def certificate(folder: Path) -> dict[str, Path]:
    """Write a certificate for this machine and its key; returns them by nginx' directives."""
    key, now = elliptic_key(), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "scores.example.com")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(here, critical=False)
        .sign(key, hashes.SHA256())
    )
    files = {"ssl_certificate": folder / "certificate.pem", "ssl_certificate_key": folder / "key"}
    files["ssl_certificate"].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    files["ssl_certificate_key"].write_text(pem(key))
    return files
