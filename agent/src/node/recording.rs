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

/// Seconds that a recording may take.
const LONGEST: f64 = 3600.0;

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
    /// Reads the body of a request; why it cannot be done.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let wanted: Self = match body {
            [] => Self::default(),
            body => serde_json::from_slice(body).map_err(|wrong| wrong.to_string())?,
        };
        if !(wanted.seconds > 0.0 && wanted.seconds <= LONGEST) {
            let seconds = wanted.seconds;
            return Err(format!(
                "seconds is {seconds}: it has to be more than 0 and at most {LONGEST}"
            ));
        }
        if wanted.bytes == 0 {
            return Err("bytes is 0: it has to be more".into());
        }
        Ok(wanted)
    }

    /// For the log.
    pub(super) fn words(self) -> String {
        let time = units::Duration(self.time().as_nanos() as u64);
        format!("for {time}, at most {} bytes", self.bytes)
    }

    pub(super) fn time(self) -> Duration {
        Duration::from_secs_f64(self.seconds)
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
        let read = |body: &str| Wanted::read(body.as_bytes());
        let some = read("{\"seconds\": 0.5}").expect("correct");
        assert_eq!(some.words(), "for 500ms, at most 67108864 bytes");
        let default = read("").expect("correct");
        assert_eq!(default.words(), "for 10s, at most 67108864 bytes");
        let refused = [
            ("{\"seconds\": 0}", "seconds is 0: it has to be more than 0"),
            ("{\"seconds\": -1}", "seconds is -1: "),
            ("{\"seconds\": 3600.5}", "at most 3600"),
            ("{\"bytes\": 0}", "bytes is 0"),
            ("{\"second\": 1}", "unknown field `second`"),
            ("{\"keep\": \"../elsewhere\"}", "invalid type"),
            ("{", "EOF"),
        ];
        for (body, why) in refused {
            let said = read(body).expect_err(body);
            assert!(said.contains(why), "{body}: {said}");
        }
    }
}
