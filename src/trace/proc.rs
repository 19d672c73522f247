//! What the kernel's files say about a thread: the system call that it sleeps in.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// What a thread is at, just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It has a processor, or would like one.
    Runs,
    /// It sleeps in a system call.
    Sleeps(Call),
    /// It sleeps, as the kernel had to fetch a page for it.
    Faults,
    /// The kernel doesn't tell.
    Hidden,
}

/// A system call that a thread sleeps in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// On this word in memory.
    Futex(u64),
    Sleep,
    /// For a child process, or a signal.
    Child,
    /// For a descriptor; the number of the call.
    Io(i64),
}

/// A thread's files, kept open.
#[derive(Debug)]
pub struct Files {
    call: Option<File>,
    channel: Option<File>,
    schedule: Option<File>,
}

impl Files {
    pub fn open(tid: i32) -> Self {
        let open = |name| File::open(format!("/proc/self/task/{tid}/{name}")).ok();
        Self { call: open("syscall"), channel: open("wchan"), schedule: open("schedstat") }
    }

    pub fn doing(&self) -> Doing {
        let mut buffer = [0; 256];
        if let Some(text) = text(self.call.as_ref(), &mut buffer) {
            return of_call(text);
        }
        text(self.channel.as_ref(), &mut buffer).map_or(Doing::Hidden, of_channel)
    }

    /// For how long it has waited for a processor, in nanoseconds.
    pub fn delay(&self) -> Option<u64> {
        let mut buffer = [0; 96];
        text(self.schedule.as_ref(), &mut buffer)?.split_ascii_whitespace().nth(1)?.parse().ok()
    }
}

fn text<'a>(file: Option<&File>, buffer: &'a mut [u8]) -> Option<&'a str> {
    let length = file?.read_at(buffer, 0).ok().filter(|length| *length > 0)?;
    std::str::from_utf8(buffer.get(..length)?).ok().map(str::trim_end)
}

/// What a thread is called by the kernel, which keeps 15 letters.
pub fn name_of(tid: i32) -> String {
    let name = std::fs::read_to_string(format!("/proc/self/task/{tid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// The threads of this process.
pub fn threads() -> Vec<i32> {
    let Ok(folder) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// `running`, or the call's number, its six arguments in hexadecimal, and two addresses.
fn of_call(line: &str) -> Doing {
    let mut words = line.split_ascii_whitespace();
    let first = words.next().unwrap_or_default();
    let Ok(number) = first.parse::<i64>() else { return Doing::Runs };
    if number < 0 {
        return Doing::Faults;
    }
    let mut argument = || {
        let word = words.next()?.strip_prefix("0x")?;
        u64::from_str_radix(word, 16).ok()
    };
    let (first, second) = (argument().unwrap_or(0), argument().unwrap_or(0));
    Doing::Sleeps(match number {
        libc::SYS_futex => Call::Futex(first),
        libc::SYS_nanosleep | libc::SYS_clock_nanosleep => Call::Sleep,
        libc::SYS_wait4
        | libc::SYS_waitid
        | libc::SYS_rt_sigtimedwait
        | libc::SYS_rt_sigsuspend => Call::Child,
        // Of no descriptor at all: a time is waited for.
        libc::SYS_pselect6 if first == 0 => Call::Sleep,
        libc::SYS_ppoll if second == 0 => Call::Sleep,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_select if first == 0 => Call::Sleep,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll if second == 0 => Call::Sleep,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_pause => Call::Child,
        number => Call::Io(number),
    })
}

/// The kernel's function that it sleeps in: less is told by it, so the word of a futex is 0.
fn of_channel(name: &str) -> Doing {
    Doing::Sleeps(match name {
        "" | "0" => return Doing::Runs,
        name if name.contains("futex") => Call::Futex(0),
        name if name.contains("nanosleep") => Call::Sleep,
        name if name.contains("wait") && name.starts_with("do_wait") => Call::Child,
        _ => Call::Io(-1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        assert_eq!(of_call("running"), Doing::Runs);
        assert_eq!(of_call("-1 0x7ffc 0x7f00"), Doing::Faults);
        let futex = format!("{} 0xabc0 0x189 0x0 0x0 0x0 0x0 0x7ffc 0x7f00", libc::SYS_futex);
        assert_eq!(of_call(&futex), Doing::Sleeps(Call::Futex(0xabc0)));
        let sleep = format!("{} 0x0 0x0 0x7ffd 0x0 0x0 0x0 0x7ffc 0x7f00", libc::SYS_ppoll);
        assert_eq!(of_call(&sleep), Doing::Sleeps(Call::Sleep));
        let read = format!("{} 0x0 0x7f85 0x20000 0x7f 0x0 0x0 0x7ffc 0x7f00", libc::SYS_read);
        assert_eq!(of_call(&read), Doing::Sleeps(Call::Io(libc::SYS_read)));
        assert_eq!(of_channel("futex_wait_queue"), Doing::Sleeps(Call::Futex(0)));
        assert_eq!(of_channel("hrtimer_nanosleep"), Doing::Sleeps(Call::Sleep));
        assert_eq!(of_channel("do_wait"), Doing::Sleeps(Call::Child));
        assert_eq!(of_channel("0"), Doing::Runs);
    }

    #[test]
    fn a_thread_that_waits_is_seen_to() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            sender.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            ended.recv()
        });
        let tid = receiver.recv().unwrap();
        assert!(threads().contains(&tid));
        let files = Files::open(tid);
        while !matches!(files.doing(), Doing::Sleeps(Call::Futex(_)) | Doing::Hidden) {
            std::thread::yield_now();
        }
        drop(end);
        let _ = thread.join();
    }
}
