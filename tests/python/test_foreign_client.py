"""A client in Python against a real cluster: what the log proves to it, packages by others verify, and they refuse
whatever differs in one bit.

    python3 -m venv target/python && target/python/bin/pip install -r tests/python/requirements.txt
    target/python/bin/python -m unittest discover -s tests/python -v
"""

import base64
import contextlib
import datetime
import logging
import pathlib
import subprocess
import tempfile
import time
import unittest
from dataclasses import replace

import grpc
from cluster import PATIENCE_S, REPOSITORY, SERVERS, Cluster
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from foreign import Entry, Log, entry_of, generate
from sigstore.errors import VerificationError
from tlog_scales.tlog import ConsistencyProofInvalid, InclusionProofInvalid
from verifiers import Sigstore, Tiles, TlogScales

# More than a tile of 256, so that the tree is rebuilt over two levels.
FIRST = [f"user {n % 7} read record {n}" for n in range(290)]
LATER = [f"user {n % 5} wrote record {n}" for n in range(45)]


def flips(data: bytes, every: int = 1):
    """All that differ from `data` in one bit, or in one of every few bits."""
    for bit in range(0, len(data) * 8, every):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << (bit % 8)
        yield bytes(flipped)


def text_flips(text: str):
    """Those that are still one line of text: others do not get into a string of protobuf, or are another format."""
    for flipped in flips(text.encode()):
        with contextlib.suppress(UnicodeDecodeError):
            if b"\n" not in flipped:
                yield flipped.decode()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def signature_of(line, payload: bytes) -> str:
    return base64_of(line.key_id.to_bytes(4, "big") + payload)


class ForeignClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # It logs a stack for each signature that it refuses, and here that is thousands.
        logging.getLogger("tlog_scales").setLevel(logging.CRITICAL)
        generated = tempfile.TemporaryDirectory(prefix="gapless-proto-")
        cls.addClassCleanup(generated.cleanup)
        cls.contract = generate(REPOSITORY / "proto", pathlib.Path(generated.name))
        cls.cluster = Cluster()
        cls.addClassCleanup(cls.cluster.close)
        cls.first_indexes = cls.cluster.append(FIRST)
        cls.old_text = newest(cls.cluster, cls.log)
        cls.later_indexes = cls.cluster.append(LATER)
        cls.text = newest(cls.cluster, cls.log)
        log_key = cls.cluster.file("var/log.vkey").read_text().strip()
        cosigners = [cls.cluster.file(f"var/server-{n}/cosigner.vkey").read_text().strip() for n in SERVERS]
        cls.scales, cls.sigstore = TlogScales(log_key, cosigners), Sigstore(log_key)
        cls.old, cls.new = cls.scales.checkpoint(cls.old_text), cls.scales.checkpoint(cls.text)
        for n in SERVERS:
            cls.wait_until_shown(n)
        with cls.log(1) as log:
            cls.leaves = log.leaves(cls.new.size, page=64)

    @classmethod
    def log(cls, n: int, certified: bool = True) -> Log:
        files = [cls.cluster.file(f"var/{name}") for name in ("ca.pem", "server-1/client-1.pem", "server-1/client-1.key")]
        ca, certificate, key = (file.read_bytes() for file in files)
        if not certified:
            certificate = key = None
        return Log(cls.contract, f"127.0.0.1:{cls.cluster.ports[n - 1]}", ca, certificate, key)

    @classmethod
    def wait_until_shown(cls, n: int):
        """A follower shows what was committed a moment after the leader does."""
        by = time.monotonic() + PATIENCE_S
        with cls.log(n) as log:
            while cls.scales.checkpoint(log.checkpoint()).size < cls.new.size:
                if time.monotonic() > by:
                    raise RuntimeError(f"server-{n} does not show {cls.new.size} leaves\n{cls.cluster.said()}")
                time.sleep(0.05)

    def refused(self, kinds, verify, *what):
        with self.assertRaises(kinds):
            verify(*what)

    # ---- keys ----

    def test_openssl_reads_every_key_and_verifies_every_certificate(self):
        for key in self.cluster.keys():
            text = subprocess.run(
                ["openssl", "pkey", "-in", key, "-noout", "-text"], capture_output=True, timeout=PATIENCE_S, check=False
            )
            self.assertEqual(text.returncode, 0, f"{key}: {text.stderr}")
            self.assertIn(b"prime256v1", text.stdout, key)
            certificate = key.with_suffix(".pem")
            verified = subprocess.run(
                ["openssl", "verify", "-x509_strict", "-CAfile", self.cluster.file("var/ca.pem"), certificate],
                capture_output=True,
                timeout=PATIENCE_S,
                check=False,
            )
            self.assertEqual(verified.returncode, 0, f"{certificate}: {verified.stderr}")

    def test_each_key_belongs_to_its_certificate_and_is_of_ecdsa(self):
        for key in self.cluster.keys():
            private = load_pem_private_key(key.read_bytes(), None)
            self.assertIsInstance(private.curve, ec.SECP256R1)
            certificate = x509.load_pem_x509_certificate(key.with_suffix(".pem").read_bytes())
            self.assertEqual(private.public_key(), certificate.public_key())

    # ---- mutual TLS ----

    def test_every_server_is_spoken_to_and_says_the_same(self):
        for n in SERVERS:
            with self.log(n) as log:
                self.assertEqual(log.leaves(self.new.size, page=100), self.leaves, f"server-{n}")
                told = self.scales.checkpoint(log.checkpoint())
                # It may have grown: a leader that begins says so in the log.
                proof = log.consistency(self.new.size, told.size) if told.size > self.new.size else []
                self.scales.consistency(self.new.size, self.new.root_hash, told.size, told.root_hash, proof)

    def test_a_client_without_a_certificate_gets_nothing(self):
        with self.log(1, certified=False) as log, self.assertRaises(grpc.RpcError) as refusal:
            log.checkpoint()
        self.assertEqual(refusal.exception.code(), grpc.StatusCode.UNAVAILABLE)

    # ---- leaves ----

    def test_all_that_was_appended_is_read_in_order_where_it_was_said_to_be_and_signed(self):
        entries = [entry_of(leaf) for leaf in self.leaves]
        keys = {(e.client, e.epoch): e.body[:32] for e in entries if e is not None and e.kind == Entry.OPENED}
        events = [(index, e) for index, e in enumerate(entries) if e is not None and e.kind == Entry.EVENT]
        self.assertEqual([e.body.decode() for _, e in events], FIRST + LATER)
        self.assertEqual([index for index, _ in events], self.first_indexes + self.later_indexes)
        self.assertEqual([e.sequence for _, e in events], list(range(1, len(events) + 1)))
        for _, entry in events:
            self.assertEqual(entry.client, "client-1")
            entry.verify(keys[entry.client, entry.epoch])
        entry = events[0][1]
        for flipped in flips(entry.signed):
            self.refused(InvalidSignature, replace(entry, signed=flipped).verify, keys[entry.client, entry.epoch])

    def test_a_stream_brings_the_same_leaves(self):
        with self.log(2) as log:
            self.assertEqual(log.tail(self.new.size), self.leaves)

    # ---- proofs, and what differs from them in one bit ----

    def test_the_whole_tree_is_built_anew_from_the_leaves(self):
        reader = Tiles(self.leaves).reader()
        self.assertEqual(reader.calculate_root_hash(), self.new.root_hash)
        self.assertEqual(reader.mth(0, self.old.size), self.old.root_hash)
        with self.log(3) as log:
            for index in (0, 1, 255, 256, self.new.size - 1):
                built = reader.get_inclusion_proof(index, self.new.size)
                self.assertEqual(log.inclusion(index, self.new.size), built.node_hashes, index)
            for old in (1, 2, 255, 256, 257, self.old.size, self.new.size - 1):
                built = reader.get_consistency_proof(old, self.new.size)
                self.assertEqual(log.consistency(old, self.new.size), built.node_hashes, old)
        for flipped in list(flips(self.leaves[7], every=97)):
            other = Tiles([*self.leaves[:7], flipped, *self.leaves[8:]]).reader()
            self.assertNotEqual(other.calculate_root_hash(), self.new.root_hash)

    def test_every_leaf_is_proven_to_both(self):
        with self.log(1) as log:
            for index, leaf in enumerate(self.leaves):
                hashes = log.inclusion(index, self.new.size)
                self.scales.inclusion(index, leaf, self.new.size, hashes, self.new.root_hash)
                self.sigstore.inclusion(index, leaf, self.new.size, hashes, self.new.root_hash, self.text)

    def test_a_bit_of_leaf_proof_or_root_spoils_inclusion_for_both(self):
        for index in (0, self.first_indexes[0], 255, 256, self.new.size - 1):
            with self.log(1) as log:
                hashes = log.inclusion(index, self.new.size)
            leaf, root = self.leaves[index], self.new.root_hash
            spoilt = [(flipped, hashes, root) for flipped in flips(leaf)]
            spoilt += [(leaf, hashes, flipped) for flipped in flips(root)]
            for place, one in enumerate(hashes):
                spoilt += [(leaf, [*hashes[:place], flipped, *hashes[place + 1 :]], root) for flipped in flips(one, 5)]
            spoilt += [(leaf, hashes[:-1], root), (leaf, [*hashes, hashes[0]], root)]
            for leaf_, hashes_, root_ in spoilt:
                known = (index, leaf_, self.new.size, hashes_, root_)
                self.refused(InclusionProofInvalid, self.scales.inclusion, *known)
                self.refused(VerificationError, self.sigstore.inclusion, *known, self.text)

    def test_a_leaf_at_another_index_is_refused_by_both(self):
        with self.log(1) as log:
            hashes = log.inclusion(100, self.new.size)
        for index in (99, 101, 0):
            known = (index, self.leaves[100], self.new.size, hashes, self.new.root_hash)
            self.refused(InclusionProofInvalid, self.scales.inclusion, *known)
            self.refused(VerificationError, self.sigstore.inclusion, *known, self.text)

    def test_a_bit_of_the_checkpoint_spoils_it_for_both(self):
        index, size, root = 5, self.new.size, self.new.root_hash
        with self.log(1) as log:
            proof = (index, self.leaves[index], size, log.inclusion(index, size), root)
        self.sigstore.inclusion(*proof, self.text)
        head, signatures = self.text.split("\n\n")
        origin, count, _ = head.split("\n")
        spoilt = [(flipped, count, root) for flipped in text_flips(origin)]
        spoilt += [(origin, flipped, root) for flipped in text_flips(count)]
        spoilt += [(origin, count, flipped) for flipped in flips(root)]
        for origin_, count_, root_ in spoilt:
            text = f"{origin_}\n{count_}\n{base64_of(root_)}\n\n{signatures}"
            # One of them may not even be a number any more.
            self.refused((InvalidSignature, ValueError), self.scales.checkpoint, text)
            self.refused(VerificationError, self.sigstore.inclusion, *proof, text)

    def test_a_bit_of_the_logs_signature_spoils_the_checkpoint_for_both(self):
        index, size, root = 5, self.new.size, self.new.root_hash
        with self.log(1) as log:
            proof = (index, self.leaves[index], size, log.inclusion(index, size), root)
        (line,) = [one for one in self.new.signatures if one.name == self.new.origin]
        for flipped in flips(line.payload):
            text = self.text.replace(signature_of(line, line.payload), signature_of(line, flipped))
            self.assertNotEqual(text, self.text)
            self.refused(InvalidSignature, self.scales.checkpoint, text)
            self.refused(VerificationError, self.sigstore.inclusion, *proof, text)

    def test_a_checkpoint_with_a_bit_of_the_cosignatures_flipped_has_no_majority(self):
        spoilt = self.text
        cosigned = [one for one in self.new.signatures if one.name != self.new.origin]
        self.assertGreaterEqual(len(cosigned), 2)
        for one in cosigned:
            spoilt = spoilt.replace(signature_of(one, one.payload), signature_of(one, list(flips(one.payload))[-1]))
        with self.assertRaisesRegex(RuntimeError, "2 are needed"):
            self.scales.checkpoint(spoilt)

    def test_the_newer_tree_extends_the_older_and_a_bit_of_it_spoils_that(self):
        reader = Tiles(self.leaves).reader()
        with self.log(2) as log:
            sizes = [1, 2, 3, 64, 255, 256, 257, self.old.size, self.new.size - 1]
            proofs = {old: log.consistency(old, self.new.size) for old in sizes}
        for old, hashes in proofs.items():
            old_root, new_root = reader.mth(0, old), self.new.root_hash
            self.scales.consistency(old, old_root, self.new.size, new_root, hashes)
            spoilt = [(flipped, new_root, hashes) for flipped in flips(old_root, 3)]
            spoilt += [(old_root, flipped, hashes) for flipped in flips(new_root, 3)]
            for place, one in enumerate(hashes):
                spoilt += [(old_root, new_root, [*hashes[:place], f, *hashes[place + 1 :]]) for f in flips(one, 5)]
            spoilt += [(old_root, new_root, hashes[:-1]), (old_root, new_root, [*hashes, hashes[0]])]
            for old_root_, new_root_, hashes_ in spoilt:
                known = (old, old_root_, self.new.size, new_root_, hashes_)
                self.refused(ConsistencyProofInvalid, self.scales.consistency, *known)


