//! `send` and `recv` through io_uring: no system call names the socket or the bytes.

#![allow(
    unsafe_code,
    reason = "io_uring takes pointers; each call waits for its completion, so the bytes outlive it"
)]

use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;

use io_uring::{IoUring, opcode, squeue, types};

thread_local! {
    /// The ring of this thread. One of another process would be shared with it: a scenario makes
    /// its first call after it has forked.
    static RING: RefCell<Option<IoUring>> = const { RefCell::new(None) };
}

/// Whether this kernel lets this process have a ring.
pub(crate) fn available() -> io::Result<()> {
    IoUring::new(2).map(|_| ())
}

pub(crate) fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    submit(&opcode::Send::new(types::Fd(fd), bytes.as_ptr(), len).build())
}

pub(crate) fn recv(fd: RawFd, bytes: &mut [u8]) -> io::Result<usize> {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    submit(&opcode::Recv::new(types::Fd(fd), bytes.as_mut_ptr(), len).build())
}

fn submit(entry: &squeue::Entry) -> io::Result<usize> {
    RING.with_borrow_mut(|ring| {
        let ring = match ring {
            Some(ring) => ring,
            None => ring.insert(IoUring::new(2)?),
        };
        // SAFETY: the entry's buffer is borrowed by the caller, who waits for the completion here.
        unsafe { ring.submission().push(entry) }.map_err(io::Error::other)?;
        ring.submit_and_wait(1)?;
        let completion = ring.completion().next();
        let result = completion.ok_or(io::ErrorKind::UnexpectedEof)?.result();
        usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
    })
}
