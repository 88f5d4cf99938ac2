//! System calls without libc, to which the seam passes calls through. `dlsym(RTLD_NEXT)` works only in a dynamically
//! linked program; a raw call works in every program.

use std::ffi::c_long;

/// Makes a system call. A negative result is a negated error number.
///
/// # Safety
/// The arguments must be what the system call with the number `n` demands.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(super) unsafe fn call(n: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    let result;
    // SAFETY: the registers are those of the x86-64 Linux convention; the caller vouches for the arguments.
    unsafe {
        core::arch::asm!(
            "syscall", inlateout("rax") n => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack)
        );
    }
    result
}

/// Makes a system call. A negative result is a negated error number.
///
/// # Safety
/// The arguments must be what the system call with the number `n` demands.
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub(super) unsafe fn call(n: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    let result;
    // SAFETY: the registers are those of the AArch64 Linux convention; the caller vouches for the arguments.
    unsafe {
        core::arch::asm!(
            "svc 0", in("x8") n, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d, in("x4") e,
            in("x5") f, options(nostack)
        );
    }
    result
}

/// Simulation does not work on other platforms; nothing calls this function there.
///
/// # Safety
/// None is required: it does nothing.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(super) unsafe fn call(_n: c_long, _arguments: [c_long; 6]) -> c_long {
    -38 // ENOSYS
}
