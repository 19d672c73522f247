//! The memory below an arena: address space at one place, pages as they are asked for.

use super::layout::{Layout, PAGE};
use super::mapping::Mapping;
use crate::error::ArenaError;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MIB: u64 = 1 << 20;
/// One request to the kernel: a signal undoes all that it has done.
const STEP: u64 = 32 * MIB;
/// Requests from here on look first whether there is that much.
const LOOK: u64 = 32 * MIB;

pub struct Pages {
    pub mapping: Mapping,
    pub layout: Layout,
    /// The machine's memory, in bytes.
    pub memory: u64,
}

impl Pages {
    /// Lays out an arena in a file: twice the machine's memory, or what address space there is.
    pub fn new(file: Arc<OwnedFd>, base: u64, borrowers: u32) -> Result<Self, ArenaError> {
        let info = rustix::system::sysinfo();
        let memory = (info.totalram as u64).saturating_mul(info.mem_unit.into()).max(MIB);
        let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
        // A limit is for all of the program, and for an arena of each worker.
        let wanted = limit.map_or(memory * 2, |limit| (memory * 2).min(limit / 16));
        let mut size = wanted.max(MIB).next_multiple_of(PAGE);
        let (mapping, layout) = loop {
            let layout = Layout::new(borrowers, size);
            match map(&file, base, layout) {
                Ok(mapping) => break (mapping, layout),
                Err(error) if size <= MIB => return Err(error),
                Err(_) => size = (size / 2).next_multiple_of(PAGE),
            }
        };
        rustix::io::pwrite(&*file, &layout.encode(), base)
            .map_err(|error| ArenaError::os("write the arena's head", error))?;
        Ok(Self { mapping, layout, memory })
    }

    /// Has the kernel give pages to a range, so that touching it cannot fail. After an error
    /// the range has as many as before.
    pub fn reserve(&self, range: &Range<u64>) -> Result<(), ArenaError> {
        let length = range.end - range.start;
        let failed = |error: Errno| ArenaError::NoMemory { bytes: length, source: error.into() };
        // The kernel would rather kill a process than refuse.
        if length >= LOOK && available().is_some_and(|available| length > available) {
            return Err(failed(Errno::NOMEM));
        }
        let (mut done, mut step) = (range.start, STEP);
        while done < range.end {
            let length = step.min(range.end - done);
            let place = self.mapping.base() + done;
            let file = self.mapping.file();
            match rustix::fs::fallocate(file, FallocateFlags::empty(), place, length) {
                Ok(()) => done += length,
                // A timer's signals may come faster than this goes: ask for less at a time.
                Err(Errno::INTR) => step = (step / 2).max(PAGE),
                Err(error) => {
                    self.punch(&(range.start..done));
                    return Err(failed(error));
                }
            }
        }
        Ok(())
    }

    /// Gives a range's pages back. On failure, which takes a file system that can't, they stay.
    pub fn punch(&self, range: &Range<u64>) -> bool {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let (place, length) = (self.mapping.base() + range.start, range.end - range.start);
        range.is_empty() || rustix::fs::fallocate(self.mapping.file(), flags, place, length).is_ok()
    }
}

/// Gives the file its size, which takes no memory: what lies beyond its end cannot be touched.
fn map(file: &Arc<OwnedFd>, base: u64, layout: Layout) -> Result<Mapping, ArenaError> {
    let size = |error| ArenaError::os("set the size of the pool's memory", error);
    let end = base + layout.length();
    if (rustix::fs::fstat(&**file).map_err(size)?.st_size as u64) < end {
        rustix::fs::ftruncate(&**file, end).map_err(size)?;
    }
    let length = usize::try_from(layout.length()).map_err(|_| size(Errno::NOMEM))?;
    Mapping::new(Arc::clone(file), base, length)
}

/// How many bytes the machine, and the control groups that this process is in, have left.
fn available() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let machine = 1024 * (field(&info, "MemAvailable:")? + field(&info, "SwapFree:")?);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(groups.lines().filter_map(left_in_group).fold(machine, u64::min))
}

/// What the group of one line of /proc/self/cgroup, and those above it, have left.
fn left_in_group(line: &str) -> Option<u64> {
    let (_, group) = line.split_once(':')?;
    let (controllers, path) = group.split_once(':')?;
    let (root, limit, usage, cache) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        "memory" => (
            "/sys/fs/cgroup/memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
        _ => return None,
    };
    let number = |path: PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let left = |group: &Path| {
        // No number ("max"), no limit. Files that nobody reads make way.
        let limit = number(group.join(limit))?;
        let stat = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let cached = field(&stat, cache).unwrap_or(0);
        Some(limit.saturating_sub(number(group.join(usage))?.saturating_sub(cached)))
    };
    let inside = Path::new(root).join(path.trim_start_matches('/'));
    inside.ancestors().take_while(|group| group.starts_with(root)).filter_map(left).min()
}

/// The number behind a name, in a file that has one of both a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next()? == name).then(|| words.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_known_and_no_more_than_the_machine_has() {
        let info = "MemTotal:  100 kB\nMemAvailable:   60 kB\n";
        assert_eq!(field(info, "MemAvailable:"), Some(60));
        assert_eq!(field(info, "SwapFree:"), None);
        assert_eq!(left_in_group("3:cpuset:/"), None);
        let all = rustix::system::sysinfo();
        let all = (all.totalram + all.totalswap) as u64 * u64::from(all.mem_unit);
        assert!(available().is_some_and(|available| 0 < available && available <= all));
    }
}
