//! Why a file, or a function of it, cannot be probed; and what to do about it.

use std::fmt;

use crate::scan::{Family, Machine};

/// Why nothing, or not everything, of a file can be probed. The text is in [`fmt::Display`], what
/// to do in [`Reason::remedy`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A script, an archive, or anything else that is not ELF.
    NotElf,
    /// The file contradicts itself; what is named cannot be read.
    Damaged(&'static str),
    /// Its section headers were removed, and with them the way to its symbols.
    NoSections,
    /// It has TLS, and is for a machine for which no sites are sought.
    Machine(Machine),
    /// No TLS library is in it, neither by symbol nor by content.
    NoTls,
    /// It has a TLS library by its content, and no symbols that would say where its functions are.
    Stripped(Family),
    /// It has a TLS library that is known by name only.
    Unsupported(&'static str),
    /// It was built with a version of Go whose calling convention or structures are not known.
    GoVersion(String),
    /// A function that moves bytes is not among its symbols.
    Missing(Family, &'static str),
    /// A function's address is in no executable segment of the file.
    Outside(&'static str),
    /// A function's first instructions are not code that is understood.
    NotCode(&'static str),
    /// More of something than is looked at; what is beyond is not probed.
    TooMany(&'static str),
}

impl Reason {
    /// What the user can do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotElf => "name the program that runs it (the interpreter, the launcher)",
            Self::Damaged(_) => "install the file again, and compare it with its package",
            Self::NoSections => "use a build that was not treated with sstrip or a packer",
            Self::Machine(_) => "observe it on an x86_64 machine",
            Self::NoTls => "its TLS may be in a library that it loads: scan what its process maps",
            Self::Stripped(_) => {
                "use a build with its symbol table (not stripped), or one that links the TLS library dynamically"
            }
            Self::Unsupported(_) => {
                "its connections are seen as ciphertext; observe the other side of them, or open an issue"
            }
            Self::GoVersion(_) => {
                "build it with Go 1.21 to 1.27, or with debugging information (without -ldflags=-w)"
            }
            Self::Missing(Family::Go, _) => "none is needed if the program does not use it",
            Self::Missing(..) => "use a build of the library that exports it",
            Self::Outside(_) | Self::NotCode(_) => {
                "install the file again; if it is as its maker built it, report it with its build id"
            }
            Self::TooMany(_) => "report it with the file's build id",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => out.write_str("not an ELF file"),
            Self::Damaged(what) => write!(out, "damaged: its {what} cannot be read"),
            Self::NoSections => out.write_str("its section headers were removed"),
            Self::Machine(machine) => write!(
                out,
                "made for {machine}, and sites are known for x86_64 only"
            ),
            Self::NoTls => out.write_str("no TLS library in it"),
            Self::Stripped(family) => {
                write!(out, "{family} is in it, and its symbols are stripped")
            }
            Self::Unsupported(library) => write!(out, "{library} is in it, which is not probed"),
            Self::GoVersion(version) => {
                write!(out, "built with {version}, whose structures are not known")
            }
            Self::Missing(family, name) => write!(out, "{family} without {name}"),
            Self::Outside(name) => write!(out, "{name} is outside of the file's code"),
            Self::NotCode(name) => write!(out, "what stands at {name} is not understood as code"),
            Self::TooMany(what) => write!(out, "too many {what}"),
        }
    }
}
