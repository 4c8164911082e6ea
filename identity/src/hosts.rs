//! Names of addresses by `/etc/hosts`.

use std::collections::HashMap;
use std::net::IpAddr;

/// Addresses that are named at most.
const MAX_NAMES: usize = 4_096;

/// Names of addresses.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hosts(HashMap<IpAddr, Box<str>>);

impl Hosts {
    /// Reads the file's text: an address, its name, other names, and comments. Loopback addresses are
    /// left out: every machine calls itself `localhost`.
    #[must_use]
    pub fn read(text: &[u8]) -> Self {
        let mut names = HashMap::new();
        for line in text.split(|byte| *byte == b'\n') {
            let line = line.split(|byte| *byte == b'#').next();
            let Some(line) = line.and_then(|line| str::from_utf8(line).ok()) else {
                continue;
            };
            let mut words = line.split_ascii_whitespace();
            let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
            let (Some(address), Some(name)) = (address, words.next()) else {
                continue;
            };
            let plain = name.len() <= 253 && !name.contains(char::is_control);
            if plain && !address.is_loopback() && names.len() < MAX_NAMES {
                names.entry(address).or_insert_with(|| name.into());
            }
        }
        Self(names)
    }

    /// The first name of an address.
    #[must_use]
    pub fn name(&self, address: IpAddr) -> Option<&str> {
        self.0.get(&address.to_canonical()).map(|name| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_an_address_counts() {
        let hosts = Hosts::read(
            b"127.0.0.1 localhost\n10.0.0.7\tdb.shop db # the database\n10.0.0.7 other\n\
              # 10.0.0.8 x\nfe80::1 gate\nnonsense a\n10.0.0.9\n10.0.0.10 \xff\n::1 localhost",
        );
        let name = |address: &str| hosts.name(address.parse().expect("an address"));
        assert_eq!(name("10.0.0.7"), Some("db.shop"));
        assert_eq!(name("::ffff:10.0.0.7"), Some("db.shop"));
        assert_eq!(name("fe80::1"), Some("gate"));
        for address in ["127.0.0.1", "::1", "10.0.0.8", "10.0.0.9", "10.0.0.10"] {
            assert_eq!(name(address), None, "{address}");
        }
    }

    #[test]
    fn a_file_without_end_is_bounded() {
        let line = |n: u32| format!("{} h{n}\n", std::net::Ipv4Addr::from(0x0a00_0000 + n));
        let text: String = (0..10_000).map(line).collect();
        assert_eq!(Hosts::read(text.as_bytes()).0.len(), MAX_NAMES);
    }
}
