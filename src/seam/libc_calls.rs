//! The functions behind the symbols. On the simulating thread the simulation answers them; everywhere else they pass
//! through.
//!
//! They run at any moment of any thread's life, even before `main`. A call that passes through must therefore not
//! allocate, lock or panic.

#[cfg(target_os = "linux")]
use std::ffi::{CStr, c_char};
use std::ffi::{c_int, c_long, c_uint, c_void};

#[cfg(target_os = "linux")]
use super::is_simulating;
use super::{Clock, fill, is_foreign, leak, raw, read};

/// Stands in for getrandom(2).
///
/// # Safety
/// `to` must be valid for writes of `len` bytes.
pub unsafe fn getrandom(to: *mut c_void, len: usize, flags: c_uint) -> isize {
    if len == 0 {
        return 0;
    }
    // SAFETY: the caller vouches for the buffer; it is filled before it is read.
    let bytes = unsafe {
        std::ptr::write_bytes(to.cast::<u8>(), 0, len);
        std::slice::from_raw_parts_mut(to.cast::<u8>(), len)
    };
    if fill(bytes) {
        return len as isize;
    }
    if is_foreign() {
        leak::record("random bytes were drawn on a thread outside the simulation");
    }
    // SAFETY: the same buffer, with the same length.
    unsafe {
        passed_through(number_of_getrandom(), [to as c_long, len as c_long, c_long::from(flags), 0, 0, 0]) as isize
    }
}

/// Stands in for getentropy(3): at most 256 bytes.
///
/// # Safety
/// `to` must be valid for writes of `len` bytes.
pub unsafe fn getentropy(to: *mut c_void, len: usize) -> c_int {
    if len > 256 {
        set_errno(libc::EIO);
        return -1;
    }
    // SAFETY: the caller vouches for the buffer.
    let filled = unsafe { getrandom(to, len, 0) };
    if filled == len as isize { 0 } else { -1 }
}

/// Stands in for clock_gettime(2).
///
/// # Safety
/// `to` must point to a `timespec`.
pub unsafe fn clock_gettime(clock: libc::clockid_t, to: *mut c_void) -> c_int {
    let which = match clock {
        libc::CLOCK_REALTIME => Some(Clock::Wall),
        libc::CLOCK_MONOTONIC => Some(Clock::Monotonic),
        #[cfg(target_os = "linux")]
        libc::CLOCK_REALTIME_COARSE => Some(Clock::Wall),
        #[cfg(target_os = "linux")]
        libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_MONOTONIC_COARSE | libc::CLOCK_BOOTTIME => Some(Clock::Monotonic),
        _ => None, // processor time: never part of a run
    };
    if let Some(time) = which.and_then(read) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            (*to.cast::<libc::timespec>()).tv_sec = time.as_secs() as _;
            (*to.cast::<libc::timespec>()).tv_nsec = time.subsec_nanos().into();
        }
        return 0;
    }
    if which.is_some() && is_foreign() {
        leak::record("a clock was read on a thread outside the simulation");
    }
    // SAFETY: as the caller vouches.
    unsafe { passed_through(number_of_clock_gettime(), [c_long::from(clock), to as c_long, 0, 0, 0, 0]) as c_int }
}

/// Returns the processor time by one of libc's clocks for it, or zero if there is no such clock.
pub(super) fn processor_time(clock: libc::clockid_t) -> std::time::Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is that of a `timespec`.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return std::time::Duration::ZERO;
    }
    std::time::Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Stands in for syscall(2). getrandom 0.2, and with it ring, asks for entropy this way.
///
/// # Safety
/// As the system call demands.
pub unsafe fn syscall(n: c_long, arguments: [c_long; 6]) -> c_long {
    if n == number_of_getrandom() {
        // SAFETY: the caller vouches for the arguments of getrandom.
        return unsafe {
            getrandom(arguments[0] as *mut c_void, arguments[1] as usize, arguments[2] as c_uint) as c_long
        };
    }
    if n == number_of_clock_gettime() {
        // SAFETY: the caller vouches for the arguments of clock_gettime.
        return unsafe { clock_gettime(arguments[0] as libc::clockid_t, arguments[1] as *mut c_void) as c_long };
    }
    // SAFETY: as the caller vouches.
    unsafe { passed_through(n, arguments) }
}

/// Stands in for pthread_create(3) and calls that of the next C library. A thread that is created during a run cannot
/// be replayed.
///
/// # Safety
/// As pthread_create demands.
pub unsafe fn pthread_create(
    thread: *mut c_void,
    attributes: *const c_void,
    start: *mut c_void,
    argument: *mut c_void,
) -> c_int {
    type Create = unsafe extern "C" fn(*mut c_void, *const c_void, *mut c_void, *mut c_void) -> c_int;
    if super::is_running() {
        leak::record("a thread was started during the run");
    }
    // SAFETY: the name is a C string; RTLD_NEXT asks for the definition after this one.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"pthread_create".as_ptr()) };
    if next.is_null() {
        return libc::EAGAIN;
    }
    // SAFETY: the symbol of that name has this type in every C library.
    unsafe { std::mem::transmute::<*mut c_void, Create>(next)(thread, attributes, start, argument) }
}

