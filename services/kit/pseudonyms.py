"""Names that tell nothing: keyed hashes in place of patients and paths."""

import hashlib
import hmac
from dataclasses import dataclass, field

KEY_BYTES = 16


@dataclass(frozen=True)
class Pseudonyms:
    """The same patient of the same site has the same pseudonym in every dataset of this key."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) < KEY_BYTES:
            msg = f"a pseudonym key has at least {KEY_BYTES} bytes"
            raise ValueError(msg)

    def patient(self, site: str, name: str) -> str:
        return f"{site}:{self._hash('patient', site, name)}"

    def sample(self, site: str, place: str) -> str:
        return f"{site}-{self._hash('sample', site, place)}"

    def _hash(self, *parts: str) -> str:
        # 128 bits: no collision to be expected among any number of patients.
        return hmac.new(self.key, "\x00".join(parts).encode(), hashlib.sha256).hexdigest()[:32]
