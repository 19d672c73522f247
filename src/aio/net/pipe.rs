//! A connected socket with its buffers, TLS included. Nothing here waits.
//!
//! The reactor tells of *changes* only, as epoll does when it is edge-triggered, so a pipe
//! remembers: it is `readable` until a read found less than it asked for, `writable` until a
//! write did. A short read saves the next one, which would find nothing. The end of the
//! stream may have come together with the last bytes, and is not told again: `hung_up` stays.

use bytes::{Buf, BufMut, BytesMut};
use rustls::Connection;
use socket2::Socket;
use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};

/// The most that one read takes.
pub const CHUNK: usize = 128 * 1024;

/// A buffer that is empty again and larger than this is given back.
const KEPT: usize = 4096;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
}

/// Why a connection failed.
#[derive(Clone, Debug)]
pub enum Fault {
    Os { code: i32, text: String },
    Tls(rustls::Error),
}

impl Fault {
    pub fn os(error: &std::io::Error) -> Self {
        let text = match error.raw_os_error() {
            // Without the " (os error 104)".
            Some(code) => {
                let text = error.to_string();
                text.replace(&format!(" (os error {code})"), "")
            }
            None => error.to_string(),
        };
        Self::Os { code: error.raw_os_error().unwrap_or(libc::EIO), text }
    }
}

pub struct Pipe {
    pub socket: Option<Socket>,
    pub tls: Option<Box<Connection>>,
    pub incoming: BytesMut,
    pub outgoing: BytesMut,
    pub readable: bool,
    pub writable: bool,
    pub hung_up: bool,
    /// The other side has said that nothing more comes.
    pub eof: bool,
    pub read_fault: Option<Fault>,
    pub write_fault: Option<Fault>,
    /// Nothing more is to be sent, once `outgoing` is empty.
    pub write_ended: bool,
}

impl Pipe {
    pub fn new(socket: Socket) -> Self {
        Self {
            socket: Some(socket),
            tls: None,
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            readable: true, // not known yet: the first read finds out
            writable: true,
            hung_up: false,
            eof: false,
            read_fault: None,
            write_fault: None,
            write_ended: false,
        }
    }

    /// Nothing more will come in.
    pub fn ended(&self) -> bool {
        self.eof || self.read_fault.is_some() || self.socket.is_none()
    }

    pub fn may_fill(&self) -> bool {
        self.readable && !self.ended()
    }

    /// One read.
    pub fn fill(&mut self) {
        SCRATCH.with_borrow_mut(|scratch| self.fill_by(scratch));
    }

    fn fill_by(&mut self, scratch: &mut [u8]) {
        let Some(socket) = &self.socket else { return };
        let mut socket: &Socket = socket;
        match socket.read(scratch) {
            Ok(0) => match &self.write_fault {
                // The kernel tells of a reset once, and a write has met it: this is no end that
                // the other side has told. (A peer that has told its end gives EPIPE.)
                Some(fault @ Fault::Os { code, .. }) if *code != libc::EPIPE => {
                    self.read_fault = Some(fault.clone());
                }
                _ => self.eof = true,
            },
            Ok(count) => {
                self.readable = count == scratch.len() || self.hung_up;
                if self.tls.is_some() {
                    self.decrypt(&scratch[..count]);
                } else {
                    self.incoming.extend_from_slice(&scratch[..count]);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => self.read_fault = Some(Fault::os(&error)),
        }
    }

    /// What came before TLS was begun belongs to TLS.
    pub fn begin_tls(&mut self, mut tls: Connection) {
        tls.set_buffer_limit(None); // `drain` limits it
        self.tls = Some(Box::new(tls));
        let early = std::mem::take(&mut self.incoming);
        self.decrypt(&early);
        self.flush();
    }

    fn decrypt(&mut self, mut received: &[u8]) {
        let Some(tls) = &mut self.tls else { return };
        while !received.is_empty() {
            let step = match tls.read_tls(&mut received) {
                Ok(0) => break,
                Ok(_) => tls.process_new_packets(),
                Err(error) => {
                    self.read_fault = Some(Fault::os(&error));
                    break;
                }
            };
            match step {
                Ok(state) => {
                    let (old, more) = (self.incoming.len(), state.plaintext_bytes_to_read());
                    self.incoming.resize(old + more, 0);
                    if tls.reader().read_exact(&mut self.incoming[old..]).is_err() {
                        self.incoming.truncate(old);
                    }
                    self.eof |= state.peer_has_closed();
                }
                Err(error) => {
                    self.read_fault = Some(Fault::Tls(error));
                    break;
                }
            }
        }
        self.flush(); // its answers, or the alert that tells what is wrong
    }

    pub fn handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Sends at once what can be sent, and keeps the rest.
    pub fn send(&mut self, data: &[u8]) {
        if self.write_fault.is_some() || self.socket.is_none() {
            return;
        }
        if let Some(tls) = &mut self.tls {
            // It fails only at a limit, of which there is none.
            let _ = tls.writer().write_all(data);
            self.flush();
            return;
        }
        let sent = if self.outgoing.is_empty() { self.send_now(data) } else { 0 };
        if self.write_fault.is_none() {
            self.outgoing.extend_from_slice(&data[sent..]);
        }
    }

    /// How many bytes went.
    fn send_now(&mut self, data: &[u8]) -> usize {
        let mut sent = 0;
        while self.writable && sent < data.len() {
            let Some(socket) = &self.socket else { return sent };
            match socket.send_with_flags(&data[sent..], NO_SIGNAL) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.write_fault = Some(Fault::os(&error));
                    return sent;
                }
            }
        }
        sent
    }

    /// Sends what was kept.
    pub fn flush(&mut self) {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                if tls.write_tls(&mut (&mut self.outgoing).writer()).is_err() {
                    break;
                }
            }
        }
        if !self.outgoing.is_empty() {
            let outgoing = std::mem::take(&mut self.outgoing);
            let sent = self.send_now(&outgoing);
            self.outgoing = outgoing;
            self.outgoing.advance(sent);
            if self.write_fault.is_some() {
                self.outgoing = BytesMut::new();
            }
            give_back(&mut self.outgoing);
        }
        if self.write_ended
            && self.outgoing.is_empty()
            && let Some(socket) = &self.socket
        {
            // It fails only where there is no connection any more, and reads tell of that.
            let _ = socket.shutdown(std::net::Shutdown::Write);
        }
    }

    /// Tells the other side of a TLS connection that this is its end.
    pub fn say_goodbye(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            self.flush();
        }
    }

    /// After bytes were taken from it.
    pub fn trim(&mut self) {
        give_back(&mut self.incoming);
    }
}

/// A peer that is gone is an error of the write, not a signal.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub const NO_SIGNAL: i32 = libc::MSG_NOSIGNAL;
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub const NO_SIGNAL: i32 = 0; // Python ignores SIGPIPE

fn give_back(buffer: &mut BytesMut) {
    if buffer.is_empty() && buffer.capacity() > KEPT {
        *buffer = BytesMut::new();
    }
}
