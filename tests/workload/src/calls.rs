//! The kernel's calls that move bytes over a stream socket, each with the shape of `read` and
//! `write`: so many bytes moved, or the error.

#![allow(
    unsafe_code,
    reason = "the calls are the subject; every pointer given to the kernel is that of a slice, or \
              of a structure, that outlives the call"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::{c_int, c_void, iovec, mmsghdr, msghdr, ssize_t};

/// What a call returned, as a count or the error that it left.
fn moved(returned: ssize_t) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}

/// As [`moved`], for calls that return an `int`.
pub(crate) fn done(returned: c_int) -> io::Result<c_int> {
    if returned < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(returned)
}

fn base(bytes: &[u8]) -> *mut c_void {
    bytes.as_ptr().cast_mut().cast()
}

fn vector(bytes: &[u8]) -> iovec {
    iovec {
        iov_base: base(bytes),
        iov_len: bytes.len(),
    }
}

fn message(vectors: &mut [iovec]) -> msghdr {
    // SAFETY: a message header of zeros names no address, no vectors, no ancillary data.
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len() as _;
    message
}

/// A few vectors of different lengths, the first, a middle one and the last of them empty.
fn few(bytes: &[u8]) -> Vec<iovec> {
    let (head, rest) = bytes.split_at(bytes.len().min(10));
    let (middle, tail) = rest.split_at(rest.len().min(100));
    [&[], head, &[], middle, tail, &[]].map(vector).into()
}

/// Forty vectors: more than the kernel keeps on its stack, and more than a program may unroll.
fn forty(bytes: &[u8]) -> Vec<iovec> {
    let each = bytes.len().div_ceil(40).max(1);
    bytes.chunks(each).map(vector).collect()
}

/// As many vectors, of one byte each, as the programs of capture gather.
fn tiny(bytes: &[u8]) -> Vec<iovec> {
    bytes.chunks(1).map(vector).take(64).collect()
}

pub(crate) fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    moved(unsafe { libc::write(fd, base(bytes), bytes.len()) })
}

pub(crate) fn read(fd: RawFd, bytes: &mut [u8]) -> io::Result<usize> {
    moved(unsafe { libc::read(fd, base(bytes), bytes.len()) })
}

pub(crate) fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    moved(unsafe { libc::send(fd, base(bytes), bytes.len(), libc::MSG_NOSIGNAL) })
}

fn recv_with(fd: RawFd, bytes: &mut [u8], flags: c_int) -> io::Result<usize> {
    moved(unsafe { libc::recv(fd, base(bytes), bytes.len(), flags) })
}

pub(crate) fn recv(fd: RawFd, bytes: &mut [u8]) -> io::Result<usize> {
    recv_with(fd, bytes, 0)
}

/// Looks at the bytes twice before they are taken.
pub(crate) fn recv_peeked(fd: RawFd, bytes: &mut [u8]) -> io::Result<usize> {
    recv_with(fd, bytes, libc::MSG_PEEK)?;
    recv_with(fd, bytes, libc::MSG_PEEK)?;
    recv_with(fd, bytes, 0)
}

/// Waits until the buffer is full.
pub(crate) fn recv_all(fd: RawFd, bytes: &mut [u8]) -> io::Result<usize> {
    recv_with(fd, bytes, libc::MSG_WAITALL)
}

/// Has the kernel throw `count` bytes away (tcp(7), `MSG_TRUNC`).
pub(crate) fn discard(fd: RawFd, count: usize) -> io::Result<usize> {
    moved(unsafe { libc::recv(fd, ptr::null_mut(), count, libc::MSG_TRUNC) })
}

/// Tries thrice in vain, where there is nothing yet, before it says so. For non-blocking sockets.
pub(crate) fn read_too_early(fd: RawFd, bytes: &mut [u8]) -> io::Result<usize> {
    for _ in 0..3 {
        match read(fd, bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            ended => return ended,
        }
    }
    read(fd, bytes)
}

fn writev_of(fd: RawFd, vectors: &[iovec]) -> io::Result<usize> {
    moved(unsafe { libc::writev(fd, vectors.as_ptr(), vectors.len() as c_int) })
}

pub(crate) fn writev(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    writev_of(fd, &few(bytes))
}

pub(crate) fn writev_tiny(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    writev_of(fd, &tiny(bytes))
}

fn readv_of(fd: RawFd, vectors: &[iovec]) -> io::Result<usize> {
    moved(unsafe { libc::readv(fd, vectors.as_ptr(), vectors.len() as c_int) })
}

pub(crate) fn readv(fd: RawFd, bytes: &mut [u8]) -> io::Result<usize> {
    readv_of(fd, &few(bytes))
}

pub(crate) fn readv_tiny(fd: RawFd, bytes: &mut [u8]) -> io::Result<usize> {
    readv_of(fd, &tiny(bytes))
}

fn sendmsg_of(fd: RawFd, mut vectors: Vec<iovec>, flags: c_int) -> io::Result<usize> {
    let message = message(&mut vectors);
    moved(unsafe { libc::sendmsg(fd, &raw const message, flags) })
}

pub(crate) fn sendmsg(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    sendmsg_of(fd, few(bytes), 0)
}

pub(crate) fn sendmsg_forty(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    sendmsg_of(fd, forty(bytes), 0)
}

/// Lets the network take the pages from the process, where it can.
pub(crate) fn send_zerocopy(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)?;
    sendmsg_of(fd, vec![vector(bytes)], libc::MSG_ZEROCOPY)
}

