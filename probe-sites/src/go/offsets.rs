//! Where Go's structures have the fields that lead from a connection to its descriptor.

use crate::elf::Image;
use crate::go::dwarf;
use crate::reason::Reason;

/// Where Go's structures hold what leads from a connection to its descriptor, in bytes.
///
/// `tls.Conn` → `conn`, an interface: a type word and, 8 bytes on, a pointer to `net.TCPConn` →
/// pointer to `net.netFD` at offset 0 → `pfd.Sysfd`. The goroutine that runs is in `r14`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoOffsets {
    /// `tls.Conn.conn`.
    pub conn: u16,
    /// `net.netFD.pfd.Sysfd`, of 8 bytes.
    pub descriptor: u16,
    /// `runtime.g.goid`, of 8 bytes.
    pub goid: u16,
    /// `runtime.g.parentGoid`, of 8 bytes: the goroutine that made this one.
    pub parent_goid: u16,
    /// Address of the type word that a `*net.TCPConn` has as a `net.Conn`, as the file says. With
    /// it any other kind of connection is told apart.
    pub tcp_conn_type: Option<u64>,
}

/// The layouts of released versions on 64-bit machines: first minor version, `goid`, `parentGoid`.
/// The others have not changed since Go 1.9.
const LAYOUTS: [(u16, u16, u16); 4] = [
    (21, 152, 272),
    (23, 160, 280),
    (25, 152, 272),
    (26, 152, 280),
];
/// The newest minor version that the table holds for.
const NEWEST: u16 = 27;

/// The offsets in a program built with `version`; those of its debugging information where it
/// has any.
///
/// # Errors
///
/// Where there is none and the version is unknown.
pub(crate) fn of(image: &Image<'_>, version: &str) -> Result<GoOffsets, Reason> {
    let unknown = || Reason::GoVersion(version.to_owned());
    let minor = minor(version);
    // Arguments are on the stack before Go 1.17, the function table is another before 1.18.
    if minor.is_some_and(|minor| minor < 18) || version == "go1.17 or older" {
        return Err(unknown());
    }
    by_version(minor)
        .or_else(|| dwarf::offsets(image))
        .ok_or_else(unknown)
}

fn by_version(minor: Option<u16>) -> Option<GoOffsets> {
    let minor = minor.filter(|minor| *minor <= NEWEST)?;
    let layouts = LAYOUTS.iter().rev();
    let (_, goid, parent_goid) = layouts.into_iter().find(|(first, ..)| minor >= *first)?;
    Some(GoOffsets {
        conn: 0,
        descriptor: 16,
        goid: *goid,
        parent_goid: *parent_goid,
        tcp_conn_type: None,
    })
}

/// The `24` of `go1.24.3`, `go1.24rc1` or `go1.24 X:experiment`; `None` for a development version,
/// as `devel go1.25-…` or `go1.25-20250209-RC00`, which may have the layouts of either neighbour.
fn minor(version: &str) -> Option<u16> {
    let rest = version.strip_prefix("go1.")?;
    let end = rest.find(|c: char| !c.is_ascii_digit());
    let (digits, rest) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
    let released = [".", "rc", " "];
    let known = rest.is_empty() || released.iter().any(|it| rest.starts_with(it));
    digits.parse().ok().filter(|_| known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::File;
    use crate::go::build_info;

    /// Over a folder of programs, some of them with debugging information; how to make them is in
    /// `docs/TLS.md`.
    #[test]
    fn layouts_and_functions_are_those_of_debugging_information() {
        let Some(folder) = std::env::var_os("WIRESPAN_GO_PROGRAMS") else {
            eprintln!("skipped: WIRESPAN_GO_PROGRAMS names no folder of Go programs");
            return;
        };
        let mut compared = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let Ok(file) = std::fs::read(&path) else {
                continue;
            };
            let bytes = &file[..];
            let file = File::new(&bytes);
            let Ok(image) = Image::parse(&file) else {
                continue;
            };
            let version = build_info::version(&image).unwrap();
            let scan = crate::scan(bytes);
            for function in scan.found.iter().flat_map(|library| &library.functions) {
                if let Some(symbol) = image.functions(&[&function.name]).first() {
                    assert_eq!(
                        symbol.address, function.start.address,
                        "{version} {function}"
                    );
                }
            }
            if let Some(offsets) = dwarf::offsets(&image) {
                assert_eq!(by_version(minor(&version)), Some(offsets), "{version}");
                compared += 1;
            }
        }
        assert!(compared > 0, "none has debugging information");
    }

    #[test]
    fn minor_versions_are_read_and_development_versions_have_none() {
        assert_eq!(minor("go1.24.3"), Some(24));
        assert_eq!(minor("go1.27rc1"), Some(27));
        assert_eq!(minor("go1.21.13 X:boringcrypto"), Some(21));
        assert_eq!(minor("devel go1.28-1234abc"), None);
        assert_eq!(minor("go1.25-20250209-RC00 cl/724970549"), None);
    }
}
