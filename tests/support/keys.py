"""Key pairs for tests, made when they are needed, and a search for pieces of secrets."""

import base64
import functools
import traceback
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

PASSPHRASE = "swordfish-of-the-tests"
PKCS8, PKCS1 = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL


@functools.cache
def rsa_key() -> rsa.RSAPrivateKey:
    """An RSA key, the same for all tests of a run."""
    return rsa.generate_private_key(65537, 2048)


def elliptic_key() -> ec.EllipticCurvePrivateKey:
    """An ECDSA key."""
    return ec.generate_private_key(ec.SECP256R1())


def edwards_key() -> ed25519.Ed25519PrivateKey:
    """A key of a kind that Snowflake does not take."""
    return ed25519.Ed25519PrivateKey.generate()


def pem(key: Any, passphrase: str = "", form: serialization.PrivateFormat = PKCS8) -> str:
    """The text of a private key's file, encrypted if there is a passphrase."""
    protection: Any = serialization.NoEncryption()
    if passphrase:
        protection = serialization.BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(serialization.Encoding.PEM, form, protection).decode()


def der(key: Any) -> bytes:
    """The unencrypted PKCS#8 bytes of a private key."""
    return key.private_bytes(serialization.Encoding.DER, PKCS8, serialization.NoEncryption())


def public_pem(key: Any) -> str:
    """The text of a public key's file."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def base64_of(content: bytes | str) -> str:
    """The base64 of bytes or text, in one line."""
    return base64.b64encode(content.encode() if isinstance(content, str) else content).decode()


def everything_in(error: BaseException) -> str:
    """All texts of an error: its message, repr, traceback, and those of its causes."""
    texts = []
    current: BaseException | None = error
    while current is not None:
        texts += [str(current), repr(current), *traceback.format_exception(current)]
        current = current.__cause__ or current.__context__
    return "\n".join(texts)


def pieces_in(text: str, secret: str, length: int = 8) -> set[str]:
    """The pieces of a secret, of eight characters each, that occur in a text."""
    pieces = {secret[at : at + length] for at in range(max(1, len(secret) - length + 1))}
    return {piece for piece in pieces if piece in text}
