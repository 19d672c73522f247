//! How many cores this process may use: its affinity, and its control groups' quotas.
//!
//! `std::thread::available_parallelism` tells the same, but reads all files again each time
//! (0.1 ms, which a kernel on a small input would notice) and cannot be shown another system.
//! So quotas, which change seldom, are looked at once a second at most.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// Cores that this process may use, at least 1.
pub fn cpu_count() -> usize {
    #[cfg(target_os = "linux")]
    if let Ok(set) = rustix::thread::sched_getaffinity(None) {
        let quota = LAST_QUOTA.get(|| quota::of_this_process(std::path::Path::new("/")));
        return quota.map_or(usize::MAX, usize::from).min(set.count() as usize).max(1);
    }
    // Elsewhere; and on a machine with more cores than a CpuSet has room for.
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A number of cores that is looked up again when it is a second old.
///
/// Relaxed suffices: neither word guards other memory, and two threads that look it up at once
/// find the same.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
struct Remembered {
    cores: AtomicUsize, // 0: no limit
    /// When it gets old: seconds of `clock`.
    until: AtomicU64,
}

#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
static LAST_QUOTA: Remembered = Remembered { cores: AtomicUsize::new(0), until: AtomicU64::new(0) };

#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
impl Remembered {
    fn get(&self, look_up: impl FnOnce() -> Option<usize>) -> Option<usize> {
        static START: OnceLock<Instant> = OnceLock::new();
        let now = START.get_or_init(Instant::now).elapsed().as_secs() + 1;
        if self.until.load(Ordering::Relaxed) < now {
            self.cores.store(look_up().unwrap_or(0), Ordering::Relaxed);
            self.until.store(now, Ordering::Relaxed);
        }
        Some(self.cores.load(Ordering::Relaxed)).filter(|cores| *cores > 0)
    }
}

#[cfg(target_os = "linux")]
mod quota {
    use std::ffi::OsString;
    use std::fs;
    use std::os::unix::ffi::OsStringExt;
    use std::path::{Path, PathBuf};

    /// Whole cores, at least 1, that the control groups of this process and their parents
    /// leave it. Of both versions, as a machine may have both; `root` is where `/` is.
    pub fn of_this_process(root: &Path) -> Option<usize> {
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
        let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
        let mut quotas = Vec::new();
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
            let is_v2 = controllers.is_empty();
            if !is_v2 && !controllers.split(',').any(|name| name == "cpu") {
                continue;
            }
            let Some(mount) = mounts.lines().find_map(|line| Mount::of_cpu(line, is_v2)) else {
                continue;
            };
            for folder in mount.folders(Path::new(group)) {
                let folder = root.join(folder.strip_prefix("/").unwrap_or(&folder));
                quotas.extend(if is_v2 { v2(&folder) } else { v1(&folder) });
            }
        }
        quotas.into_iter().reduce(f64::min).map(|cores| (cores as usize).max(1))
    }

    fn v2(folder: &Path) -> Option<f64> {
        let text = fs::read_to_string(folder.join("cpu.max")).ok()?;
        let (quota, period) = text.trim().split_once(' ')?;
        cores(quota, period)
    }

    fn v1(folder: &Path) -> Option<f64> {
        let quota = fs::read_to_string(folder.join("cpu.cfs_quota_us")).ok()?;
        let period = fs::read_to_string(folder.join("cpu.cfs_period_us")).ok()?;
        cores(quota.trim(), period.trim())
    }

    /// `None`: no limit, which is "max" in version 2 and -1 in version 1.
    fn cores(quota: &str, period: &str) -> Option<f64> {
        let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
        (quota > 0.0 && period > 0.0).then(|| quota / period)
    }

    /// A mounted hierarchy of groups.
    struct Mount {
        /// The group that is seen at `point`: not the topmost one in a container.
        group: PathBuf,
        point: PathBuf,
    }

    impl Mount {
        /// From a line of mountinfo, if it is the hierarchy that has the cpu controller.
        fn of_cpu(line: &str, is_v2: bool) -> Option<Self> {
            let (left, right) = line.split_once(" - ")?;
            let mut right = right.split(' ');
            let kind = right.next()?;
            let fits = if is_v2 {
                kind == "cgroup2"
            } else {
                kind == "cgroup" && right.nth(1)?.split(',').any(|option| option == "cpu")
            };
            let mut left = left.split(' ').skip(3);
            let (group, point) = (unescape(left.next()?), unescape(left.next()?));
            fits.then_some(Self { group, point })
        }

        /// The folders of a group and of those that it is in, as far as they are to be seen.
        fn folders(&self, group: &Path) -> Vec<PathBuf> {
            // A path that is not below the mount's is another namespace's: then what is seen
            // is the container's own group.
            let inside = group.strip_prefix(&self.group).unwrap_or(Path::new(""));
            inside.ancestors().map(|part| self.point.join(part)).collect()
        }
    }

    /// Spaces and the like are written as `\040`.
    fn unescape(field: &str) -> PathBuf {
        let mut bytes = Vec::with_capacity(field.len());
        let mut rest = field.as_bytes();
        while let [first, others @ ..] = rest {
            let code = rest.get(1..4).and_then(|code| std::str::from_utf8(code).ok());
            let code = code.and_then(|code| u8::from_str_radix(code, 8).ok());
            (rest, _) = match (first, code) {
                (b'\\', Some(byte)) => (&rest[4..], bytes.push(byte)),
                _ => (others, bytes.push(*first)),
            };
        }
        OsString::from_vec(bytes).into()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// A system's files, in a folder that goes away with it.
        struct Root(PathBuf);

        impl Root {
            fn new(name: &str, files: &[(&str, &str)]) -> Self {
                let name = format!("plait-cpus-{}-{name}", std::process::id());
                let root = Self(std::env::temp_dir().join(name));
                for (path, text) in files {
                    let path = root.0.join(path);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, text).unwrap();
                }
                root
            }
        }

        impl Drop for Root {
            fn drop(&mut self) {
                let _ = fs::remove_dir_all(&self.0);
            }
        }

        const V2: (&str, &str) = (
            "proc/self/mountinfo",
            "22 1 0:1 / / rw - ext4 /dev/a rw\n\
             31 22 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup rw,nsdelegate\n",
        );
        const V1: (&str, &str) = (
            "proc/self/mountinfo",
            "31 22 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
             32 31 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
             33 31 0:30 /docker/abc /sys/fs/cgroup/cpu,cpu\\040acct rw - cgroup cgroup rw,cpu,cpuacct\n",
        );

        #[test]
        fn of_nested_groups_the_least_counts() {
            let files = [
                V2,
                ("proc/self/cgroup", "0::/a/b/c\n"),
                ("sys/fs/cgroup/a/cpu.max", "250000 100000\n"),
                ("sys/fs/cgroup/a/b/cpu.max", "800000 100000\n"),
                ("sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n"),
            ];
            assert_eq!(of_this_process(&Root::new("nested", &files).0), Some(2));
        }

        #[test]
        fn less_than_one_core_is_one() {
            let files =
                [V2, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/cpu.max", "5000 100000\n")];
            assert_eq!(of_this_process(&Root::new("least", &files).0), Some(1));
        }

        #[test]
        fn no_quota_and_no_groups_are_no_limit() {
            let files =
                [V2, ("proc/self/cgroup", "0::/a\n"), ("sys/fs/cgroup/a/cpu.max", "max 100000\n")];
            assert_eq!(of_this_process(&Root::new("max", &files).0), None);
            assert_eq!(of_this_process(&Root::new("nothing", &[]).0), None);
            let damaged = [V2, ("proc/self/cgroup", "?\n1:cpu\n0::/a\n")];
            assert_eq!(of_this_process(&Root::new("damaged", &damaged).0), None);
        }

        #[test]
        fn version_1_in_a_container_with_a_space_in_its_mount() {
            let files = [
                V1,
                ("proc/self/cgroup", "9:cpuset:/\n4:cpu,cpuacct:/docker/abc/inner\n0::/\n"),
                ("sys/fs/cgroup/cpu,cpu acct/cpu.cfs_quota_us", "600000\n"),
                ("sys/fs/cgroup/cpu,cpu acct/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/cpu,cpu acct/inner/cpu.cfs_quota_us", "300000\n"),
                ("sys/fs/cgroup/cpu,cpu acct/inner/cpu.cfs_period_us", "100000\n"),
            ];
            assert_eq!(of_this_process(&Root::new("v1", &files).0), Some(3));
        }

        #[test]
        fn version_1_without_a_quota_or_seen_from_another_namespace() {
            let quota = "sys/fs/cgroup/cpu,cpu acct/cpu.cfs_quota_us";
            let period = ("sys/fs/cgroup/cpu,cpu acct/cpu.cfs_period_us", "100000\n");
            let group = ("proc/self/cgroup", "4:cpu,cpuacct:/elsewhere\n");
            let none = [V1, group, (quota, "-1\n"), period];
            assert_eq!(of_this_process(&Root::new("v1none", &none).0), None);
            let four = [V1, group, (quota, "400000\n"), period];
            assert_eq!(of_this_process(&Root::new("v1outside", &four).0), Some(4));
        }

        #[test]
        fn both_versions_at_once() {
            let both = format!("{}40 22 0:40 / /unified rw - cgroup2 cgroup2 rw\n", V1.1);
            let files = [
                ("proc/self/mountinfo", both.as_str()),
                ("proc/self/cgroup", "4:cpu,cpuacct:/docker/abc\n0::/x\n"),
                ("sys/fs/cgroup/cpu,cpu acct/cpu.cfs_quota_us", "400000\n"),
                ("sys/fs/cgroup/cpu,cpu acct/cpu.cfs_period_us", "100000\n"),
                ("unified/cpu.max", "200000 100000\n"),
            ];
            assert_eq!(of_this_process(&Root::new("both", &files).0), Some(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_remembered_for_a_second() {
        let last = Remembered { cores: AtomicUsize::new(0), until: AtomicU64::new(0) };
        assert_eq!(last.get(|| Some(3)), Some(3));
        last.until.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(last.get(|| unreachable!("it is not old")), Some(3));
        last.until.store(0, Ordering::Relaxed);
        assert_eq!(last.get(|| None), None);
    }

    #[test]
    fn at_least_one_core_and_no_more_than_the_standard_library_finds() {
        let found = std::thread::available_parallelism().map_or(1, usize::from);
        assert_eq!(cpu_count(), found);
    }
}
