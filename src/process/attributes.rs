//! What a process inherits from its parent beside memory and descriptors, read in the parent
//! at start() and put in force in the child: umask, affinity, resource limits, niceness and
//! blocked signals. The zygote has what was in force when it was told last, which may be long
//! ago.

#![allow(unsafe_code, reason = "limits by number and ids that may be 0 have no safe binding")]

use rustix::io::Errno;
use std::mem::MaybeUninit;

/// Limits that Linux knows (RLIMIT_CPU to RLIMIT_RTTIME).
const LIMITS: usize = 16;

/// One process's inherited attributes.
#[derive(Clone, PartialEq, Eq)]
pub struct Attributes {
    umask: u32,
    nice: i32,
    /// Signals that the calling thread blocks, a bit each.
    blocked: u64,
    limits: [(u64, u64); LIMITS],
    affinity: [u64; 16],
}

/// Bytes of [`Attributes::to_bytes`].
const LENGTH: usize = 8 * (3 + 2 * LIMITS + 16);

/// Who the process is: when one of these changes, children need a new zygote, since an old
/// one could not, or must not, become it. Session, real, effective and saved ids, groups.
pub fn identity() -> Vec<u32> {
    use rustix::process;
    // By libc, which answers 0 for a session whose leader is outside this pid namespace (a
    // container's usual state); rustix takes 0 for impossible.
    // SAFETY: the call takes a number and returns one.
    let session = unsafe { libc::getsid(0) };
    let mut ids = vec![
        session as u32,
        process::getuid().as_raw(),
        process::geteuid().as_raw(),
        process::getgid().as_raw(),
        process::getegid().as_raw(),
    ];
    let groups = process::getgroups().unwrap_or_default();
    ids.extend(groups.into_iter().map(|group| group.as_raw()));
    ids
}

/// The process group; 0 when its leader is outside this pid namespace.
pub fn group() -> i32 {
    // By libc, as rustix takes 0 for impossible.
    // SAFETY: the call takes nothing and returns a number.
    unsafe { libc::getpgrp() }
}

/// Which directory we are in, as numbers that tell it from every other that is in use: device,
/// inode, mount. Empty when it can't be looked at.
pub fn directory() -> Vec<u64> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let mask = StatxFlags::INO | StatxFlags::MNT_ID;
    let seen = statx(CWD, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, mask);
    seen.map_or_else(
        |_| Vec::new(),
        |seen| {
            let device = u64::from(seen.stx_dev_major) << 32 | u64::from(seen.stx_dev_minor);
            vec![device, seen.stx_ino, seen.stx_mnt_id]
        },
    )
}

/// The umask, which has no call to read it without setting it: any thread that creates a file
/// meanwhile would get the wrong mode. The kernel tells it in /proc, in the second line.
fn read_umask() -> Result<u32, Errno> {
    use rustix::fs::{Mode, OFlags, open};
    let file = open("/proc/self/status", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = [0; 128];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut text))?;
    let line = text[..length].split(|byte| *byte == b'\n').find_map(|line| {
        let value = line.strip_prefix(b"Umask:")?;
        std::str::from_utf8(value).ok()
    });
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).ok_or(Errno::NOENT)
}

/// Signals that this thread blocks, as bits. By the system call: the C library would hide its
/// own two.
fn read_blocked() -> u64 {
    let mut set = 0_u64;
    // SAFETY: with no new set the call only writes the old one, of the size given.
    unsafe {
        let none: *const u64 = std::ptr::null();
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, none, &raw mut set, 8);
    }
    set
}

fn write_blocked(set: u64) {
    // SAFETY: the call only reads the set, of the size given; it fails on a bad address alone.
    unsafe {
        let none: *mut u64 = std::ptr::null_mut();
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const set, none, 8);
    }
}

impl Attributes {
    /// Those in force now, for the calling thread where they are a thread's.
    pub fn current() -> Result<Self, Errno> {
        let mut limits = [(0, 0); LIMITS];
        for (number, pair) in limits.iter_mut().enumerate() {
            let mut limit = MaybeUninit::<libc::rlimit>::uninit();
            // SAFETY: the call fills the struct it is given, or fails and is not looked at.
            unsafe {
                if libc::getrlimit(number as _, limit.as_mut_ptr()) == 0 {
                    let limit = limit.assume_init();
                    *pair = (limit.rlim_cur, limit.rlim_max);
                }
            }
        }
        let mut affinity = [0_u64; 16];
        // SAFETY: the kernel writes at most the size given. With more than 1024 cores it
        // fails, the mask stays empty, and is then left alone.
        unsafe {
            libc::sched_getaffinity(0, size_of_val(&affinity), affinity.as_mut_ptr().cast());
        }
        Ok(Self {
            umask: read_umask()?,
            nice: rustix::process::getpriority_process(None)?,
            blocked: read_blocked(),
            limits,
            affinity,
        })
    }

    /// Puts in force what differs from what is in force now. Limits come last: a low one
    /// could make the others fail. Blocked signals are left to [`unblock`](Self::unblock).
    pub fn apply(&self) -> Result<(), Errno> {
        let now = Self::current()?;
        if self.umask != now.umask {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(self.umask));
        }
        if self.affinity != now.affinity && self.affinity != [0; 16] {
            // SAFETY: the mask is as long as stated and only read.
            let result = unsafe {
                let size = size_of_val(&self.affinity);
                libc::sched_setaffinity(0, size, self.affinity.as_ptr().cast())
            };
            if result != 0 {
                return Err(Errno::INVAL);
            }
        }
        if self.nice != now.nice {
            rustix::process::setpriority_process(None, self.nice)?;
        }
        for (number, (wanted, is)) in self.limits.iter().zip(now.limits).enumerate() {
            if *wanted != is {
                let limit = libc::rlimit { rlim_cur: wanted.0, rlim_max: wanted.1 };
                // SAFETY: the struct is only read.
                if unsafe { libc::setrlimit(number as _, &raw const limit) } != 0 {
                    return Err(Errno::PERM);
                }
            }
        }
        Ok(())
    }

    /// Blocks the signals that the parent blocked, and no others.
    pub fn unblock(&self) {
        write_blocked(self.blocked);
    }

    /// As bytes, to be compared and sent to the child.
    pub fn to_bytes(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let head = [u64::from(self.umask), self.nice as u64, self.blocked];
        let limits = self.limits.iter().flat_map(|(soft, hard)| [*soft, *hard]);
        let words = head.into_iter().chain(limits).chain(self.affinity);
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// From bytes, as [`to_bytes`](Self::to_bytes) gave them.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        let (words, _) = bytes.as_chunks::<8>();
        let word = |at: usize| u64::from_le_bytes(words[at]);
        Some(Self {
            umask: word(0) as u32,
            nice: word(1) as i32,
            blocked: word(2),
            limits: std::array::from_fn(|at| (word(3 + 2 * at), word(4 + 2 * at))),
            affinity: std::array::from_fn(|at| word(3 + 2 * LIMITS + at)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_the_journey() {
        let now = Attributes::current().unwrap();
        assert!(Attributes::from_bytes(&now.to_bytes()).unwrap() == now);
        assert!(Attributes::from_bytes(&[1, 2, 3]).is_none());
        now.apply().unwrap(); // nothing differs, so nothing is set
    }
}
