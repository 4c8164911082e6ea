//! A recording that somebody asked a running agent for: sent while it is made, for so long, and of
//! so many bytes at most.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde::Deserialize;
use wirespan_capture::Tap;
use wirespan_telemetry::{Fed, Feeder, Flow, flow};

use crate::live::Tape;
use crate::units;

/// Bytes that may wait for whoever reads it: a burst, not a reader who is too slow.
const WAITING: usize = 16 << 20;

/// What was asked for, as the body of `POST /record` has it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wanted {
    /// For how many seconds.
    pub(super) seconds: f64,
    /// How large it may become.
    pub(super) bytes: u64,
    /// Whether it is kept in the folder that the configuration names, rather than sent.
    pub(super) keep: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            seconds: 10.0,
            bytes: 64 << 20,
            keep: false,
        }
    }
}

impl Wanted {
    /// For the log.
    pub(super) fn words(self) -> String {
        let time = units::Duration(self.time().as_nanos() as u64);
        format!("for {time}, at most {} bytes", self.bytes)
    }

    /// At most an hour.
    pub(super) fn time(self) -> Duration {
        Duration::from_secs_f64(self.seconds.clamp(0.0, 3600.0))
    }
}

/// A recording under way.
pub(super) struct Recording {
    tape: Tape<Bounded>,
    until: Instant,
}

impl Recording {
    /// Begins one; `introduce` tells it of the connections that are open. And the body that it becomes.
    pub(super) fn start(wanted: Wanted, introduce: impl FnOnce(&mut dyn Tap)) -> (Self, Flow) {
        let (feeder, body) = flow(WAITING);
        let mut tape = Tape::new(Bounded {
            feeder,
            left: wanted.bytes,
        });
        introduce(&mut tape);
        let until = Instant::now() + wanted.time();
        (Self { tape, until }, body)
    }

    /// What hears of connections.
    pub(super) fn tap(&mut self) -> &mut dyn Tap {
        &mut self.tape
    }

    /// Sends what has waited; why it ends, once it does. To be called often.
    pub(super) fn over(&mut self, now: Instant) -> Option<String> {
        if now >= self.until {
            return Some("the time is over".to_owned());
        }
        self.tape.flush().err().map(|error| error.to_string())
    }

    /// Sends what is left, and ends.
    pub(super) fn finish(self) {
        // Whoever reads it sees where it ends.
        let _ = self.tape.finish();
    }
}

/// Sends whole blocks, as long as there is room for them.
struct Bounded {
    feeder: Feeder,
    left: u64,
}

impl Write for Bounded {
    fn write(&mut self, blocks: &[u8]) -> io::Result<usize> {
        let len = blocks.len() as u64;
        let left = self.left.checked_sub(len);
        self.left = left.ok_or_else(|| io::Error::other("it is as large as it may become"))?;
        match self.feeder.feed(blocks) {
            Fed::Taken => Ok(blocks.len()),
            Fed::Full => Err(io::Error::other("whoever reads it is too slow")),
            Fed::Gone => Err(io::Error::other("nobody reads it any more")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.feeder.is_gone() {
            true => Err(io::Error::other("nobody reads it any more")),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_sent_whole_or_not_at_all() {
        let (feeder, body) = flow(100);
        let mut sink = Bounded { feeder, left: 120 };
        assert_eq!(sink.write(&[0; 60]).expect("room"), 60);
        let full = sink.write(&[0; 50]).expect_err("nobody reads");
        assert_eq!(full.to_string(), "whoever reads it is too slow");
        let large = sink.write(&[0; 20]).expect_err("too much");
        assert_eq!(large.to_string(), "it is as large as it may become");
        drop(body);
        assert!(sink.flush().is_err());
    }

    #[test]
    fn what_is_wanted_has_defaults_and_bounds() {
        let wanted: Wanted = serde_json::from_str("{\"seconds\": 0.5}").expect("correct");
        assert_eq!(wanted.words(), "for 500ms, at most 67108864 bytes");
        let long = Wanted {
            seconds: 1e300,
            ..wanted
        };
        assert_eq!(long.time(), Duration::from_secs(3600));
        assert!(serde_json::from_str::<Wanted>("{\"second\": 1}").is_err());
        let path = "{\"keep\": \"../elsewhere\"}";
        assert!(serde_json::from_str::<Wanted>(path).is_err());
    }
}
