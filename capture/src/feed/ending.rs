//! How streams and connections end.

use wirespan_capture_abi::{Direction as Moved, Header, flag};
use wirespan_engine::{Close, Nanos};

use super::{Feed, Flow, Key, Output};

const RECEIVED: usize = Moved::Received as usize;

impl Flow {
    /// Tells the end of what is received, if the process has read up to it by now.
    pub(super) fn read_to_its_end(&mut self, now: Nanos, out: &mut Output<'_>) {
        let (Some((position, time)), Some(open)) = (self.unread_end, self.open) else {
            return;
        };
        if self.seen[RECEIVED] >= position {
            self.unread_end = None;
            let at = self.offset(RECEIVED, position);
            out.to
                .end(open.id, open.direction(RECEIVED), at, time.max(now));
        }
    }
}

impl Feed {
    /// A stream has ended. Where the process has not read it to there, the end is told with the last bytes:
    /// what waits in the socket is not lost.
    pub(super) fn end(&mut self, header: &Header, ending: usize, out: &mut Output<'_>) {
        let time = out.clock.wall(header.time);
        let Some(flow) = self.flow(header) else {
            return;
        };
        let (flow, position) = match flow.partner {
            None => (flow, header.position),
            // A process has read what it gets from the peer when it closes, not when it has arrived.
            Some(_) if ending == RECEIVED => return,
            Some((session, born)) => match self.flows.get_mut(&session) {
                Some(session) if session.born == born => {
                    let sent = session.seen[0];
                    (session, sent)
                }
                _ => return,
            },
        };
        let Some(open) = flow.open else { return };
        // By now, not when the connection is closed.
        flow.pass_unwanted(open, ending, position, time, out);
        if ending == RECEIVED && flow.seen[ending] < position {
            flow.unread_end = Some((position, time));
            return;
        }
        let at = flow.offset(ending, position);
        out.to.end(open.id, open.direction(ending), at, time);
    }

    pub(super) fn close(&mut self, header: &Header, out: &mut Output<'_>) {
        if !self.knows(header) {
            return;
        }
        let key = Key::of(header);
        let Some(mut flow) = self.flows.remove(&key) else {
            return;
        };
        let time = out.clock.wall(header.time);
        let how = if header.flags & flag::RESET != 0 {
            Close::Reset
        } else {
            Close::Finished
        };
        self.end_flow(
            &mut flow,
            Some([header.position, header.other]),
            how,
            time,
            out,
        );
    }

    /// A flow is over, its streams at these positions.
    pub(super) fn end_flow(
        &mut self,
        flow: &mut Flow,
        positions: Option<[u64; 2]>,
        how: Close,
        time: Nanos,
        out: &mut Output<'_>,
    ) {
        // Another session may have its address by now.
        if let Some((name @ Key::Session(key), born)) = flow.partner
            && self
                .flows
                .get(&name)
                .is_some_and(|session| session.born == born)
            && let Some(session) = self.flows.remove(&name)
        {
            self.sessions.gone.push((key, session.born));
            if let Some(open) = session.open {
                out.to.close(open.id, how, time);
            }
        }
        let Some(open) = flow.open else { return };
        for (kernel, position) in positions.into_iter().flatten().enumerate() {
            flow.pass_unwanted(open, kernel, position, time, out);
            let seen = flow.seen[kernel];
            if seen < position {
                // What else is missing was lost.
                let at = flow.offset(kernel, seen);
                let dir = open.direction(kernel);
                out.to.lost(open.id, dir, at, position - seen, time);
            }
        }
        out.to.close(open.id, how, time);
    }
}