fn recvmsg_of(fd: RawFd, mut vectors: Vec<iovec>) -> io::Result<usize> {
    let mut message = message(&mut vectors);
    moved(unsafe { libc::recvmsg(fd, &raw mut message, 0) })
}

pub(crate) fn recvmsg(fd: RawFd, bytes: &mut [u8]) -> io::Result<usize> {
    recvmsg_of(fd, few(bytes))
}

pub(crate) fn recvmsg_forty(fd: RawFd, bytes: &mut [u8]) -> io::Result<usize> {
    recvmsg_of(fd, forty(bytes))
}

/// Three messages, of a few vectors each.
pub(crate) fn sendmmsg(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let each = bytes.len().div_ceil(3).max(1);
    let mut vectors: Vec<Vec<iovec>> = bytes.chunks(each).map(few).collect();
    let mut messages = messages(&mut vectors);
    let count = messages.len() as u32;
    let sent = done(unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), count, 0) })?;
    Ok(total(&messages, sent))
}

/// Four messages into a quarter of the buffer each, then put together.
pub(crate) fn recvmmsg(fd: RawFd, bytes: &mut [u8]) -> io::Result<usize> {
    let each = bytes.len().div_ceil(4).max(1);
    let mut vectors: Vec<Vec<iovec>> = bytes.chunks(each).map(few).collect();
    let mut messages = messages(&mut vectors);
    let count = messages.len() as u32;
    let flags = libc::MSG_WAITFORONE as _;
    let received =
        done(unsafe { libc::recvmmsg(fd, messages.as_mut_ptr(), count, flags, ptr::null_mut()) })?;
    let mut end = 0;
    for (number, message) in messages.iter().enumerate().take(received as usize) {
        let from = number * each;
        bytes.copy_within(from..from + message.msg_len as usize, end);
        end += message.msg_len as usize;
    }
    Ok(end)
}

fn messages(vectors: &mut [Vec<iovec>]) -> Vec<mmsghdr> {
    let message = |vectors: &mut Vec<iovec>| mmsghdr {
        msg_hdr: message(vectors),
        msg_len: 0,
    };
    vectors.iter_mut().map(message).collect()
}

fn total(messages: &[mmsghdr], count: c_int) -> usize {
    let lengths = messages.iter().take(count as usize);
    lengths.map(|message| message.msg_len as usize).sum()
}

/// Fails with `EFAULT`, or in the middle, before it succeeds.
pub(crate) fn write_faulty(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let nowhere = iovec {
        iov_base: ptr::without_provenance_mut(1),
        iov_len: 100,
    };
    let half = vector(&bytes[..bytes.len() / 2]);
    match writev_of(fd, &[half, nowhere]) {
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => write(fd, bytes),
        partly => partly,
    }
}

/// Writes from pages that this process has never touched: nothing but the kernel's own copy brings
/// them in.
pub(crate) fn write_untouched(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let file = memory_file(bytes)?;
    let len = bytes.len().max(1);
    let (protection, sharing) = (libc::PROT_READ, libc::MAP_SHARED);
    let pages = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            protection,
            sharing,
            file.as_raw_fd(),
            0,
        )
    };
    if pages == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is as long as `bytes`, and stays until after the call.
    let written = moved(unsafe { libc::write(fd, pages, bytes.len()) });
    done(unsafe { libc::munmap(pages, len) })?;
    written
}

/// A file in memory with these contents.
pub(crate) fn memory_file(contents: &[u8]) -> io::Result<OwnedFd> {
    let file = done(unsafe { libc::memfd_create(c"workload".as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let file = unsafe { OwnedFd::from_raw_fd(file) };
    let mut written = 0;
    while written < contents.len() {
        written += write(file.as_raw_fd(), &contents[written..])?;
    }
    Ok(file)
}

/// Moves `count` bytes of a file from `offset` on to a socket.
pub(crate) fn sendfile(to: RawFd, file: RawFd, offset: u64, count: usize) -> io::Result<usize> {
    let mut offset = offset as libc::off_t;
    moved(unsafe { libc::sendfile(to, file, &raw mut offset, count) })
}

/// Moves up to `count` bytes from one descriptor to another, of which one is a pipe.
pub(crate) fn splice(
    from: RawFd,
    offset: Option<u64>,
    to: RawFd,
    count: usize,
) -> io::Result<usize> {
    let mut offset = offset.map(|offset| offset as libc::loff_t);
    let place = offset.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
    moved(unsafe { libc::splice(from, place, to, ptr::null_mut(), count, 0) })
}

/// Sets an option of a socket that is a number.
pub(crate) fn set_option(fd: RawFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let len = size_of::<c_int>() as libc::socklen_t;
    let value = (&raw const value).cast();
    done(unsafe { libc::setsockopt(fd, level, name, value, len) }).map(|_| ())
}

/// `read`, not before the peer has said all: the last bytes and the end are taken together.
pub(crate) fn read_late(fd: RawFd, bytes: &mut [u8]) -> io::Result<usize> {
    wait(fd, libc::POLLRDHUP)?;
    read(fd, bytes)
}

/// Waits until the descriptor can be read (`POLLIN`) or written (`POLLOUT`), or has no more
/// to read (`POLLRDHUP`), a minute at most.
pub(crate) fn wait(fd: RawFd, events: i16) -> io::Result<()> {
    let mut poll = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    match done(unsafe { libc::poll(&raw mut poll, 1, 60_000) })? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}
