//! Which exchanges are shown and counted.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use clap::Args;
use wirespan_engine::{Exchange, Registry};
use wirespan_export::ids::SpanIds;

use crate::config::FilterKeys;
use crate::units::Duration;

/// Conditions on exchanges; all of them must hold. Values separated by commas, and an option given
/// several times, are alternatives.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Filters (restrict what is printed and what the RED table counts)")]
pub struct Filter {
    /// Only these protocols, such as http,grpc,redis. Live, connections of others stay in the kernel once
    /// it is known what they are
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    proto: Vec<String>,
    /// Only these statuses: 404, a class such as 5xx, ERR, OK
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<String>,
    /// Only errors, from the server's side; requests without a response are errors
    #[arg(long)]
    errors: bool,
    /// Only exchanges that took longer, or are open longer, such as 100ms
    #[arg(long, value_name = "DURATION")]
    slower: Option<Duration>,
    /// Only targets that match, with or without their query: * is any text, ? any character
    #[arg(long, value_name = "GLOB")]
    path: Vec<String>,
    #[command(flatten)]
    connections: Connections,
    /// Only this trace; its first digits suffice
    #[arg(long, value_name = "HEX", value_parser = trace_prefix)]
    trace_id: Option<String>,
}

/// Conditions on connections.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Connections {
    /// Only connections with this port, on either side
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    port: Vec<u16>,
    /// Only connections with this peer, on either side: an address, or a network such as 10.0.0.0/8
    #[arg(long, value_name = "ADDR|CIDR", value_delimiter = ',')]
    ip: Vec<Network>,
}

impl From<Connections> for Filter {
    fn from(connections: Connections) -> Self {
        Self {
            connections,
            ..Self::default()
        }
    }
}

impl Filter {
    /// As the configuration has it, with the ports and networks of connections.
    pub(crate) fn of_config(keys: &FilterKeys, (port, ip): (Vec<u16>, Vec<Network>)) -> Self {
        Self {
            proto: keys.protocols.clone(),
            status: keys.status.clone(),
            errors: keys.errors,
            slower: keys.slower,
            path: keys.paths.clone(),
            connections: Connections { port, ip },
            trace_id: keys.trace_id.clone(),
        }
    }

    /// Whether `exchange` passes.
    #[must_use]
    pub fn matches(&self, exchange: &Exchange<'_>) -> bool {
        any(&self.proto, |name| name == exchange.protocol.0)
            && any(&self.status, |pattern| {
                status_matches(pattern, exchange.status)
            })
            && (!self.errors || exchange.error())
            && self
                .slower
                .is_none_or(|bound| exchange.duration.or(exchange.open) > Some(bound.0))
            && any(&self.path, |glob| target_matches(glob, exchange.target))
            && any(&self.connections.port, |port| {
                let ports = [exchange.client.port(), exchange.server.port()];
                ports.contains(&Some(*port))
            })
            && any(&self.connections.ip, |net| {
                let ips = [exchange.client.ip(), exchange.server.ip()];
                ips.into_iter().flatten().any(|ip| net.contains(ip))
            })
            && self.trace_id.as_ref().is_none_or(|prefix| {
                SpanIds::of(exchange).is_some_and(|ids| hex(&ids.trace_id).starts_with(prefix))
            })
    }

    /// The ports asked for; none stands for all.
    pub(crate) fn ports(&self) -> &[u16] {
        &self.connections.port
    }

    /// The protocols asked for; none stands for all.
    pub(crate) fn protocols(&self) -> &[String] {
        &self.proto
    }

    /// The networks asked for, with their prefix lengths; none stands for all.
    pub(crate) fn networks(&self) -> impl Iterator<Item = (IpAddr, u8)> {
        self.connections.ip.iter().map(Network::parts)
    }

    /// Checks the names of protocols.
    ///
    /// # Errors
    ///
    /// A message that names the unknown one and those that are known.
    pub(crate) fn check(&self, registry: &Registry) -> Result<(), String> {
        match unknown(&self.proto, registry) {
            None => Ok(()),
            Some((name, known)) => Err(format!(
                "--proto {name}: there is no such protocol; known are {known}"
            )),
        }
    }
}

/// The first of these protocols that no record is of, and those that there are.
pub(crate) fn unknown<'a>(names: &'a [String], registry: &Registry) -> Option<(&'a str, String)> {
    let recorded = registry.recorded();
    let known: Vec<_> = recorded.iter().map(|name| name.0).collect();
    let mut names = names.iter().map(String::as_str);
    let name = names.find(|name| !known.contains(name))?;
    Some((name, known.join(", ")))
}

/// An option that was not given asks for nothing.
fn any<T>(alternatives: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    alternatives.is_empty() || alternatives.iter().any(matches)
}

/// `5xx` is any status of three digits that begins with 5; anything else is a status, whatever its
/// case.
fn status_matches(pattern: &str, status: &str) -> bool {
    match pattern.as_bytes() {
        [class @ b'1'..=b'9', b'x' | b'X', b'x' | b'X'] => {
            matches!(status.as_bytes(), [first, _, _] if first == class)
        }
        _ => pattern.eq_ignore_ascii_case(status),
    }
}

