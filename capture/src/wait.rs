//! Waiting for events without being woken by each.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

/// Wakes when the kernel side asks for it, not whenever there is something to read: the ring buffer
/// counts as readable all the time, so only edges are waited for.
#[derive(Debug)]
pub(crate) struct Waiter {
    epoll: OwnedFd,
}

impl Waiter {
    /// A waiter for the edges of `fd`.
    #[allow(unsafe_code, reason = "epoll has no safe interface in std")]
    pub(crate) fn new(fd: &impl AsFd) -> io::Result<Self> {
        // SAFETY: no memory is involved; the descriptor is checked before it is owned.
        let epoll = unsafe {
            let raw = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if raw < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(raw)
        };
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLET).cast_unsigned(),
            u64: 0,
        };
        // SAFETY: both descriptors are open, the event outlives the call.
        let added = unsafe {
            libc::epoll_ctl(
                epoll.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                fd.as_fd().as_raw_fd(),
                &raw mut event,
            )
        };
        if added < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { epoll })
    }

    /// Waits until woken, or until `time` has passed, or a signal came.
    #[allow(unsafe_code, reason = "epoll has no safe interface in std")]
    pub(crate) fn wait(&self, time: Duration) -> io::Result<()> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let milliseconds = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: room for the one event that is asked for.
        let woken =
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), &raw mut event, 1, milliseconds) };
        if woken < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Whether there is something to read, be it still being written.
#[allow(unsafe_code, reason = "poll has no safe interface in std")]
pub(crate) fn is_readable(fd: &impl AsFd) -> bool {
    let mut asked = libc::pollfd {
        fd: fd.as_fd().as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one descriptor, which is open.
    let ready = unsafe { libc::poll(&raw mut asked, 1, 0) };
    ready > 0 && asked.revents & libc::POLLIN != 0
}
