//! A real log to measure: processes of `gapless-log`, sockets on loopback, mutual TLS, and a disk that is synced.
//!
//! It is in a folder of its own on the disk of the build, which is removed with it. Nothing but loopback is touched.

use std::{
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The configurations of the examples, whichever package measures: its own folder need not be the one of the log.
const CONFIGURATIONS: [&str; 3] = [
    include_str!("../../../examples/cluster/server-1.toml"),
    include_str!("../../../examples/cluster/server-2.toml"),
    include_str!("../../../examples/cluster/server-3.toml"),
];

/// A process, which is killed when it is dropped.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> io::Result<Process> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Process)
    }

    /// Returns the processor time of all of them.
    pub(crate) fn all<'p>(processes: impl IntoIterator<Item = &'p Process>) -> Result<Duration, Failure> {
        processes.into_iter().map(|Process(child)| processor_of(&child.id().to_string())).sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the processor time of a process: fields 14 and 15 of proc(5), `utime` and `stime`, in hundredths of a
/// second.
pub(crate) fn processor_of(pid: &str) -> Result<Duration, Failure> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no command in /proc/PID/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// Returns free ports. All are held until the last is found, so that they differ.
pub(crate) fn ports(count: usize) -> io::Result<Vec<u16>> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    held.iter().map(|it| Ok(it.local_addr()?.port())).collect()
}

/// Makes a folder on the disk of the build, because the folder for temporary files may not be on a real disk.
pub(crate) fn folder() -> io::Result<tempfile::TempDir> {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
}

/// Up to three servers of one log, and certificates for its clients.
pub(crate) struct Log {
    // First, so that the processes end before their folder is removed.
    pub(crate) processes: Vec<Process>,
    folder: tempfile::TempDir,
    pub(crate) addresses: Vec<String>,
}

impl Log {
    /// Starts servers of this program, which are configured like the examples, with as many of their members.
    pub(crate) fn start(gapless_log: &Path, servers: usize, clients: usize) -> Result<Log, Failure> {
        let (folder, ports) = (folder()?, ports(servers)?);
        for (n, text) in (1..=servers).zip(CONFIGURATIONS) {
            // The part before the members, and as many members as there are servers.
            let parts: Vec<&str> = text.split("[[member]]").take(1 + servers).collect();
            let text = (1..)
                .zip(&ports)
                .fold(parts.join("[[member]]"), |text, (n, port)| text.replace(&format!("5006{n}"), &port.to_string()));
            fs::write(folder.path().join(format!("server-{n}.toml")), text)?;
        }
        let verb = |verb: &str, n: usize| {
            let mut command = Command::new(gapless_log);
            command
                .arg(verb)
                .env_remove("RUST_LOG")
                .arg("--config")
                .arg(folder.path().join(format!("server-{n}.toml")));
            command
        };
        for n in 1..=servers {
            done(&mut verb("cosigner", n))?;
        }
        done(verb("init", 1).arg("--with-certificates").arg("client-0"))?;
        for n in 2..=servers {
            done(&mut verb("init", n))?;
            done(verb("certify", n).arg("--server"))?;
        }
        if clients > 1 {
            done(verb("certify", 1).args((1..clients).map(|n| format!("client-{n}"))))?;
        }
        let processes = (1..=servers).map(|n| Process::start(&mut verb("serve", n))).collect::<Result<_, _>>()?;
        let addresses = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        Ok(Log { processes, folder, addresses })
    }

    /// Returns the path of a file that the configuration names below `var`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("var").join(name)
    }
}

fn done(command: &mut Command) -> Result<(), Failure> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}
