//! Listening ports: who accepts connections, for those that were open before.

use std::collections::HashSet;
use std::fs;

/// Ports on which sockets listen in a network namespace, as `/proc/PID/net/tcp` has it.
///
/// Empty when it cannot be read: then roles are assumed.
pub(crate) fn listening_ports(pid: u32) -> HashSet<u16> {
    let mut ports = HashSet::new();
    for table in ["tcp", "tcp6"] {
        if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/net/{table}")) {
            ports.extend(text.lines().skip(1).filter_map(listening_port));
        }
    }
    ports
}

/// The local port of a line, if its socket listens (state 0A).
fn listening_port(line: &str) -> Option<u16> {
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let (_, port) = local.rsplit_once(':')?;
    (state == "0A").then_some(())?;
    u16::from_str_radix(port, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_listening_sockets_have_a_port() {
        let listening =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0";
        assert_eq!(listening_port(listening), Some(8080));
        let established =
            "   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0";
        assert_eq!(listening_port(established), None);
        assert_eq!(listening_port("  sl  local_address rem_address   st"), None);
        assert_eq!(listening_port(""), None);
    }
}
