//! What systemd is told: that the agent is ready, that it lives, that it stops; see sd_notify(3).

use std::env;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// Where systemd listens, if it does.
#[derive(Debug)]
pub(super) struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that the agent lives: half of the time after which it acts.
    every: Option<Duration>,
    next: Instant,
}

impl Notify {
    /// As the environment says.
    pub(super) fn of_environment() -> Self {
        Self::new(&|name| env::var(name).ok())
    }

    fn new(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let name = variable("NOTIFY_SOCKET");
        let address = name.and_then(|name| match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok(),
            None => SocketAddr::from_pathname(name).ok(),
        });
        let socket = UnixDatagram::unbound().ok().zip(address);
        let number = |name| variable(name).and_then(|text| text.parse::<u64>().ok());
        let own = u64::from(std::process::id());
        let is_meant = number("WATCHDOG_PID").is_none_or(|pid| pid == own);
        let period = number("WATCHDOG_USEC").filter(|period| *period > 0 && is_meant);
        Self {
            socket,
            every: period.map(|period| Duration::from_micros(period / 2)),
            next: Instant::now(),
        }
    }

    /// Everything that is to be observed is.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    /// It does what it should. To be called often, by the thread whose life matters.
    pub(super) fn alive(&mut self, now: Instant) {
        if let Some(every) = self.every
            && now >= self.next
        {
            self.next = now + every;
            self.tell("WATCHDOG=1");
        }
    }

    /// It ends, once it has sent what is left.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, state: &str) {
        if let Some((socket, address)) = &self.socket {
            // Whoever does not listen does not want to know.
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_hears_of_each_state_and_twice_in_its_period() {
        let name = format!("wirespan-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("an address");
        let systemd = UnixDatagram::bind_addr(&address).expect("a socket");
        systemd.set_nonblocking(true).expect("set");
        let variable = |wanted: &str| match wanted {
            "NOTIFY_SOCKET" => Some(format!("@{name}")),
            "WATCHDOG_USEC" => Some("2000000".to_owned()),
            _ => None,
        };
        let mut notify = Notify::new(&variable);
        let begun = Instant::now();
        notify.ready();
        for tenth in 0..25 {
            notify.alive(begun + Duration::from_millis(100 * tenth));
        }
        notify.stopping();
        let mut heard = Vec::new();
        let mut buffer = [0; 64];
        while let Ok(n) = systemd.recv(&mut buffer) {
            heard.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
        }
        let alive = "WATCHDOG=1";
        assert_eq!(heard, ["READY=1", alive, alive, alive, "STOPPING=1"]);
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_fed() {
        let other = |wanted: &str| match wanted {
            "WATCHDOG_USEC" => Some("2000000".to_owned()),
            "WATCHDOG_PID" => Some("1".to_owned()),
            _ => None,
        };
        assert!(Notify::new(&other).every.is_none());
        let nobody = Notify::new(&|_| None);
        assert!(nobody.socket.is_none());
        nobody.ready();
    }
}
