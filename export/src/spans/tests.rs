//! Spans, rule by rule.

use std::collections::BTreeMap;

use wirespan_engine::api::{Attr, Outcome, TraceContext, keys};
use wirespan_engine::{Address, Exchange, Nanos, Process, UnixName};

use super::*;
use crate::fixture::{b3, w3c, with_exchange_of};
use crate::owner::Ends;
use crate::semconv::Routes;

/// A span as text to compare with.
#[derive(Debug)]
struct Shown {
    name: String,
    kind: Kind,
    error: bool,
    ids: Ids,
    attributes: BTreeMap<&'static str, String>,
}

fn observe(spans: &mut Spans, exchange: &Exchange<'_>) -> Option<Shown> {
    let routes = Routes::default();
    let mut scratch = String::new();
    let facts = Facts::of(exchange, &routes, &mut scratch);
    let place = spans.place(exchange, &facts);
    let span = spans
        .make(exchange, &facts, &Ends::default(), place)
        .at_once()?;
    let attributes = span.attributes().map(|(key, value)| match value {
        Value::Str(text) => (key, text.to_owned()),
        Value::Int(number) => (key, number.to_string()),
        _ => panic!("of another kind"),
    });
    Some(Shown {
        name: span.name().to_owned(),
        kind: span.kind,
        error: span.error,
        ids: span.ids,
        attributes: attributes.collect(),
    })
}

fn shown(
    protocol: &'static str,
    attrs: &'static [Attr<'static>],
    change: impl FnOnce(&mut Exchange<'_>),
) -> Shown {
    let mut found = None;
    with_exchange_of(protocol, attrs, |mut exchange| {
        change(&mut exchange);
        found = observe(&mut Spans::new(Options::default()), &exchange);
    });
    found.expect("a span")
}

const REQUEST: &[Attr<'static>] = &[
    keys::HTTP_REQUEST_METHOD.of("GET"),
    keys::URL_PATH.of("/users/7"),
    keys::URL_QUERY.of("sig=REDACTED"),
    keys::SERVER_ADDRESS.of("shop"),
    keys::HTTP_RESPONSE_STATUS_CODE.of(200),
];

#[test]
fn an_http_server_is_named_by_method_and_route_and_has_its_peer() {
    let span = shown("http", REQUEST, |exchange| exchange.side = Side::Server);
    assert_eq!(
        (span.name.as_str(), span.kind),
        ("GET /users/{id}", Kind::Server)
    );
    let has = |key| span.attributes.get(key).map(String::as_str);
    assert_eq!(has("url.path"), Some("/users/7"));
    assert_eq!(has("url.scheme"), Some("http"));
    assert_eq!(has("client.address"), Some("10.0.0.1"));
    assert_eq!(has("network.peer.address"), Some("10.0.0.1"));
    assert_eq!(has("network.peer.port"), Some("40000"));
    assert_eq!(has("wirespan.route.source"), Some("heuristic"));
    assert_eq!(has("url.full"), None);
}

#[test]
fn an_http_client_is_named_by_method_alone_and_has_the_whole_url() {
    let span = shown("http", REQUEST, |exchange| exchange.side = Side::Client);
    assert_eq!((span.name.as_str(), span.kind), ("GET", Kind::Client));
    let has = |key| span.attributes.get(key).map(String::as_str);
    assert_eq!(has("url.full"), Some("http://shop/users/7?sig=REDACTED"));
    assert_eq!(has("url.path"), None);
    assert_eq!(has("server.address"), Some("shop"));
    assert_eq!(has("server.port"), Some("80"));
    assert_eq!(has("http.route"), None);
}

