//! Processes of the workload: forked, named, bounded in time.

#![allow(
    unsafe_code,
    reason = "fork and its like; the workload forks only while it has a single thread"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use crate::calls::done;

/// Seconds after which the kernel ends a process of the workload, whatever it waits for.
const LONGEST_LIFE: u32 = 280;

/// A forked process.
#[must_use]
pub(crate) struct Child {
    pid: libc::pid_t,
    name: String,
}

impl Child {
    /// Forks a process of this name, which ends with `run`.
    pub(crate) fn start(name: &str, run: impl FnOnce() -> io::Result<()>) -> io::Result<Self> {
        let pid = done(unsafe { libc::fork() })?;
        if pid == 0 {
            let ended = begin(name).and_then(|()| run());
            let code = i32::from(ended.is_err());
            if let Err(error) = ended {
                eprintln!("workload: {name}: {error}");
            }
            // SAFETY: nothing of the parent's that this process has a copy of is to be run here.
            unsafe { libc::_exit(code) };
        }
        Ok(Self {
            pid,
            name: name.into(),
        })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It failed, which it has told on standard error.
    pub(crate) fn join(self) -> io::Result<()> {
        let mut status = 0;
        done(unsafe { libc::waitpid(self.pid, &raw mut status, 0) })?;
        if status == 0 {
            return Ok(());
        }
        let failed = format!("{} ended with status {status:#x}", self.name);
        Err(io::Error::other(failed))
    }
}

/// Names this process, and bounds its life.
fn begin(name: &str) -> io::Result<()> {
    rename(name)?;
    // Who kills the workload means all of it.
    done(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    // SAFETY: no signal handler of ours is run.
    unsafe { libc::alarm(LONGEST_LIFE) };
    Ok(())
}

/// Names this process, without moving a byte: a capture meets it under its name.
pub(crate) fn rename(name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    done(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }).map(|_| ())
}

/// This process' name, as the kernel has it.
pub(crate) fn own_name() -> io::Result<String> {
    let name = std::fs::read_to_string("/proc/self/comm")?;
    Ok(name.trim_end().to_owned())
}

/// Takes a descriptor that this process was started with.
pub(crate) fn inherited(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller was told by the program that started it that the descriptor is its own.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Lets a descriptor be inherited by a program that this process becomes.
pub(crate) fn keep_open(fd: RawFd) -> io::Result<()> {
    done(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }).map(|_| ())
}

/// Makes `number` name what `fd` names, closing what it named before.
pub(crate) fn duplicate_onto(fd: RawFd, number: RawFd) -> io::Result<OwnedFd> {
    done(unsafe { libc::dup2(fd, number) })?;
    Ok(inherited(number))
}

/// Moves this process into a network namespace of its own, with a loopback interface.
pub(crate) fn enter_network_namespace() -> io::Result<()> {
    done(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    let socket = done(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) })?;
    let socket = inherited(socket);
    // SAFETY: an interface request of zeros is one; its name and flags are set here.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = *byte as _;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as _;
    let socket = socket.as_raw_fd();
    done(unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw const request) })?;
    Ok(())
}

/// A control message that carries one descriptor, as large as the kernel lays it out.
#[repr(C)]
struct Rights {
    header: libc::cmsghdr,
    fd: RawFd,
    padding: u32,
}

/// Passes a descriptor to another process.
pub(crate) fn pass(through: &UnixStream, fd: RawFd) -> io::Result<()> {
    let mut rights = Rights {
        header: rights_header(),
        fd,
        padding: 0,
    };
    with_rights(&mut rights, |message| unsafe {
        libc::sendmsg(through.as_raw_fd(), message, 0)
    })
}

/// Takes a descriptor that another process passes.
pub(crate) fn take(from: &UnixStream) -> io::Result<OwnedFd> {
    let mut rights = Rights {
        header: rights_header(),
        fd: -1,
        padding: 0,
    };
    with_rights(&mut rights, |message| unsafe {
        libc::recvmsg(from.as_raw_fd(), message, 0)
    })?;
    match rights.fd {
        -1 => Err(io::Error::other("no descriptor was passed")),
        fd => Ok(inherited(fd)),
    }
}

fn rights_header() -> libc::cmsghdr {
    libc::cmsghdr {
        cmsg_len: (size_of::<libc::cmsghdr>() + size_of::<RawFd>()) as _,
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    }
}

/// Calls `call` with a message of one byte that has `rights` as its control message.
fn with_rights(
    rights: &mut Rights,
    call: impl FnOnce(*mut libc::msghdr) -> libc::ssize_t,
) -> io::Result<()> {
    let mut byte = [b'p'];
    let mut vector = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // SAFETY: a message header of zeros names nothing.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = ptr_to(rights);
    message.msg_controllen = size_of::<Rights>() as _;
    if call(&raw mut message) == 1 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

fn ptr_to(rights: &mut Rights) -> *mut libc::c_void {
    std::ptr::from_mut(rights).cast()
}
