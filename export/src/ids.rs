//! Which trace and span an exchange is.
//!
//! Ids are derived, never drawn: the same flow read twice gives the same ids, whatever the number
//! of threads and the time of day.

use std::net::IpAddr;

use wirespan_engine::api::{Propagation, TraceContext};
use wirespan_engine::{Address, Exchange};

/// The ids of one exchange, as observed from the server's side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SpanIds {
    /// The trace that the request named.
    pub trace_id: [u8; 16],
    /// The exchange itself. Never all zero.
    pub span_id: [u8; 8],
    /// The span that caused it, if the request named one.
    pub parent_span_id: Option<[u8; 8]>,
}

impl SpanIds {
    /// The ids of `exchange`; `None` where the request carried no trace context.
    ///
    /// W3C names the caller's span, so the exchange is a child of it with an id of its own, made of
    /// the flow, the request's offset in it and the caller's ids. B3 has client and server share
    /// one span: the exchange *is* the span on the wire.
    #[must_use]
    pub fn of(exchange: &Exchange<'_>) -> Option<Self> {
        let context = exchange.trace.as_ref()?;
        Some(match context.propagation {
            Propagation::B3 => Self {
                trace_id: context.trace_id,
                span_id: context.span_id,
                parent_span_id: context.parent_span_id,
            },
            // W3C, and what names the caller's span as it does.
            _ => Self {
                trace_id: context.trace_id,
                span_id: derive(exchange.client, exchange.server, exchange.offset, context),
                parent_span_id: Some(context.span_id),
            },
        })
    }
}

fn derive(client: Address, server: Address, offset: u64, context: &TraceContext<'_>) -> [u8; 8] {
    let mut hash = flow(client, server, offset);
    hash = absorb(hash, u128::from_be_bytes(context.trace_id));
    hash = mix(hash ^ u64::from_be_bytes(context.span_id));
    // W3C Trace Context §3.2.2.4: an id of zeros is invalid.
    hash.max(1).to_be_bytes()
}

/// A word, never zero, made of a place in a flow and of what tells it from others at that place.
pub(crate) fn flow_word(client: Address, server: Address, offset: u64, salt: u64) -> u64 {
    mix(flow(client, server, offset) ^ salt).max(1)
}

/// A word that depends on every bit of `wide`.
pub(crate) fn spread(wide: u128) -> u64 {
    absorb(0, wide)
}

/// Behind the name of a Unix socket: no port.
const UNIX: u64 = 1 << 16;

fn flow(client: Address, server: Address, offset: u64) -> u64 {
    let mut hash = mix(offset);
    for address in [client, server] {
        hash = match address {
            Address::Inet(socket) => {
                let ip = match socket.ip() {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                mix(absorb(hash, u128::from(ip)) ^ u64::from(socket.port()))
            }
            Address::Unix(name) => {
                let bytes = name.as_bytes().iter();
                let named = bytes.fold(hash, |hash, byte| mix(hash ^ u64::from(*byte)));
                mix(named ^ UNIX)
            }
        };
    }
    hash
}

fn absorb(hash: u64, wide: u128) -> u64 {
    mix(mix(hash ^ (wide >> 64) as u64) ^ wide as u64)
}

/// A bijection that spreads every input bit over all output bits (the finaliser of splitmix64).
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::fixture::{b3, w3c, with_exchange};

    #[test]
    fn without_a_context_there_are_no_ids() {
        with_exchange(|exchange| assert_eq!(SpanIds::of(&exchange), None));
    }

    #[test]
    fn w3c_makes_a_child_of_the_callers_span() {
        with_exchange(|mut exchange| {
            exchange.trace = Some(w3c());
            let ids = SpanIds::of(&exchange).expect("ids");
            assert_eq!(ids.trace_id, w3c().trace_id);
            assert_eq!(ids.parent_span_id, Some(w3c().span_id));
            assert_ne!(ids.span_id, w3c().span_id);
        });
    }

    #[test]
    fn b3_is_the_span_on_the_wire() {
        with_exchange(|mut exchange| {
            exchange.trace = Some(b3());
            let ids = SpanIds::of(&exchange).expect("ids");
            assert_eq!(ids.span_id, b3().span_id);
            assert_eq!(ids.parent_span_id, b3().parent_span_id);
        });
    }

    #[test]
    fn the_same_context_sent_often_on_one_connection_gives_a_span_each() {
        with_exchange(|mut exchange| {
            exchange.trace = Some(w3c());
            let mut seen = HashSet::new();
            for offset in 0..10_000 {
                exchange.offset = offset * 64;
                assert!(seen.insert(SpanIds::of(&exchange).expect("ids").span_id));
            }
        });
    }

    #[test]
    fn the_two_peers_of_a_flow_are_not_interchangeable() {
        with_exchange(|mut exchange| {
            exchange.trace = Some(w3c());
            let there = SpanIds::of(&exchange);
            std::mem::swap(&mut exchange.client, &mut exchange.server);
            assert_ne!(there, SpanIds::of(&exchange));
        });
    }
}