#[test]
fn names_are_those_of_the_conventions() {
    const OTHER: &[Attr<'static>] = &[keys::HTTP_REQUEST_METHOD.of("_OTHER")];
    const CALL: &[Attr<'static>] = &[keys::RPC_METHOD.of("shop.Cart/Add")];
    const QUERY: &[Attr<'static>] = &[
        keys::DB_SYSTEM_NAME.of("mysql"),
        keys::DB_NAMESPACE.of("shop"),
        keys::DB_QUERY_SUMMARY.of("SELECT songs"),
    ];
    const PING: &[Attr<'static>] = &[keys::DB_SYSTEM_NAME.of("mysql")];
    const HSET: &[Attr<'static>] = &[
        keys::DB_SYSTEM_NAME.of("redis"),
        keys::DB_NAMESPACE.of("3"),
        keys::DB_OPERATION_NAME.of("HSET"),
    ];
    for (protocol, attrs, name) in [
        ("http", OTHER, "HTTP"),
        ("grpc", CALL, "shop.Cart/Add"),
        ("grpc", &[], "grpc"),
        ("mysql", QUERY, "SELECT songs"),
        ("mysql", PING, "mysql"),
        ("redis", HSET, "HSET"),
        ("kafka", &[], "kafka"),
    ] {
        assert_eq!(shown(protocol, attrs, |_| {}).name, name);
    }
}

/// As a client names it in the handshake, where its protocol has no word for it.
#[test]
fn the_host_of_a_tls_handshake_is_the_server_unless_the_request_names_one() {
    const QUERY: &[Attr<'static>] = &[
        keys::WIRESPAN_TLS_SERVER_NAME.of("db.example"),
        keys::DB_SYSTEM_NAME.of("postgresql"),
    ];
    let span = shown("postgresql", QUERY, |exchange| exchange.side = Side::Client);
    assert_eq!(span.attributes["server.address"], "db.example");
    const CALL: &[Attr<'static>] = &[keys::WIRESPAN_TLS_SERVER_NAME.of("rpc.example")];
    let span = shown("grpc", CALL, |exchange| exchange.side = Side::Client);
    assert_eq!(span.attributes["server.address"], "rpc.example");
    let span = shown("grpc", CALL, |exchange| exchange.side = Side::Server);
    assert_eq!(span.attributes.get("server.address"), None);
    const FRONTED: &[Attr<'static>] = &[
        keys::WIRESPAN_TLS_SERVER_NAME.of("front.example"),
        keys::HTTP_REQUEST_METHOD.of("GET"),
        keys::SERVER_ADDRESS.of("shop"),
    ];
    let span = shown("http", FRONTED, |exchange| exchange.side = Side::Client);
    assert_eq!(span.attributes["server.address"], "shop");
    assert_eq!(span.attributes["wirespan.tls.server_name"], "front.example");
}

#[test]
fn a_unix_socket_has_a_name_and_no_port() {
    let unix = |name: &[u8]| Address::Unix(UnixName::new(name));
    const REDIS: &[Attr<'static>] = &[keys::DB_SYSTEM_NAME.of("redis")];
    let span = |protocol, attrs, side| {
        shown(protocol, attrs, |exchange| {
            exchange.side = side;
            (exchange.client, exchange.server) = (unix(b""), unix(b"/run/redis.sock"));
        })
    };
    let client = span("redis", REDIS, Side::Client).attributes;
    assert_eq!(client["server.address"], "/run/redis.sock");
    assert_eq!(client["network.peer.address"], "/run/redis.sock");
    assert_eq!(client["network.transport"], "unix");
    let server = span("http", REQUEST, Side::Server).attributes;
    assert_eq!(server["network.transport"], "unix");
    for (span, key) in [
        (&client, "server.port"),
        (&client, "network.peer.port"),
        // The client has no name.
        (&server, "network.peer.address"),
        (&server, "client.address"),
        (&server, "network.peer.port"),
    ] {
        assert_eq!(span.get(key), None, "{key}");
    }
}

#[test]
fn a_call_never_has_the_address_of_a_socket_as_its_server() {
    let span = shown("grpc", &[], |exchange| exchange.side = Side::Client);
    assert_eq!(span.attributes.get("server.address"), None);
    const REDIS: &[Attr<'static>] = &[keys::DB_SYSTEM_NAME.of("redis")];
    let span = shown("redis", REDIS, |exchange| {
        exchange.server = ([10, 0, 0, 2], 6379).into();
    });
    assert_eq!(span.attributes["server.address"], "10.0.0.2");
    assert_eq!(span.attributes.get("server.port"), None, "the default port");
}

#[test]
fn the_status_is_error_where_there_is_an_error_type() {
    let fails = |exchange: &mut Exchange<'_>| {
        (exchange.outcome, exchange.duration) = (Some(Outcome::Error), None);
    };
    let span = shown("http", REQUEST, fails);
    assert!(span.error);
    assert_eq!(
        span.attributes["error.type"], "200",
        "by its status, whatever that is"
    );
    let ok = shown("http", REQUEST, |_| {});
    assert!(!ok.error && !ok.attributes.contains_key("error.type"));
}

/// The ids that a side gives to a request with this context.
fn ids(options: Options, side: Side, protocol: &'static str, context: TraceContext<'_>) -> Ids {
    let mut found = None;
    with_exchange_of(protocol, &[], |exchange| {
        let exchange = Exchange {
            side,
            trace: Some(context),
            ..exchange
        };
        found = observe(&mut Spans::new(options), &exchange);
    });
    found.expect("a span").ids
}

#[test]
fn the_servers_span_is_a_child_of_the_clients() {
    let options = Options::default();
    let client = ids(options, Side::Client, "http", w3c());
    let server = ids(options, Side::Server, "http", w3c());
    assert_eq!(client.span_id, w3c().span_id);
    assert_eq!(
        client.parent_span_id, None,
        "what it is a child of was not sent"
    );
    assert_eq!(server.parent_span_id, Some(client.span_id));
    assert_eq!(
        (client.trace_id, server.trace_id),
        (w3c().trace_id, w3c().trace_id)
    );
    assert_eq!(client.flags, 1);
}

#[test]
fn a_client_with_an_id_of_its_own_stands_beside_the_server() {
    let options = Options {
        adopt_sent_ids: false,
        ..Options::default()
    };
    let client = ids(options, Side::Client, "grpc", w3c());
    let server = ids(options, Side::Server, "grpc", w3c());
    assert_eq!(client.parent_span_id, Some(w3c().span_id));
    assert_eq!(server.parent_span_id, Some(w3c().span_id));
    assert_ne!(client.span_id, server.span_id);
}

#[test]
fn both_ends_of_a_statement_are_children_of_the_span_that_it_names() {
    let options = Options::default();
    let client = ids(options, Side::Client, "mysql", w3c());
    let server = ids(options, Side::Server, "mysql", w3c());
    for end in [client, server] {
        assert_eq!(end.parent_span_id, Some(w3c().span_id));
    }
    assert_ne!(client.span_id, server.span_id);
}

#[test]
fn b3_has_both_ends_share_a_span() {
    for side in [Side::Client, Side::Server, Side::Wire] {
        let ids = ids(Options::default(), side, "http", b3());
        assert_eq!(ids.span_id, b3().span_id);
        assert_eq!(ids.parent_span_id, b3().parent_span_id);
    }
}

#[test]
fn both_ends_of_a_connection_meet_in_one_trace_without_any_header() {
    with_exchange_of("http", REQUEST, |mut exchange| {
        let mut spans = Spans::new(Options::default());
        let start = exchange.start;
        exchange.client = ([10, 0, 0, 2], 40_000).into();
        let mut end = |side, offset, start| {
            (exchange.side, exchange.flow_offset, exchange.start) = (side, offset, start);
            let facts = Facts::outline(&exchange);
            spans.place(&exchange, &facts).ids
        };
        // The server is done first, and its request arrives a little later than it was sent.
        let server = end(Side::Server, 0, Nanos(start.0 + 20_000));
        let client = end(Side::Client, 0, start);
        assert_eq!(server.trace_id, client.trace_id);
        assert_eq!(server.parent_span_id, Some(client.span_id));
        let second = end(Side::Client, 70, start);
        let later = end(Side::Server, 70, Nanos(start.0 + 20_000));
        assert_eq!(later.trace_id, second.trace_id);
        assert_eq!(later.parent_span_id, Some(second.span_id));
        assert_ne!(second.trace_id, client.trace_id);
        // A port that is used again much later is another connection.
        let other = end(Side::Server, 140, Nanos(start.0));
        let stale = end(Side::Client, 140, Nanos(start.0 + 5_000_000_000));
        assert_ne!(other.trace_id, stale.trace_id);
    });
}

#[test]
fn who_exports_spans_itself_gets_no_second_ones() {
    const EXPORT: &[Attr<'static>] = &[
        keys::HTTP_REQUEST_METHOD.of("POST"),
        keys::URL_PATH.of("/v1/traces"),
        keys::HTTP_RESPONSE_STATUS_CODE.of(200),
    ];
    for (suppress, expected) in [(true, [true, false, true]), (false, [true; 3])] {
        let mut spans = Spans::new(Options {
            suppress_instrumented: suppress,
            ..Options::default()
        });
        let mut seen = Vec::new();
        let mut of = |attrs, pid, side| {
            with_exchange_of("http", attrs, |mut exchange| {
                exchange.process = Some(Process::new(pid, b"app"));
                exchange.side = side;
                seen.push(observe(&mut spans, &exchange).is_some());
            });
        };
        of(REQUEST, 1, Side::Server);
        of(EXPORT, 1, Side::Client);
        of(REQUEST, 1, Side::Server);
        of(REQUEST, 2, Side::Server);
        seen.remove(1);
        assert_eq!(seen, expected);
    }
}

#[test]
fn failures_are_kept_whatever_the_rate() {
    let mut spans = Spans::new(Options {
        tail: Tail {
            rate: 0.0,
            slowest: false,
        },
        ..Options::default()
    });
    with_exchange_of("http", REQUEST, |mut exchange| {
        assert!(observe(&mut spans, &exchange).is_none());
        exchange.outcome = Some(Outcome::Error);
        assert!(observe(&mut spans, &exchange).is_some());
    });
    let expected = Counts {
        made: 1,
        unsampled: 1,
        ..Counts::default()
    };
    assert_eq!(spans.counts(), expected);
}

#[test]
fn the_callers_decision_not_to_sample_is_honoured() {
    with_exchange_of("http", REQUEST, |mut exchange| {
        exchange.trace = Some(TraceContext {
            sampled: Some(false),
            flags: 0,
            ..w3c()
        });
        assert!(observe(&mut Spans::new(Options::default()), &exchange).is_none());
    });
}
