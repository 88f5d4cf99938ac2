"""What packages by others make of the log's checkpoints and proofs.

* `tlog-scales` reads C2SP notes and checkpoints, knows Ed25519 signatures and cosignatures (types 1 and 4), and has RFC
  9162's verification of inclusion and of consistency. It can also build root and proofs anew from tiles of leaf hashes.
* `sigstore` verifies what stands in an entry of Rekor: the checkpoint's signature, that its root is the one of the proof,
  and inclusion. It has nothing for consistency and nothing for cosignatures. Its public API goes by whole bundles, with a
  certificate by Fulcio and a signature over an artifact, so the two functions are called that it calls for this part.

Each function returns for what is right, and raises for what is not.
"""

import base64
import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sigstore._internal.merkle import verify_merkle_inclusion
from sigstore._internal.rekor.checkpoint import verify_checkpoint
from sigstore._internal.trust import Keyring, RekorKeyring
from sigstore.models import TransparencyLogEntry
from sigstore_models.common import v1 as common
from sigstore_models.rekor import v1 as rekor
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey, VkeySet
from tlog_scales.tiles import leaf_hash
from tlog_scales.tlog import Checkpoint, ConsistencyProof, InclusionProof


class TlogScales:
    def __init__(self, log_key: str, cosigners: list[str]):
        self._log_key = Vkey.from_string(log_key)
        self._cosigners = VkeySet(*map(Vkey.from_string, cosigners))
        self._majority = len(cosigners) // 2 + 1

    def checkpoint(self, text: str) -> Checkpoint:
        """Signed by the log and cosigned by more than half of its members."""
        checkpoint = Checkpoint.from_text(text)
        checkpoint.verify(self._log_key)
        by = {vkey.name for vkey, _ in self._cosigners.verify(checkpoint.signatures, checkpoint)}
        if len(by) < self._majority:
            raise RuntimeError(f"cosigned by {sorted(by)} only, {self._majority} are needed")
        return checkpoint

    def inclusion(self, index: int, leaf: bytes, size: int, hashes: list[bytes], root: bytes):
        InclusionProof(index, size, hashes).check(leaf_hash(leaf), root)

    def consistency(self, old: int, old_root: bytes, new: int, new_root: bytes, hashes: list[bytes]):
        ConsistencyProof(old, new, hashes).check(old_root, new_root)


class Sigstore:
    def __init__(self, log_key: str):
        name, key_id, key = log_key.split("+", 2)
        key = base64.b64decode(key)[1:]
        der = Ed25519PublicKey.from_public_bytes(key).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        details = common.PublicKeyDetails.PKIX_ED25519
        # The models take bytes as they stand in JSON.
        self._keyring = RekorKeyring(Keyring([common.PublicKey(raw_bytes=base64.b64encode(der), key_details=details)]))
        # The id by which it finds the log's signature among those of the cosigners: that of the note.
        self._log_id = hashlib.sha256(name.encode() + b"\n\x01" + key).digest()
        if self._log_id[:4].hex() != key_id:
            raise ValueError(f"the key id of {log_key} is not its own")

    def inclusion(self, index: int, leaf: bytes, size: int, hashes: list[bytes], root: bytes, checkpoint: str):
        """Inclusion under that root, and that the signed checkpoint has this root."""
        proof = rekor.InclusionProof(
            log_index=str(index),
            root_hash=base64.b64encode(root),
            tree_size=str(size),
            hashes=[base64.b64encode(one) for one in hashes],
            checkpoint=rekor.Checkpoint(envelope=checkpoint),
        )
        inner = rekor.TransparencyLogEntry(
            log_index=str(index),
            log_id=common.LogId(key_id=base64.b64encode(self._log_id)),
            kind_version=rekor.KindVersion(kind="hashedrekord", version="0.0.1"),
            integrated_time="0",
            inclusion_proof=proof,
            canonicalized_body=base64.b64encode(leaf),
        )
        entry = TransparencyLogEntry(inner)
        verify_merkle_inclusion(entry)
        verify_checkpoint(self._keyring, entry)


class Tiles:
    """The leaves that were read, as a backend of `tlog-scales`: it builds the whole tree anew from them."""

    def __init__(self, leaves: list[bytes]):
        self._levels = [[leaf_hash(leaf) for leaf in leaves]]
        while len(self._levels[-1]) >= 256:
            below = self._levels[-1]
            whole = range(0, len(below) - 255, 256)
            self._levels.append([self._root(below[start : start + 256]) for start in whole])

    def reader(self) -> TilesReader:
        reader = TilesReader(self)
        reader.set_size(len(self._levels[0]))
        return reader

    def get(self, *path: str) -> bytes | None:
        _, level, *place = path
        if not level.isdigit() or int(level) >= len(self._levels):
            return None
        partial = int(place.pop()) if place[-2:-1] and place[-2].endswith(".p") else None
        number = int("".join(part.removeprefix("x").removesuffix(".p") for part in place))
        hashes = self._levels[int(level)][number * 256 : (number + 1) * 256]
        if len(hashes) < (256 if partial is None else partial):
            return None
        return b"".join(hashes[:partial])

    @staticmethod
    def _root(hashes: list[bytes]) -> bytes:
        while len(hashes) > 1:
            hashes = [hashlib.sha256(b"\x01" + a + b).digest() for a, b in zip(hashes[::2], hashes[1::2])]
        return hashes[0]