fn target_matches(glob: &str, target: &str) -> bool {
    let path = target.split('?').next().unwrap_or(target);
    glob_matches(glob, target) || glob_matches(glob, path)
}

/// Matches all of `text`. Remembers only the last star: a later one can always take over, so that
/// the time is at most the product of both lengths.
fn glob_matches(glob: &str, text: &str) -> bool {
    let (mut glob, mut text) = (glob, text);
    // Behind the last star, and the text that it has not yet swallowed.
    let mut retry: Option<(&str, &str)> = None;
    loop {
        let mut rest = text.chars();
        let mut pattern = glob.chars();
        match (pattern.next(), rest.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                glob = pattern.as_str();
                retry = Some((glob, text));
            }
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                (glob, text) = (pattern.as_str(), rest.as_str());
            }
            _ => {
                let Some((after_star, from)) = retry else {
                    return false;
                };
                let mut longer = from.chars();
                if longer.next().is_none() {
                    return false;
                }
                (glob, text) = (after_star, longer.as_str());
                retry = Some((after_star, text));
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn trace_prefix(text: &str) -> Result<String, &'static str> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex && (1..=32).contains(&text.len()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("expected 1 to 32 hexadecimal digits")
    }
}

/// An address, or all addresses with the same first bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Network {
    base: IpAddr,
    /// Bits that count, at most those of the address.
    bits: u32,
}

impl Network {
    /// An address, and how many of its bits count.
    pub(crate) const fn parts(&self) -> (IpAddr, u8) {
        (self.base, self.bits as u8)
    }

    fn contains(&self, ip: IpAddr) -> bool {
        match (self.base, ip) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => {
                let differing = base.to_bits() ^ ip.to_bits();
                differing.leading_zeros() >= self.bits
            }
            (IpAddr::V6(base), IpAddr::V6(ip)) => {
                let differing = base.to_bits() ^ ip.to_bits();
                differing.leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

/// Why a text is not a [`Network`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotANetwork;

impl fmt::Display for NotANetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an address such as 10.0.0.1, or a network such as 10.0.0.0/8")
    }
}

impl std::error::Error for NotANetwork {}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits
            .map_or(Ok(width), str::parse)
            .map_err(|_| NotANetwork)?;
        (bits <= width)
            .then_some(Self { base, bits })
            .ok_or(NotANetwork)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_of_statuses_matches_numbers_of_three_digits_only() {
        assert!(status_matches("5xx", "503"));
        assert!(status_matches("5XX", "500"));
        assert!(!status_matches("5xx", "404"));
        assert!(!status_matches("5xx", "5"));
        assert!(!status_matches("5xx", ""));
    }

    #[test]
    fn other_statuses_match_whole_and_in_any_case() {
        assert!(status_matches("err", "ERR"));
        assert!(status_matches("404", "404"));
        assert!(!status_matches("ERR", "ERROR"));
    }

    #[test]
    fn a_glob_matches_all_of_the_text() {
        for (glob, text) in [
            ("/api/*", "/api/"),
            ("/api/*", "/api/cart/7"),
            ("*cart*", "/api/cart/7"),
            ("/a?c", "/abc"),
            ("*", ""),
            ("/ü*", "/übung"),
            ("*a*b", "aabab"),
        ] {
            assert!(glob_matches(glob, text), "{glob} {text}");
        }
        for (glob, text) in [
            ("/api/*", "/apis"),
            ("/a?c", "/ac"),
            ("", "x"),
            ("*b", "abc"),
        ] {
            assert!(!glob_matches(glob, text), "{glob} {text}");
        }
    }

    #[test]
    fn a_glob_of_many_stars_takes_no_exponential_time() {
        assert!(!glob_matches(&"*a".repeat(200), &"a".repeat(199)));
    }

    #[test]
    fn a_target_matches_with_or_without_its_query() {
        assert!(target_matches("/cart", "/cart?id=1"));
        assert!(target_matches("/cart?id=*", "/cart?id=1"));
        assert!(!target_matches("/cart", "/carts?id=1"));
    }

    #[test]
    fn a_network_holds_the_addresses_with_its_first_bits() {
        let holds = |network: &str, ip: &str| {
            let network: Network = network.parse().expect("a network");
            network.contains(ip.parse().expect("an address"))
        };
        assert!(holds("10.0.0.0/8", "10.255.0.1"));
        assert!(!holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.0.0.7", "10.0.0.7"));
        assert!(!holds("10.0.0.7", "10.0.0.6"));
        assert!(holds("0.0.0.0/0", "1.2.3.4"));
        assert!(!holds("0.0.0.0/0", "::1"));
        assert!(holds("2001:db8::/32", "2001:db8:ffff::1"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/", "host"] {
            assert_eq!(text.parse::<Network>(), Err(NotANetwork), "{text}");
        }
    }

    #[test]
    fn the_first_digits_of_a_trace_id_suffice() {
        assert_eq!(trace_prefix("4BF9"), Ok("4bf9".into()));
        assert!(trace_prefix("xyz").is_err());
        assert!(trace_prefix(&"0".repeat(33)).is_err());
    }
}
