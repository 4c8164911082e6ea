//! The series that were recorded in last, by connection: what a connection carries is mostly what it
//! carried before, and a series that is known need not be looked up.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use wirespan_engine::{Address, Exchange, Side};

use super::series::{Series, Slot};
use crate::semconv::Facts;

/// Connections that are remembered; those that share a place take turns.
const PLACES: usize = 256;

/// Series by connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent(Vec<Place>);

/// The latest series of a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) own: Own,
    pub(super) edge: Edge,
}

/// An exchange's own series, by its key.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    key: Vec<u8>,
    slot: Option<Arc<Slot>>,
}

/// A series of the service map, by what its key is made of. Those of Unix sockets are not remembered.
#[derive(Clone, Debug, Default)]
pub(super) struct Edge(Option<Ends>);

#[derive(Clone, Debug)]
struct Ends {
    client: IpAddr,
    server: SocketAddr,
    side: Side,
    protocol: &'static str,
    service: Box<str>,
    instance: Box<str>,
    /// Empty where there is none.
    peer: Box<str>,
    /// The same.
    error: Box<str>,
    slot: Arc<Slot>,
}

impl Recent {
    /// The place of a connection.
    pub(super) fn of(&mut self, connection: u64) -> &mut Place {
        if self.0.is_empty() {
            self.0.resize_with(PLACES, Place::default);
        }
        &mut self.0[connection as usize % PLACES]
    }
}

impl Own {
    /// Calls `change` on the series, if it is the one of `key`; whether it was.
    pub(super) fn is_at(&self, key: &[u8], change: impl FnOnce(&mut Series)) -> bool {
        let known = self.slot.as_ref().filter(|_| *self.key == *key);
        known.is_some_and(|slot| slot.with(change).is_some())
    }

    /// Remembers the series of `key`; one that has none of its own is not worth it.
    pub(super) fn put(&mut self, key: &[u8], slot: Option<Arc<Slot>>) {
        self.key.clear();
        self.key.extend_from_slice(key);
        self.slot = slot;
    }

    pub(super) fn slot(&self) -> Option<Arc<Slot>> {
        self.slot.clone()
    }
}

impl Edge {
    /// Calls `change` on the series, if it is the one of `exchange`; whether it was.
    pub(super) fn is_between(
        &self,
        exchange: &Exchange<'_>,
        facts: &Facts<'_>,
        change: impl FnOnce(&mut Series),
    ) -> bool {
        let known = self.0.as_ref().filter(|ends| ends.are(exchange, facts));
        known.is_some_and(|ends| ends.slot.with(change).is_some())
    }

    pub(super) fn put(&mut self, exchange: &Exchange<'_>, facts: &Facts<'_>, slot: Arc<Slot>) {
        let (Address::Inet(client), Address::Inet(server)) = (exchange.client, exchange.server)
        else {
            self.0 = None;
            return;
        };
        self.0 = Some(Ends {
            client: client.ip(),
            server,
            side: exchange.side,
            protocol: exchange.protocol.0,
            service: facts.service.into(),
            instance: facts.instance.into(),
            peer: facts.peer.unwrap_or_default().into(),
            error: facts.error_type.unwrap_or_default().into(),
            slot,
        });
    }
}

impl Ends {
    fn are(&self, exchange: &Exchange<'_>, facts: &Facts<'_>) -> bool {
        let (Address::Inet(client), Address::Inet(server)) = (&exchange.client, &exchange.server)
        else {
            return false;
        };
        self.side == exchange.side
            && self.server == *server
            && self.client == client.ip()
            && is_same(&self.service, facts.service)
            && is_same(&self.instance, facts.instance)
            && is_same(&self.peer, facts.peer.unwrap_or_default())
            && is_same(&self.error, facts.error_type.unwrap_or_default())
            && is_same(self.protocol, exchange.protocol.0)
    }
}

/// Equality, without looking at what is empty: it lies at no address, and processors that load
/// vectors by mask take a hundred nanoseconds to find that out.
fn is_same(a: &str, b: &str) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}
