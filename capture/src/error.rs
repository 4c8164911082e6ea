//! Why live capture cannot start, or go on.

use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

use crate::btf::BtfError;

/// Why live capture cannot start, or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel does not tell its types.
    #[error("cannot read /sys/kernel/btf/vmlinux: {0}")]
    NoBtf(#[source] io::Error),
    /// The kernel's types are not as expected.
    #[error("this kernel's structures cannot be used: {0}")]
    Layout(#[from] BtfError),
    /// The kernel refused the programs as a whole: their maps, mostly for want of rights.
    #[error("the kernel refused the eBPF object: {0}")]
    Object(#[from] EbpfError),
    /// The kernel refused a program.
    #[error("the kernel refused the eBPF program {program}: {cause}")]
    Program {
        /// Name of the program.
        program: String,
        /// What it said.
        #[source]
        cause: ProgramError,
    },
    /// A map could not be used.
    #[error("the eBPF map {map} cannot be used: {cause}")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// What the kernel said.
        #[source]
        cause: MapError,
    },
    /// The committed object does not hold what the loader expects of it.
    #[error("the eBPF object has no {0}: it does not belong to this program")]
    Missing(String),
    /// No hook set works here.
    #[error("no hook set works on this kernel:{0}")]
    NoHooks(String),
    /// Waiting for events failed.
    #[error("cannot wait for events: {0}")]
    Wait(#[source] io::Error),
}

impl Error {
    /// What happened and why, down to the first cause, without the thousands of lines that the
    /// kernel has to say of a program.
    #[must_use]
    pub fn reason(&self) -> String {
        let mut text = match self {
            Self::NoHooks(_) => self.to_string(),
            _ => first_line(self),
        };
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let line = first_line(error);
            if !text.contains(&line) {
                text = format!("{text}: {line}");
            }
            cause = error.source();
        }
        text
    }

    /// Whether the kernel named rights as the reason. It also does where it allows nobody.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return error.kind() == io::ErrorKind::PermissionDenied;
            }
            cause = error.source();
        }
        false
    }
}

/// The first line of what an error says.
fn first_line(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default().trim_end();
    let line = line.strip_suffix("Verifier output:").unwrap_or(line);
    line.trim_end().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_goes_down_to_the_first_cause_and_says_nothing_twice() {
        let missing = io::Error::from_raw_os_error(libc::ENOENT);
        let error = Error::Program {
            program: "kprobe_tcp_sendmsg".to_owned(),
            cause: ProgramError::IOError(missing),
        };
        assert_eq!(
            error.reason(),
            "the kernel refused the eBPF program kprobe_tcp_sendmsg: No such file or directory (os \
             error 2)"
        );
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        let error = Error::Object(EbpfError::MapError(MapError::CreateError {
            name: "EVENTS".to_owned(),
            io_error: refused,
        }));
        assert!(error.is_permission());
        assert_eq!(
            error.reason(),
            "the kernel refused the eBPF object: map error: failed to create map `EVENTS`: \
             Operation not permitted (os error 1)"
        );
    }
}
