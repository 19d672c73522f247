//! Forking a sibling: a copy of this process whose parent is this process's parent.
//!
//! `clone(CLONE_PARENT | SIGCHLD)` with no new stack is `fork()` but for the parent. glibc's
//! `fork()` does three things around the system call that are done here too: the thread's id
//! in its descriptor is renewed (`CLONE_CHILD_SETTID`), cleared at its end
//! (`CLONE_CHILD_CLEARTID`), and the list of robust mutexes is registered again. It also
//! takes the locks of malloc and stdio and runs `pthread_atfork` handlers, which protects
//! against other threads: there are none, which [`sibling`] checks.

#![allow(unsafe_code, reason = "clone has no safe binding")]

use rustix::io::Errno;
use std::ffi::c_void;

/// Which side of the fork we are on.
#[derive(Debug, PartialEq, Eq)]
pub enum Forked {
    Parent { child: i32 },
    Child,
}

/// Threads of this process, this one included.
fn threads() -> Result<usize, Errno> {
    let tasks = std::fs::read_dir("/proc/self/task").map_err(|_| Errno::NOENT)?;
    Ok(tasks.count())
}

/// Where the C library keeps this thread's id and where the kernel clears it at its end.
fn tid_address() -> Result<*mut c_void, Errno> {
    let mut address: *mut c_void = std::ptr::null_mut();
    // SAFETY: PR_GET_TID_ADDRESS writes one pointer to the address given.
    let result = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut address) };
    if result == 0 { Ok(address) } else { Err(Errno::NOSYS) }
}

/// Forks a sibling of this process. `EBUSY`: this process has other threads, whose locks the
/// child would find taken for ever.
pub fn sibling() -> Result<Forked, Errno> {
    if threads()? != 1 {
        return Err(Errno::BUSY);
    }
    let tid = tid_address()?;
    let mut robust_list: *mut c_void = std::ptr::null_mut();
    let mut robust_size: usize = 0;
    // SAFETY: for thread 0 (this one) the call writes a pointer and a size to the addresses
    // given; on failure both stay empty and the child then registers nothing.
    unsafe {
        libc::syscall(libc::SYS_get_robust_list, 0, &raw mut robust_list, &raw mut robust_size);
    }
    let flags =
        libc::CLONE_PARENT | libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    let none: *mut c_void = std::ptr::null_mut();
    // SAFETY: without CLONE_VM the child runs in a copy of our memory and, with no stack
    // given, on its copy of this stack, as after fork(). Being the only thread, we hold
    // every lock that is held, and hold none here. `tid` is the word that the C library
    // gave to the kernel for this purpose. The order of the last two arguments differs
    // between architectures; the one that we don't use is null and no CLONE_SETTLS is set.
    let pid = unsafe {
        #[cfg(target_arch = "x86_64")]
        let pid = libc::syscall(libc::SYS_clone, flags, none, none, tid, none);
        #[cfg(not(target_arch = "x86_64"))]
        let pid = libc::syscall(libc::SYS_clone, flags, none, none, none, tid);
        pid
    };
    match pid {
        0 => {
            if !robust_list.is_null() {
                // SAFETY: it is the list that this thread had registered, at the same
                // address in the copied memory.
                unsafe { libc::syscall(libc::SYS_set_robust_list, robust_list, robust_size) };
            }
            Ok(Forked::Child)
        }
        pid if pid > 0 => Ok(Forked::Parent { child: pid as i32 }),
        // SAFETY: reads this thread's errno, which the failed call above has set.
        _ => Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() })),
    }
}
