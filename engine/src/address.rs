//! Where the peers of connections are.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

/// Address of a peer. As text, `ip:port`, IPv6 in brackets, or `unix:` and a [`UnixName`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Address {
    /// On a network.
    Inet(SocketAddr),
    /// A Unix socket, on the observed machine.
    Unix(UnixName),
}

impl Address {
    /// The IP address, where it has one.
    #[must_use]
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Inet(socket) => Some(socket.ip()),
            Self::Unix(_) => None,
        }
    }

    /// The port, where it has one.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Inet(socket) => Some(socket.port()),
            Self::Unix(_) => None,
        }
    }

    /// Whether both are on the same machine, as far as the addresses tell.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        self.ip() == other.ip()
    }
}

impl<T: Into<SocketAddr>> From<T> for Address {
    fn from(socket: T) -> Self {
        Self::Inet(socket.into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(socket) => write!(f, "{socket}"),
            Self::Unix(name) => write!(f, "unix:{name}"),
        }
    }
}

/// Name of a Unix socket, unix(7): a path, an abstract name, or nothing, as most clients' sockets.
///
/// As text, the path as it was bound, `@` and the abstract name, or nothing. What is no UTF-8 is
/// shown as U+FFFD, and so are control characters; zeros as `@`, as the kernel shows them.
#[derive(Clone, Copy)]
pub struct UnixName {
    len: u8,
    bytes: [u8; UnixName::LONGEST],
}

impl UnixName {
    /// Bytes that a name has at most: those of `sun_path`.
    pub const LONGEST: usize = 108;

    /// The name of a socket that has none.
    pub const NONE: Self = Self {
        len: 0,
        bytes: [0; Self::LONGEST],
    };

    /// A name as the kernel has it in `sun_path`: an abstract one begins with a zero, a path ends
    /// before its first. What is longer is cut.
    #[must_use]
    pub fn new(sun_path: &[u8]) -> Self {
        let name = match sun_path.first() {
            Some(0) => sun_path,
            _ => sun_path.split(|byte| *byte == 0).next().unwrap_or_default(),
        };
        let mut unix = Self::NONE;
        for (to, from) in unix.bytes.iter_mut().zip(name) {
            *to = *from;
            unix.len = unix.len.saturating_add(1);
        }
        unix
    }

    /// As [`UnixName::new`] takes it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or_default()
    }

    /// Whether the socket has no name.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.as_bytes().utf8_chunks() {
            for character in chunk.valid().chars() {
                fmt::Write::write_char(f, shown(character))?;
            }
            if !chunk.invalid().is_empty() {
                f.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}

const fn shown(character: char) -> char {
    match character {
        '\0' => '@',
        '\u{1}'..='\u{1f}' | '\u{7f}'..='\u{9f}' => '\u{fffd}',
        _ => character,
    }
}

impl fmt::Debug for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl PartialEq for UnixName {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for UnixName {}

impl Hash for UnixName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Ord for UnixName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for UnixName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(sun_path: &[u8]) -> String {
        Address::Unix(UnixName::new(sun_path)).to_string()
    }

    #[test]
    fn names_are_shown_as_paths_abstract_names_or_nothing() {
        assert_eq!(
            shown(b"/run/postgresql/.s.PGSQL.5432\0"),
            "unix:/run/postgresql/.s.PGSQL.5432"
        );
        assert_eq!(
            shown(b"relative\0junk"),
            "unix:relative",
            "it ends at a zero"
        );
        assert_eq!(shown(b"\0name"), "unix:@name");
        assert_eq!(
            shown(b"\0a\0b\0"),
            "unix:@a@b@",
            "zeros count in abstract names"
        );
        assert_eq!(shown(b""), "unix:");
    }

    #[test]
    fn what_is_no_text_is_shown_as_such() {
        assert_eq!(
            shown(b"/tmp/a\nb\x7f\xffc"),
            "unix:/tmp/a\u{fffd}b\u{fffd}\u{fffd}c"
        );
        assert_eq!(shown("/tmp/ä".as_bytes()), "unix:/tmp/ä");
    }

    #[test]
    fn the_longest_name_is_whole_and_a_longer_one_is_cut() {
        let long = [b'x'; 120];
        assert_eq!(UnixName::new(&long[..108]).as_bytes(), &long[..108]);
        assert_eq!(UnixName::new(&long).as_bytes(), &long[..108]);
    }

    #[test]
    fn only_sockets_of_a_network_have_ip_and_port() {
        let inet = Address::from(([10, 0, 0, 1], 80));
        let unix = Address::Unix(UnixName::NONE);
        assert_eq!(inet.to_string(), "10.0.0.1:80");
        assert_eq!(
            (inet.ip(), inet.port()),
            (Some([10, 0, 0, 1].into()), Some(80))
        );
        assert_eq!((unix.ip(), unix.port()), (None, None));
        assert!(unix.is_beside(&Address::Unix(UnixName::new(b"/x"))));
        assert!(!unix.is_beside(&inet));
    }
}
