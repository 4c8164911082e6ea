//! Connections told to somebody who was not there when they began.

use wirespan_engine::{Layer, Nanos, Opening, Roles, Side, Start};

use super::{Feed, Key, addresses};
use crate::tap::Tap;

impl Feed {
    /// Introduces all open connections to `tap`, as ones that are joined in their middle, each
    /// stream where it has come to.
    pub(crate) fn introduce_to(&self, tap: &mut dyn Tap, time: Nanos) {
        let mut open: Vec<_> = self
            .flows
            .iter()
            .filter(|(_, flow)| flow.open.is_some())
            .collect();
        // In the order in which they were met, whatever the order of the table.
        open.sort_unstable_by_key(|(_, flow)| flow.born);
        for (number, (key, flow)) in (1..).zip(open) {
            let Some(open) = flow.open else { continue };
            let [local, remote] = addresses(&flow.tuple, flow.names.clone());
            let opening = Opening {
                number,
                client: if open.client { local } else { remote },
                server: if open.client { remote } else { local },
                // What the engine has found, or was told.
                roles: Roles::Known,
                start: Start::Middle,
                side: if open.client {
                    Side::Client
                } else {
                    Side::Server
                },
                layer: match key {
                    Key::Socket(_) => Layer::Transport,
                    Key::Session(_) => Layer::Tls,
                },
                process: flow.process,
            };
            tap.open(open.id, &opening, time);
            for kernel in [0, 1] {
                let at = flow.offset(kernel, flow.seen[kernel]);
                tap.anchor(open.id, open.direction(kernel), at, time);
            }
        }
    }
}
