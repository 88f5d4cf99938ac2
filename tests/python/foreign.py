"""A client of the log in another language: gRPC's C core, the shipped .proto files, and docs/formats.md.

It shares no code with the log. It verifies nothing by itself: that is what `verifiers.py` does with packages by others.
"""

import importlib
import pathlib
import sys
from dataclasses import dataclass

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from grpc_tools import protoc

DEADLINE_S = 30.0


def generate(protos: pathlib.Path, into: pathlib.Path):
    """Compiles the wire contract and returns its messages and its stubs."""
    contract = "gapless/audit/v1/audit.proto"
    status = protoc.main(["protoc", f"-I{protos}", f"--python_out={into}", f"--grpc_python_out={into}", contract])
    if status != 0:
        raise RuntimeError(f"protoc refuses {contract}: status {status}")
    sys.path.insert(0, str(into))
    return tuple(importlib.import_module(f"gapless.audit.v1.audit_{part}") for part in ("pb2", "pb2_grpc"))


class Log:
    """One connection to one server, by mutual TLS."""

    def __init__(self, contract, address: str, ca: bytes, certificate: bytes | None, key: bytes | None):
        self._messages, stubs = contract
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
        self._channel = grpc.secure_channel(address, credentials)
        self._stub = stubs.AuditLogStub(self._channel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._channel.close()

    def checkpoint(self, linearizable: bool = False) -> str:
        freshness = self._messages.Freshness(linearizable=True) if linearizable else None
        request = self._messages.GetCheckpointRequest(freshness=freshness)
        return self._stub.GetCheckpoint(request, timeout=DEADLINE_S).checkpoint

    def leaves(self, size: int, page: int) -> list[bytes]:
        """The first `size` leaves, at most `page` of them with each call."""
        leaves = []
        while len(leaves) < size:
            request = self._messages.ReadRequest(start=len(leaves), limit=min(page, size - len(leaves)))
            answer = self._stub.Read(request, timeout=DEADLINE_S)
            if answer.start != len(leaves) or not answer.leaves:
                raise RuntimeError(f"asked for leaves from {len(leaves)}, got {len(answer.leaves)} from {answer.start}")
            leaves.extend(answer.leaves)
        return leaves

    def tail(self, count: int) -> list[bytes]:
        """The first `count` leaves, by a stream."""
        stream = self._stub.Tail(self._messages.TailRequest(start=0), timeout=DEADLINE_S)
        leaves = []
        for one in stream:
            if one.index != len(leaves):
                raise RuntimeError(f"leaf {len(leaves)} was due, {one.index} came")
            leaves.append(one.leaf)
            if len(leaves) == count:
                break
        stream.cancel()
        return leaves

    def inclusion(self, index: int, size: int) -> list[bytes]:
        request = self._messages.GetInclusionProofRequest(index=index, tree_size=size)
        return list(self._stub.GetInclusionProof(request, timeout=DEADLINE_S).hashes)

    def consistency(self, old: int, new: int) -> list[bytes]:
        request = self._messages.GetConsistencyProofRequest(old_size=old, new_size=new)
        return list(self._stub.GetConsistencyProof(request, timeout=DEADLINE_S).hashes)


@dataclass(frozen=True)
class Entry:
    """An entry as docs/formats.md has it."""

    client: str
    epoch: int
    sequence: int
    kind: int
    body: bytes
    signature: bytes
    signed: bytes

    OPENED = 1
    EVENT = 2

    def verify(self, key: bytes):
        """Raises unless the epoch's key signed it."""
        Ed25519PublicKey.from_public_bytes(key).verify(self.signature, self.signed)


class Bytes:
    """Reads fields off the front; whatever is missing is an error."""

    def __init__(self, of: bytes):
        self._rest = of

    def take(self, count: int) -> bytes:
        if len(self._rest) < count:
            raise ValueError(f"{count} bytes are due, {len(self._rest)} are left")
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def left(self) -> int:
        return len(self._rest)


def entry_of(leaf: bytes) -> Entry | None:
    """The entry in a leaf; `None` where the log speaks of itself."""
    fields = Bytes(leaf)
    if fields.take(16) != b"gapless/leaf/v1\0":
        raise ValueError(f"not a leaf: {leaf[:16]!r}")
    fields.take(8 + 8 + 4)  # Term, Raft index and position: the log's own affair.
    kind, content = fields.number(1), fields.take(fields.number(8))
    if fields.left():
        raise ValueError(f"{fields.left()} bytes behind the leaf")
    if kind != 1:
        return None
    fields = Bytes(content)
    if fields.take(17) != b"gapless/entry/v1\0":
        raise ValueError(f"not an entry: {content[:17]!r}")
    client = fields.take(fields.number(1)).decode("ascii")
    epoch, sequence, kind = fields.number(8), fields.number(8), fields.number(1)
    body, signature = fields.take(fields.number(8)), fields.take(64)
    if fields.left():
        raise ValueError(f"{fields.left()} bytes behind the entry")
    return Entry(client, epoch, sequence, kind, body, signature, content[:-64])
