//! Entropy and clocks, provided at the level of libc.
//!
//! Production code, and every library below it, asks libc for random bytes and for the time. A binary that simulates
//! defines those symbols itself, with [`define_seam!`](crate::define_seam), and answers from the seed and from
//! simulated time. So tonic, rustls, ring and openraft run unmodified, and yet every run of a seed is the same to the
//! byte. The *binary* defines the symbols, never this library: otherwise a replaceable random generator would sit under
//! the keys of every program that links it.
//!
//! [`arm`] arms the seam once per process, on the simulating thread. On other threads every call passes through to the
//! kernel. Once the seam is armed, the simulating thread never again asks the kernel for entropy or time. A thread that
//! is created during a run, a thread other than the simulating one that asks for time or entropy, and a real socket or
//! file that a simulated host opens are [leaks] that fail the run, because such a run could not be replayed.
//!
//! The current tokio runtime tells which host is calling: each host has its own runtime, registered by [`enter_host`].
//! If no runtime is current (while one is being created or dropped), it is the host that the driver named with
//! [`driving`].
//!
//! Everything else that a run asks of libc is in this module too: no other module has `unsafe`, except that the command
//! line asks for the width of the terminal and handles Ctrl-C.

mod leak;
mod libc_calls;
mod parent;
mod raw;
mod standing;
mod wall;

use std::{
    cell::{Cell, RefCell},
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use leak::leaks;
#[cfg(target_os = "linux")]
pub use libc_calls::{Spawn, mkdirat, openat, renameat, socket, spawn, unlinkat};
pub use libc_calls::{clock_gettime, getentropy, getrandom, pthread_create, syscall};
pub use parent::end_with_parent;
pub use standing::{Interruptible, Standing, standing};
pub use wall::{FaultId, WallClock, WrongReads};

/// Simulated time zero on `CLOCK_MONOTONIC`. It is not 0, because some libraries subtract from their first reading.
const MONOTONIC_BASE: Duration = Duration::from_secs(1_000_000);

/// Index of a host, in the order of registration. The driver itself is [`DRIVER`].
pub type HostIndex = usize;

/// The simulator itself, which calls when no host does.
pub const DRIVER: HostIndex = 0;

/// The state of the one run of this process: [`BEFORE`], then [`DURING`], then [`AFTER`].
static RUN: AtomicU8 = AtomicU8::new(BEFORE);
const BEFORE: u8 = 0;
const DURING: u8 = 1;
const AFTER: u8 = 2;

thread_local! {
    // These are `const` and need no allocation for a destructor, because libc may be called at any moment of a thread's
    // life.
    static ON_SIMULATING_THREAD: Cell<bool> = const { Cell::new(false) };
    static SEAM: RefCell<Option<Seam>> = const { RefCell::new(None) };
}

struct Seam {
    seed: u64,
    /// The wall clock at simulated time zero, since 1970.
    epoch: Duration,
    /// `Instant::now()` at simulated time zero, against which tokio's clocks are read.
    zero: std::time::Instant,
    /// The time as the driver knows it: the start of the current tick.
    now: Duration,
    /// The host for which the driver acts while no runtime is current.
    driving: HostIndex,
    hosts: Vec<HostSeam>,
    /// The runtimes that are alive. They are few, so a linear search beats a map.
    runtimes: Vec<(tokio::runtime::Id, HostIndex)>,
    draws: u64,
}

struct HostSeam {
    entropy: ChaCha8Rng,
    wall: wall::Bends,
}

impl HostSeam {
    fn new(seed: u64, index: HostIndex) -> Self {
        let mut entropy = ChaCha8Rng::seed_from_u64(seed);
        entropy.set_stream(0x6761_706c_0000_0000 | index as u64);
        Self { entropy, wall: wall::Bends::default() }
    }
}

/// Provides entropy and clocks on this thread from `seed` and simulated time, until the process ends. `hosts` is the
/// number of hosts, and `epoch` the wall clock at simulated time zero, since 1970.
///
/// # Errors
/// If the seam was armed before, or if the running binary does not define it.
pub fn arm(seed: u64, hosts: usize, epoch: Duration) -> Result<(), ArmError> {
    if RUN.compare_exchange(BEFORE, DURING, Ordering::SeqCst, Ordering::SeqCst).is_err() {
        return Err(ArmError::Twice);
    }
    ON_SIMULATING_THREAD.set(true);
    SEAM.with_borrow_mut(|seam| {
        *seam = Some(Seam {
            seed,
            epoch,
            // Set below, through the seam itself, once there is one.
            zero: std::time::Instant::now(),
            now: Duration::ZERO,
            driving: DRIVER,
            hosts: (0..=hosts).map(|index| HostSeam::new(seed, index)).collect(),
            runtimes: Vec::new(),
            draws: 0,
        });
    });
    let zero = std::time::Instant::now();
    let (before, probe) = SEAM.with_borrow_mut(|seam| {
        let seam = seam.as_mut().ok_or(ArmError::NotDefined)?;
        seam.zero = zero;
        Ok((seam.draws, seam.seed))
    })?;
    // A binary without the symbols would reach the kernel here, and its runs could not be replayed.
    let _ = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), probe);
    let asked = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut [0; 1]);
    let answered = SEAM.with_borrow(|seam| seam.as_ref().is_some_and(|seam| seam.draws > before));
    if asked.is_ok() && answered && std::time::Instant::now() == zero {
        Ok(())
    } else {
        ON_SIMULATING_THREAD.set(false);
        Err(ArmError::NotDefined)
    }
}

