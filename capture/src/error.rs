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
    /// Whether more rights would help.
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
