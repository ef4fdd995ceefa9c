"""Which digest and which signature method go together in a token request.

`V1_3` is what everything is signed with. `V1_2_LEGACY` is the one place that knows SHA-1 in a signature: the contract
v1.2 of MAS-ST takes nothing else (MAS-ST 1.4, 3.1), and whoever wants it names it in the settings.
"""

import hashlib
from dataclasses import dataclass

from pipeline.protocol.algorithms import Algorithm
from pipeline.protocol.credential import Digest
from pipeline.protocol.namespaces import Ns


@dataclass(frozen=True, slots=True)
class Suite:
    """The algorithms of one certificate signature, by their XML Signature URIs, and the hash under both of them."""

    name: str
    digest_method: str
    signature_method: str
    hash: Digest

    def digest(self, content: bytes) -> bytes:
        return hashlib.new(self.hash, content, usedforsecurity=False).digest()


V1_3 = Suite("v1.3", Algorithm.SHA256, Algorithm.RSA_SHA256, Digest.SHA256)
V1_2_LEGACY = Suite("v1.2-legacy-sha1", f"{Ns.DS}sha1", f"{Ns.DS}rsa-sha1", Digest.SHA1)