/// Notes that the run is over. From now on other threads may ask for time and entropy without that being a leak. The
/// simulating thread stays what it was, and the seam cannot be armed again.
pub fn disarm() {
    let _ = RUN.compare_exchange(DURING, AFTER, Ordering::SeqCst, Ordering::SeqCst);
}

/// Returns the processor time of this thread. It is never part of a run, and serves for measuring, even during a run.
pub fn processor_time() -> Duration {
    libc_calls::processor_time(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Returns the processor time of the whole process, its start included.
pub fn processor_time_of_process() -> Duration {
    libc_calls::processor_time(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Why the seam cannot be armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArmError {
    /// One process simulates one run.
    #[error("the seam is armed already: one process simulates one run")]
    Twice,
    /// The binary lacks the symbols, or the platform does not support simulation.
    #[error(
        "this binary does not define the libc seam, so its runs could not be replayed: call `gapless::define_seam!()` \
         (or `gapless::main!`) at its top level; simulation needs Linux on x86-64 or AArch64"
    )]
    NotDefined,
}

/// Tells the seam that the current tokio runtime belongs to `host`. The software of each host calls this first.
pub fn enter_host(host: HostIndex) {
    let Ok(handle) = tokio::runtime::Handle::try_current() else { return };
    with(|seam| {
        seam.runtimes.retain(|(_, of)| *of != host);
        seam.runtimes.push((handle.id(), host));
    });
}

/// Names the host for which the driver acts around crash, bounce and drop, when no runtime is current.
pub fn driving(host: HostIndex) {
    with(|seam| seam.driving = host);
}

/// Tells the seam how far simulated time has come. Called once before each tick.
pub fn advance_to(now: Duration) {
    standing::came_to(now);
    with(|seam| seam.now = now);
}

/// Makes the wall clock of a host wrong from now on. Faults add up; each is lifted alone. Monotonic time is never
/// touched.
pub fn set_clock(host: HostIndex, by: FaultId, clock: WallClock) {
    with(|seam| {
        let now = seam.now;
        seam.hosts.get_mut(host)?.wall.set(by, clock, now);
        Some(())
    });
}

/// Lifts what a fault did to the wall clock of a host, and returns the wrong readings while it lasted.
pub fn lift_clock(host: HostIndex, by: FaultId) -> WrongReads {
    with(|seam| Some(seam.hosts.get_mut(host)?.wall.lift(by))).flatten().unwrap_or_default()
}

/// Returns how wrong the wall clock of a host is now, with all faults together.
pub fn clock_error(host: HostIndex) -> WallClock {
    with(|seam| Some(seam.hosts.get(host)?.wall.sum(seam.now))).flatten().unwrap_or_default()
}

/// Returns the wrong readings of the wall clock of a host that are due to a fault which is not lifted yet.
pub fn wrong_reads(host: HostIndex, by: FaultId) -> WrongReads {
    with(|seam| Some(seam.hosts.get(host)?.wall.reads(by))).flatten().unwrap_or_default()
}

/// Returns the simulated time since the run began, as the calling host knows it.
pub fn now() -> Duration {
    with(|seam| seam.elapsed()).unwrap_or_default()
}

/// Returns the host that is calling.
pub fn speaking() -> HostIndex {
    with(|seam| seam.speaker()).unwrap_or(DRIVER)
}

/// Returns a separate stream of bytes from the seed, for the simulator's own choices, which must not disturb those of
/// the hosts.
pub fn stream(seed: u64, purpose: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(purpose);
    rng
}

impl Seam {
    fn speaker(&self) -> HostIndex {
        let Ok(handle) = tokio::runtime::Handle::try_current() else { return self.driving };
        let id = handle.id();
        self.runtimes.iter().find(|(of, _)| *of == id).map_or(self.driving, |(_, host)| *host)
    }

    /// Returns the simulated time. On a host it is that of its tokio clock, so that std's and tokio's `Instant` agree;
    /// elsewhere it is that of the driver.
    fn elapsed(&self) -> Duration {
        match tokio::runtime::Handle::try_current() {
            Ok(_) => tokio::time::Instant::now().into_std().saturating_duration_since(self.zero),
            Err(_) => self.now,
        }
    }
}

/// Runs `f` on the seam of this thread. Returns `None` if this thread has none, or is already inside the seam.
fn with<T>(f: impl FnOnce(&mut Seam) -> T) -> Option<T> {
    if !ON_SIMULATING_THREAD.try_with(Cell::get).unwrap_or(false) {
        return None;
    }
    SEAM.try_with(|seam| seam.try_borrow_mut().ok()?.as_mut().map(f)).ok()?
}

/// Fills `to` if this thread simulates. Returns whether it does.
fn fill(to: &mut [u8]) -> bool {
    with(|seam| {
        seam.draws += 1;
        let speaker = seam.speaker().min(seam.hosts.len() - 1);
        seam.hosts[speaker].entropy.fill_bytes(to);
    })
    .is_some()
}

/// The clock that is read.
#[derive(Clone, Copy)]
enum Clock {
    Wall,
    Monotonic,
}

/// Returns the time on `clock` if this thread simulates.
fn read(clock: Clock) -> Option<Duration> {
    with(|seam| match clock {
        Clock::Wall => {
            let (now, speaker) = (seam.elapsed(), seam.speaker());
            let right = seam.epoch + now;
            seam.hosts.get_mut(speaker).map_or(right, |host| host.wall.read(right, now))
        }
        Clock::Monotonic => MONOTONIC_BASE + seam.elapsed(),
    })
}

/// Returns whether a run is in progress.
fn is_running() -> bool {
    RUN.load(Ordering::Relaxed) == DURING
}

/// Returns whether this thread is the simulating one and a run is in progress.
#[cfg(target_os = "linux")]
fn is_simulating() -> bool {
    is_running() && ON_SIMULATING_THREAD.try_with(Cell::get).unwrap_or(false)
}

/// Returns whether a run is in progress and this thread is not the simulating one, so that its reading could not be
/// replayed.
fn is_foreign() -> bool {
    is_running() && !ON_SIMULATING_THREAD.try_with(Cell::get).unwrap_or(true)
}

/// Defines the libc seam in this binary. The seam answers `getrandom`, `getentropy`, `syscall` and `clock_gettime`. It
/// watches `open`, `open64`, `openat`, `openat64`, `rename`, `renameat`, `unlink`, `unlinkat`, `rmdir`, `mkdir`,
/// `mkdirat`, `socket` and, if the C library is linked dynamically, `pthread_create`, `posix_spawn` and `posix_spawnp`.
/// Call this macro once, at the top level of a binary that simulates. A binary that serves in production must not call
/// it.
#[macro_export]
macro_rules! define_seam {
    () => {
        #[cfg(target_os = "linux")]
        #[allow(missing_docs, unreachable_pub, clippy::missing_safety_doc, clippy::undocumented_unsafe_blocks)]
        mod gapless_libc_seam {
            use ::std::ffi::{c_char, c_int, c_long, c_uint, c_void};
            #[unsafe(no_mangle)]
            unsafe extern "C" fn getrandom(to: *mut c_void, len: usize, flags: c_uint) -> isize {
                unsafe { $crate::seam::getrandom(to, len, flags) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn getentropy(to: *mut c_void, len: usize) -> c_int {
                unsafe { $crate::seam::getentropy(to, len) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn clock_gettime(clock: c_int, to: *mut c_void) -> c_int {
                unsafe { $crate::seam::clock_gettime(clock, to) }
            }
            // Variadic in C; on the two supported architectures the arguments travel in the same registers.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn syscall(
                n: c_long,
                a: c_long,
                b: c_long,
                c: c_long,
                d: c_long,
                e: c_long,
                f: c_long,
            ) -> c_long {
                unsafe { $crate::seam::syscall(n, [a, b, c, d, e, f]) }
            }
            // Variadic too: the mode is given only if the flags ask for it. -100 is AT_FDCWD, the current folder.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
                unsafe { $crate::seam::openat(-100, path, flags, mode) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
                unsafe { $crate::seam::openat(-100, path, flags, mode) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn openat(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
                unsafe { $crate::seam::openat(folder, path, flags, mode) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn openat64(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
                unsafe { $crate::seam::openat(folder, path, flags, mode) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
                unsafe { $crate::seam::renameat(-100, from, -100, to) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn renameat(
                from_folder: c_int,
                from: *const c_char,
                to_folder: c_int,
                to: *const c_char,
            ) -> c_int {
                unsafe { $crate::seam::renameat(from_folder, from, to_folder, to) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
                unsafe { $crate::seam::unlinkat(-100, path, 0) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn unlinkat(folder: c_int, path: *const c_char, flags: c_int) -> c_int {
                unsafe { $crate::seam::unlinkat(folder, path, flags) }
            }
            // 0x200 is AT_REMOVEDIR.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
                unsafe { $crate::seam::unlinkat(-100, path, 0x200) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn mkdir(path: *const c_char, mode: c_uint) -> c_int {
                unsafe { $crate::seam::mkdirat(-100, path, mode) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn mkdirat(folder: c_int, path: *const c_char, mode: c_uint) -> c_int {
                unsafe { $crate::seam::mkdirat(folder, path, mode) }
            }
            $crate::define_spawn!(posix_spawn, c"posix_spawn");
            $crate::define_spawn!(posix_spawnp, c"posix_spawnp");
            #[unsafe(no_mangle)]
            unsafe extern "C" fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int {
                unsafe { $crate::seam::socket(family, kind, protocol) }
            }
            #[cfg(not(target_feature = "crt-static"))]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn pthread_create(
                thread: *mut c_void,
                attributes: *const c_void,
                start: *mut c_void,
                argument: *mut c_void,
            ) -> c_int {
                unsafe { $crate::seam::pthread_create(thread, attributes, start, argument) }
            }
        }
    };
}

/// A part of [`define_seam!`](crate::define_seam): posix_spawn(3) or posix_spawnp(3), which take the same arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! define_spawn {
    ($name:ident, $text:literal) => {
        #[cfg(not(target_feature = "crt-static"))]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            pid: *mut c_int,
            path: *const c_char,
            actions: *const c_void,
            attributes: *const c_void,
            arguments: *const *mut c_char,
            environment: *const *mut c_char,
        ) -> c_int {
            let given = (pid, path, actions, attributes, arguments, environment);
            unsafe { $crate::seam::spawn($text, given) }
        }
    };
}