class UnderAnEd25519Authority(unittest.TestCase):
    """As logs have it that were begun before their keys were made for everybody: only the authority is of before."""

    def test_a_client_on_the_c_core_is_served_with_the_keys_that_certify_makes_today(self):
        generated = tempfile.TemporaryDirectory(prefix="gapless-proto-")
        self.addCleanup(generated.cleanup)
        cluster = Cluster(ed25519_authority())
        self.addCleanup(cluster.close)
        files = [cluster.file(f"var/{name}") for name in ("ca.pem", "server-1/client-1.pem", "server-1/client-1.key")]
        contract = generate(REPOSITORY / "proto", pathlib.Path(generated.name))

        def log(n: int) -> Log:
            return Log(contract, f"127.0.0.1:{cluster.ports[n - 1]}", *(file.read_bytes() for file in files))

        cluster.append(["one entry"])
        self.assertIn("log.example/cluster", newest(cluster, log))


def ed25519_authority() -> tuple[bytes, bytes]:
    key, now = Ed25519PrivateKey.generate(), datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an authority of before")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, None)
    )
    pem = Encoding.PEM
    return certificate.public_bytes(pem), key.private_bytes(pem, PrivateFormat.PKCS8, NoEncryption())


def newest(cluster: Cluster, logs) -> str:
    """The newest checkpoint, from whichever server leads: the others refuse to say that theirs is."""
    by = time.monotonic() + PATIENCE_S
    while True:
        for n in SERVERS:
            with contextlib.suppress(grpc.RpcError), logs(n) as log:
                return log.checkpoint(linearizable=True)
        if time.monotonic() > by:
            raise RuntimeError(f"nobody leads\n{cluster.said()}")
        time.sleep(0.1)


if __name__ == "__main__":
    unittest.main()
