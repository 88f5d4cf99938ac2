//! Sockets that say nothing, from the same address as members and clients: the hardest place to be let in.

use std::{
    io::ErrorKind,
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{members::port_of, *};

/// Most sockets that stand at each server's door: more than it has places of any kind.
const HELD: usize = 300;

/// Keeps this many silent sockets open at one port until it is dropped, each for as long as the server lets it, and
/// opens another one for each that the server closed.
struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Flood {
    /// Returns once the first sockets stand.
    fn begin(port: &str) -> Flood {
        let (stop, address) = (Arc::new(AtomicBool::new(false)), format!("127.0.0.1:{port}"));
        let (stopped, (full, is_full)) = (stop.clone(), channel());
        let thread = thread::spawn(move || {
            let mut held: Vec<TcpStream> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let stood = held.len();
                held.retain(stands);
                if held.len() < stood || held.len() == HELD {
                    let _ = full.send(());
                }
                if held.len() < HELD {
                    // A server that is being restarted has no port for a moment.
                    let socket = TcpStream::connect(&address);
                    held.extend(socket.and_then(|socket| socket.set_nonblocking(true).map(|()| socket)));
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        let flood = Flood { stop, thread: Some(thread) };
        is_full.recv_timeout(PATIENCE).expect("sockets can be opened");
        flood
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// Returns whether the server has not closed the socket yet.
fn stands(socket: &TcpStream) -> bool {
    socket.peek(&mut [0]).is_err_and(|why| why.kind() == ErrorKind::WouldBlock)
}

#[test]
fn members_and_clients_get_in_while_silent_sockets_flood_every_server() {
    let bench = Bench::cluster();
    for n in 1..=3 {
        let file = bench.path(&format!("server-{n}.toml"));
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, format!("connections-max = 64\n{text}")).unwrap();
    }
    let serve = |n| Server::start(gapless_log().arg("serve").args(bench.member(n)));
    let append = |entry: &str| succeeded(gapless_log().arg("append").args(bench.client()).arg(entry));
    let mut servers: BTreeMap<usize, Server> = (1..=3).map(|n| (n, serve(n))).collect();
    append("before the flood");
    let _floods: Vec<Flood> = (1..=3).map(|n| Flood::begin(&port_of(&bench, n))).collect();
    append("a client comes");

    // One server comes back into the flood. Then another one goes, so that nothing is acknowledged without the first.
    servers.remove(&1).unwrap().kill();
    append("by two");
    servers.insert(1, serve(1));
    servers.remove(&2).unwrap().kill();
    append("by the one that came back, too");
    let found: Vec<_> = bench.events().into_values().map(|(_, payload)| payload).collect();
    assert_eq!(found, ["before the flood", "a client comes", "by two", "by the one that came back, too"]);
    let said = servers[&3].said.lock().unwrap().clone();
    let lines = said.lines().filter(|line| line.contains("handshake refused")).count();
    assert!(said.contains("too-many-handshakes"), "the flood was noticed:\n{said}");
    assert!(lines < 1_000, "{lines} lines tell of the flood one by one");
}
