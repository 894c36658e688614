"""Stands in for ``cryptography.fernet``, which is not installed for the tests. It is no cipher to use elsewhere."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import os
from collections.abc import Iterator, Sequence


class InvalidToken(Exception):
    """The text is not of this key."""


class Fernet:
    """Encrypts with the signature, the alphabet and the refusals of Fernet."""

    def __init__(self, key: str | bytes) -> None:
        self._key = key.encode() if isinstance(key, str) else key

    @staticmethod
    def generate_key() -> bytes:
        return base64.urlsafe_b64encode(os.urandom(32))

    def encrypt(self, data: bytes) -> bytes:
        salt = os.urandom(16)
        sealed = self._mixed(salt, data)
        return base64.urlsafe_b64encode(salt + self._tag(salt + sealed) + sealed)

    def decrypt(self, token: bytes | str) -> bytes:
        raw = base64.urlsafe_b64decode(token)
        salt, tag, sealed = raw[:16], raw[16:48], raw[48:]
        if not hmac.compare_digest(tag, self._tag(salt + sealed)):
            raise InvalidToken
        return self._mixed(salt, sealed)

    def _tag(self, text: bytes) -> bytes:
        return hmac.digest(self._key, text, "sha256")

    def _mixed(self, salt: bytes, data: bytes) -> bytes:
        return bytes(one ^ other for one, other in zip(data, self._stream(salt), strict=False))

    def _stream(self, salt: bytes) -> Iterator[int]:
        for number in itertools.count():
            yield from hashlib.sha256(self._key + salt + str(number).encode()).digest()


class MultiFernet:
    """Encrypts with the first key, and decrypts with any."""

    def __init__(self, fernets: Sequence[Fernet]) -> None:
        self._fernets = fernets

    def encrypt(self, data: bytes) -> bytes:
        return self._fernets[0].encrypt(data)

    def decrypt(self, token: bytes | str) -> bytes:
        for fernet in self._fernets:
            try:
                return fernet.decrypt(token)
            except InvalidToken:
                continue
        raise InvalidToken
