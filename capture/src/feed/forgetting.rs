//! Flows that are given up although nobody has told of their end.

use wirespan_engine::Close;

use super::{Feed, Flow, Key, Maps, Output, UNIX};

/// How long a flow whose end is not seen may be silent before it is forgotten, in nanoseconds.
const IDLE: u64 = 300_000_000_000;

impl Feed {
    /// Forgets flows that were not heard of for long and whose end is not seen: Unix sockets, and
    /// sessions whose socket is not known. One that speaks again is met in its middle.
    pub(crate) fn sweep(&mut self, kernel: &mut dyn Maps, now: u64, out: &mut Output<'_>) {
        let over = |key: &Key, flow: &Flow| {
            let told = match key {
                Key::Socket(_) => flow.tuple.family != UNIX,
                Key::Session(_) => flow.partner.is_some(),
            };
            !told && now.saturating_sub(flow.last) >= IDLE
        };
        self.forget(kernel, over, now, out);
    }

    /// Forgets flows whose bytes have no numbers, and that were not heard of since the filters
    /// changed at `since`: nobody has counted what they said, if they were left out.
    pub(crate) fn meet_anew(
        &mut self,
        kernel: &mut dyn Maps,
        since: u64,
        now: u64,
        out: &mut Output<'_>,
    ) {
        let unknown = |key: &Key, flow: &Flow| {
            let numbered = matches!(key, Key::Socket(_)) && flow.tuple.family != UNIX;
            !numbered && flow.last < since
        };
        self.forget(kernel, unknown, now, out);
    }

    /// Joins connections in their middle that the engine has left out for their protocol, which it reads
    /// by now. Those of all others are looked at, since there may be protocols that it no longer reads.
    pub(crate) fn join_missed(&mut self, kernel: &mut dyn Maps, now: u64, out: &mut Output<'_>) {
        let time = out.clock.wall(now);
        for (key, flow) in &mut self.flows {
            let Some(open) = flow.open else { continue };
            if !out.to.engine.is_missed(open.id) {
                flow.touch(*key, &mut self.touched);
                continue;
            }
            out.to.close(open.id, Close::Idle, time);
            flow.begin_anew();
            kernel.set_wish(*key, flow.wish);
        }
    }

    fn forget(
        &mut self,
        kernel: &mut dyn Maps,
        which: impl Fn(&Key, &Flow) -> bool,
        now: u64,
        out: &mut Output<'_>,
    ) {
        let time = out.clock.wall(now);
        let mut sockets = Vec::new();
        self.flows.retain(|key, flow| {
            if !which(key, flow) {
                return true;
            }
            match *key {
                Key::Socket(sock) => kernel.forget(sock),
                Key::Session(session) => {
                    kernel.forget_session(session, flow.born);
                    sockets.extend(flow.partner);
                }
            }
            if let Some(open) = flow.open {
                out.to.close(open.id, Close::Idle, time);
            }
            false
        });
        for (socket, born) in sockets {
            if let Some(flow) = self.flows.get_mut(&socket)
                && flow.born == born
            {
                // Its next session does not begin with it.
                flow.tuple.midstream = 1;
            }
        }
    }
}
