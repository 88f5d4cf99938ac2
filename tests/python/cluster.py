"""Three real servers of one log on loopback, set up as docs/cluster.md says, in a folder that is thrown away.

Everything here is done by the program `gapless-log` and by nothing else: what a client in another language meets is what
an operator has. Every wait has a deadline, and processes are ended by their own id.
"""

import contextlib
import os
import pathlib
import socket
import subprocess
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples" / "cluster"
SERVERS = (1, 2, 3)
PATIENCE_S = 60.0


def program() -> pathlib.Path:
    """The binary under test: what GAPLESS_LOG names, or else the one of the release build."""
    path = pathlib.Path(os.environ.get("GAPLESS_LOG", REPOSITORY / "target" / "release" / "gapless-log"))
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: cargo build --release -p gapless-log, or set GAPLESS_LOG")
    return path


class Cluster:
    """Starts with three empty servers; `close` ends them and removes the folder.

    `authority` are the certificate and the key of one that is there already, PEM: else one is made.
    """

    def __init__(self, authority: tuple[bytes, bytes] | None = None):
        self._cleanup = contextlib.ExitStack()
        self.folder = pathlib.Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="gapless-python-")))
        self.ports = free_ports(len(SERVERS))
        self._servers = []
        try:
            if authority is not None:
                self._keep(authority)
            self._configure()
            for n in SERVERS:
                self._serve(n)
            self._wait_until_all_serve()
        except BaseException:
            self.close()
            raise

    def close(self):
        for server in self._servers:
            server.terminate()
        for server in self._servers:
            try:
                server.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(PATIENCE_S)
        self._servers.clear()
        self._cleanup.close()

    def file(self, name: str) -> pathlib.Path:
        return self.folder / name

    def keys(self) -> list[pathlib.Path]:
        """Every TLS key that was made: the authority's, the servers' and the client's."""
        members = [self.file(f"var/server-{n}/server.key") for n in SERVERS]
        return [self.file("var/ca.key"), self.file("var/server-1/client-1.key"), *members]

    def append(self, lines: list[str]) -> list[int]:
        """Appends as `client-1` and returns the indexes, each proven by the log before it is printed."""
        told = self.run("append", "--config", self.file("client.toml"), "--within", "60", stdin="\n".join(lines) + "\n")
        return [int(line) for line in told.split()]

    def run(self, *arguments, stdin: str = "") -> str:
        """One verb of `gapless-log`, which has to succeed. Returns what it printed."""
        done = subprocess.run(
            [program(), *arguments], input=stdin, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"gapless-log {' '.join(map(str, arguments))}: {done.returncode}\n{done.stderr}")
        return done.stdout

    def said(self) -> str:
        """What the servers told, for a person who wants to know why."""
        return "\n".join(f"-- server-{n}\n{self._told(n)}" for n in SERVERS)

    def _keep(self, authority: tuple[bytes, bytes]):
        self.file("var").mkdir(mode=0o700)
        for name, pem in zip(("var/ca.pem", "var/ca.key"), authority):
            self.file(name).touch(mode=0o600)
            self.file(name).write_bytes(pem)

    def _configure(self):
        for name in [*(f"server-{n}.toml" for n in SERVERS), "client.toml"]:
            text = (EXAMPLES / name).read_text()
            for n, port in zip(SERVERS, self.ports):
                text = text.replace(f":5006{n}", f":{port}")
            self.file(name).write_text(text)
        for n in SERVERS:
            self.run("cosigner", "--config", self.file(f"server-{n}.toml"))
        self.run("init", "--config", self.file("server-1.toml"), "--with-certificates", "client-1")
        for n in SERVERS[1:]:
            self.run("init", "--config", self.file(f"server-{n}.toml"))
            self.run("certify", "--config", self.file(f"server-{n}.toml"), "--server")

    def _serve(self, n: int):
        # The process has its own copy of the file's descriptor.
        with open(self.file(f"server-{n}.said"), "wb") as said:
            command = [program(), "serve", "--config", self.file(f"server-{n}.toml")]
            self._servers.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said))

    def _told(self, n: int) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self.file(f"server-{n}.said").read_text(errors="replace")
        return ""

    def _wait_until_all_serve(self):
        by = time.monotonic() + PATIENCE_S
        while not all("serving" in self._told(n) for n in SERVERS):
            ended = [server.args for server in self._servers if server.poll() is not None]
            if ended or time.monotonic() > by:
                raise RuntimeError(f"the cluster does not serve; ended: {ended}\n{self.said()}")
            time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that are free; all are held until the last is found, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