/// Stands in for openat(2), and with `AT_FDCWD` for open(2). A file that a simulated host opens for writing is a leak:
/// it would be on the real disk, where no fault reaches it, and the next run would find it. Reading is allowed (a
/// certificate, a time zone, the debug information that a panic looks up), because what is never written during a run
/// is the same in the next one.
///
/// # Safety
/// `path` must be a C string.
#[cfg(target_os = "linux")]
pub unsafe fn openat(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    let writes = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_CREAT != 0;
    // SAFETY: the caller vouches for the path.
    if writes && is_simulating() && !unsafe { is_device(path) } {
        leak::record("a real file was opened for writing");
    }
    let arguments = [c_long::from(folder), path as c_long, c_long::from(flags), c_long::from(mode), 0, 0];
    // SAFETY: as the caller vouches.
    unsafe { passed_through(libc::SYS_openat, arguments) as c_int }
}

/// Returns whether the path is a device, such as `/dev/null` or a terminal. What is written to a device is not there in
/// the next run.
#[cfg(target_os = "linux")]
unsafe fn is_device(path: *const c_char) -> bool {
    if path.is_null() {
        return false;
    }
    // SAFETY: the caller vouches for the path.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    path.starts_with(b"/dev/") && !path.starts_with(b"/dev/shm/")
}

/// Stands in for renameat(2), and with `AT_FDCWD` for rename(2). What a simulated host renames on the real disk stays
/// renamed in the next run.
///
/// # Safety
/// Both paths must be C strings.
#[cfg(target_os = "linux")]
pub unsafe fn renameat(from_folder: c_int, from: *const c_char, to_folder: c_int, to: *const c_char) -> c_int {
    if is_simulating() {
        leak::record("a real file was renamed");
    }
    let arguments = [c_long::from(from_folder), from as c_long, c_long::from(to_folder), to as c_long, 0, 0];
    // SAFETY: as the caller vouches.
    unsafe { passed_through(libc::SYS_renameat2, arguments) as c_int }
}

/// Stands in for unlinkat(2), and so for unlink(2) and rmdir(2).
///
/// # Safety
/// `path` must be a C string.
#[cfg(target_os = "linux")]
pub unsafe fn unlinkat(folder: c_int, path: *const c_char, flags: c_int) -> c_int {
    if is_simulating() {
        leak::record("a real file or folder was removed");
    }
    let arguments = [c_long::from(folder), path as c_long, c_long::from(flags), 0, 0, 0];
    // SAFETY: as the caller vouches.
    unsafe { passed_through(libc::SYS_unlinkat, arguments) as c_int }
}

/// Stands in for mkdirat(2), and with `AT_FDCWD` for mkdir(2).
///
/// # Safety
/// `path` must be a C string.
#[cfg(target_os = "linux")]
pub unsafe fn mkdirat(folder: c_int, path: *const c_char, mode: c_uint) -> c_int {
    if is_simulating() {
        leak::record("a real folder was made");
    }
    let arguments = [c_long::from(folder), path as c_long, c_long::from(mode), 0, 0, 0];
    // SAFETY: as the caller vouches.
    unsafe { passed_through(libc::SYS_mkdirat, arguments) as c_int }
}

/// The arguments of posix_spawn(3): process id, path, file actions, attributes, arguments, environment.
#[cfg(target_os = "linux")]
pub type Spawn = (*mut c_int, *const c_char, *const c_void, *const c_void, *const *mut c_char, *const *mut c_char);

/// Stands in for posix_spawn(3) or posix_spawnp(3), as `name` says, and calls that of the next C library. No run can
/// replay what another process does.
///
/// # Safety
/// As posix_spawn demands.
#[cfg(target_os = "linux")]
pub unsafe fn spawn(name: &CStr, (pid, path, actions, attributes, arguments, environment): Spawn) -> c_int {
    type Next = unsafe extern "C" fn(
        *mut c_int,
        *const c_char,
        *const c_void,
        *const c_void,
        *const *mut c_char,
        *const *mut c_char,
    ) -> c_int;
    if is_simulating() {
        leak::record("a process was started");
    }
    // SAFETY: the name is a C string; RTLD_NEXT asks for the definition after this one.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if next.is_null() {
        return libc::ENOSYS;
    }
    // SAFETY: the symbols of these names have this type in every C library.
    unsafe { std::mem::transmute::<*mut c_void, Next>(next)(pid, path, actions, attributes, arguments, environment) }
}

/// Stands in for socket(2). A simulated host with a real socket would use the real network.
///
/// # Safety
/// None is required: it takes only numbers.
#[cfg(target_os = "linux")]
pub unsafe fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int {
    if is_simulating() {
        leak::record("a real socket was opened");
    }
    let arguments = [c_long::from(family), c_long::from(kind), c_long::from(protocol), 0, 0, 0];
    // SAFETY: no pointer is among the arguments.
    unsafe { passed_through(libc::SYS_socket, arguments) as c_int }
}

unsafe fn passed_through(n: c_long, arguments: [c_long; 6]) -> c_long {
    // SAFETY: as the caller of the public function vouches.
    let result = unsafe { raw::call(n, arguments) };
    if (-4095..0).contains(&result) {
        set_errno(-result as c_int);
        return -1;
    }
    result
}

fn set_errno(number: c_int) {
    // SAFETY: errno is this thread's own.
    #[cfg(target_os = "linux")]
    unsafe {
        *libc::__errno_location() = number;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = number;
}

#[cfg(target_os = "linux")]
fn number_of_getrandom() -> c_long {
    libc::SYS_getrandom
}

#[cfg(target_os = "linux")]
fn number_of_clock_gettime() -> c_long {
    libc::SYS_clock_gettime
}

#[cfg(not(target_os = "linux"))]
fn number_of_getrandom() -> c_long {
    -1
}

#[cfg(not(target_os = "linux"))]
fn number_of_clock_gettime() -> c_long {
    -2
}
