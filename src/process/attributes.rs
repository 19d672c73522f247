//! What a process inherits from its parent beside memory and descriptors, read in the parent
//! at start() and put in force in the child: umask, affinity, resource limits, niceness and
//! process group. The zygote has what was in force when it was started, which may be long ago.

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
    group: i32,
    limits: [(u64, u64); LIMITS],
    affinity: [u64; 16],
}

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

/// The umask, which has no call to read it without setting it: any thread that creates a file
/// meanwhile would get the wrong mode. The kernel tells it in /proc.
fn read_umask() -> Result<u32, Errno> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|_| Errno::NOENT)?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).ok_or(Errno::NOENT)
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
            // SAFETY: the call takes nothing and returns a number: 0 for a group whose leader
            // is outside this pid namespace, which rustix takes for impossible.
            group: unsafe { libc::getpgrp() },
            limits,
            affinity,
        })
    }

    /// Puts in force what differs from what is in force now. Limits come last: a low one
    /// could make the others fail.
    pub fn apply(&self) -> Result<(), Errno> {
        let now = Self::current()?;
        if self.umask != now.umask {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(self.umask));
        }
        // A group of outside this pid namespace (0) cannot be named, hence not be joined.
        if self.group != now.group
            && let Some(group) = rustix::process::Pid::from_raw(self.group)
        {
            // The group may have ended since, if its leader left it: then stay in ours.
            let _ = rustix::process::setpgid(None, Some(group));
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

    /// As numbers, to be sent to the child.
    pub fn to_words(&self) -> Vec<u64> {
        let mut words = vec![u64::from(self.umask), self.nice as u64, self.group as u64];
        words.extend(self.limits.iter().flat_map(|(soft, hard)| [*soft, *hard]));
        words.extend(self.affinity);
        words
    }

    /// From numbers, as [`to_words`](Self::to_words) gave them.
    pub fn from_words(words: &[u64]) -> Option<Self> {
        let (head, rest) = words.split_at_checked(3)?;
        let (limits, affinity) = rest.split_at_checked(2 * LIMITS)?;
        let mut pairs = [(0, 0); LIMITS];
        for (pair, words) in pairs.iter_mut().zip(limits.chunks_exact(2)) {
            *pair = (words[0], words[1]);
        }
        Some(Self {
            umask: head[0] as u32,
            nice: head[1] as i32,
            group: head[2] as i32,
            limits: pairs,
            affinity: affinity.try_into().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_the_journey() {
        let now = Attributes::current().unwrap();
        assert!(Attributes::from_words(&now.to_words()).unwrap() == now);
        assert!(Attributes::from_words(&[1, 2, 3]).is_none());
        now.apply().unwrap(); // nothing differs, so nothing is set
    }
}
