//! Connections that are left out because nobody wants their protocol.

use super::{Connection, Context};

/// Why the bytes of a connection are only counted whose protocol nobody wants.
pub const FILTERED: &str = "filtered";

impl Connection {
    /// Whether its protocol, which is known, is none of `wanted`.
    pub(super) fn is_unwanted(&self, wanted: Option<&[&'static str]>) -> bool {
        wanted.is_some_and(|wanted| !wanted.contains(&self.protocol))
    }

    /// Other protocols are wanted than before.
    pub(crate) fn reconsider(&mut self, cx: &mut Context<'_>) {
        if !self.is_unwanted(cx.wanted) {
            return;
        }
        // What is seen inside of TLS is detected anew, and left out then.
        self.parked = None;
        if self.parser.is_some() {
            self.turn_opaque(FILTERED, cx);
        }
    }

    /// Whether it was left out and is among `wanted` by now.
    pub(crate) fn is_missed(&self, wanted: Option<&[&'static str]>) -> bool {
        self.opaque == Some(FILTERED) && !self.is_unwanted(wanted)
    }
}
