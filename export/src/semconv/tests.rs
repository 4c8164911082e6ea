//! What an exchange is by the conventions, rule by rule.

use wirespan_engine::api::{Attr, Flags, Outcome, keys};
use wirespan_engine::{Exchange, Side};

use super::*;
use crate::fixture::with_exchange_of;

const HTTP: &[Attr<'static>] = &[
    keys::HTTP_REQUEST_METHOD.of("GET"),
    keys::URL_PATH.of("/users/7"),
];
const GRPC: &[Attr<'static>] = &[keys::RPC_METHOD.of("shop.Cart/Add")];
const POSTGRES: &[Attr<'static>] = &[
    keys::DB_SYSTEM_NAME.of("postgresql"),
    keys::DB_RESPONSE_STATUS_CODE.of("23505"),
];

/// `error.type` of an exchange with this outcome and status, seen from a side.
fn error_of(
    protocol: &'static str,
    attrs: &'static [Attr<'static>],
    side: Side,
    seen: Option<(Outcome, &str)>,
) -> Option<String> {
    let mut error = None;
    with_exchange_of(protocol, attrs, |mut exchange| {
        exchange.side = side;
        exchange.outcome = seen.map(|(outcome, _)| outcome);
        let status = seen.map_or("", |(_, status)| status);
        let exchange = Exchange { status, ..exchange };
        let (routes, mut scratch) = (Routes::default(), String::new());
        let facts = Facts::of(&exchange, &routes, &mut scratch);
        error = facts.error_type.map(str::to_owned);
    });
    error
}

#[test]
fn what_is_the_clients_fault_is_no_error_of_the_server() {
    let fault = Some((Outcome::ClientFault, "404"));
    assert_eq!(error_of("http", HTTP, Side::Server, fault), None);
    assert_eq!(error_of("http", HTTP, Side::Wire, fault), None);
    assert_eq!(
        error_of("http", HTTP, Side::Client, fault).as_deref(),
        Some("404")
    );
    let failure = Some((Outcome::Error, "503"));
    for side in [Side::Server, Side::Wire, Side::Client] {
        assert_eq!(
            error_of("http", HTTP, side, failure).as_deref(),
            Some("503")
        );
    }
}

#[test]
fn success_has_no_error_type() {
    for side in [Side::Server, Side::Wire, Side::Client] {
        let ok = Some((Outcome::Ok, "OK"));
        assert_eq!(error_of("http", HTTP, side, ok), None);
        assert_eq!(error_of("grpc", GRPC, side, ok), None);
        assert_eq!(error_of("postgresql", POSTGRES, side, ok), None);
    }
}

#[test]
fn the_error_type_of_a_database_is_its_code_and_of_a_call_its_status() {
    let seen = |status| Some((Outcome::Error, status));
    let of = |protocol, attrs, status| error_of(protocol, attrs, Side::Client, seen(status));
    assert_eq!(
        of("postgresql", POSTGRES, "23505").as_deref(),
        Some("23505")
    );
    assert_eq!(of("redis", &[], "WRONGTYPE").as_deref(), Some("WRONGTYPE"));
    assert_eq!(of("mysql", &[], "1062").as_deref(), Some("1062"));
    const UNAVAILABLE: &[Attr<'static>] = &[keys::RPC_STATUS_CODE.of("UNAVAILABLE")];
    assert_eq!(
        of("grpc", UNAVAILABLE, "14").as_deref(),
        Some("UNAVAILABLE")
    );
    const RESET: &[Attr<'static>] = &[keys::ERROR_TYPE.of("CANCEL")];
    assert_eq!(
        of("http", RESET, "200").as_deref(),
        Some("CANCEL"),
        "the parser knows better"
    );
    assert_eq!(of("http", HTTP, "").as_deref(), Some("_OTHER"));
}

#[test]
fn a_response_that_we_lost_is_told_from_one_that_never_came() {
    assert_eq!(
        error_of("http", HTTP, Side::Server, None).as_deref(),
        Some("no_response")
    );
    with_exchange_of("http", HTTP, |mut exchange| {
        (exchange.outcome, exchange.flags) = (None, Flags::GAP);
        let (routes, mut scratch) = (Routes::default(), String::new());
        let facts = Facts::of(&exchange, &routes, &mut scratch);
        assert_eq!(facts.error_type, Some("response_not_captured"));
    });
}

#[test]
fn each_side_has_its_instrument_and_databases_only_that_of_their_clients() {
    let instrument = |protocol, side| {
        let mut found = None;
        with_exchange_of(protocol, &[], |mut exchange| {
            exchange.side = side;
            let (routes, mut scratch) = (Routes::default(), String::new());
            let facts = Facts::of(&exchange, &routes, &mut scratch);
            found = Some((facts.instrument, facts.kind));
        });
        found.expect("facts")
    };
    use Instrument as I;
    for (protocol, side, expected) in [
        ("http", Side::Server, (I::HttpServer, Kind::Server)),
        ("http", Side::Wire, (I::HttpServer, Kind::Server)),
        ("http", Side::Client, (I::HttpClient, Kind::Client)),
        ("grpc", Side::Wire, (I::RpcServer, Kind::Server)),
        ("grpc", Side::Client, (I::RpcClient, Kind::Client)),
        ("redis", Side::Wire, (I::DbClient, Kind::Client)),
        ("mysql", Side::Client, (I::DbClient, Kind::Client)),
        ("postgresql", Side::Server, (I::DbServer, Kind::Server)),
        ("kafka", Side::Wire, (I::Other, Kind::Server)),
    ] {
        assert_eq!(instrument(protocol, side), expected, "{protocol} {side:?}");
    }
}

#[test]
fn a_method_that_the_server_does_not_implement_is_not_one_of_its_own() {
    const UNKNOWN: &[Attr<'static>] = &[
        keys::RPC_METHOD.of("made/up"),
        keys::RPC_STATUS_CODE.of("UNIMPLEMENTED"),
    ];
    with_exchange_of("grpc", UNKNOWN, |exchange| {
        let (routes, mut scratch) = (Routes::default(), String::new());
        let facts = Facts::of(&exchange, &routes, &mut scratch);
        assert_eq!(facts.rpc_method, Some("_OTHER"));
        assert_eq!(facts.rpc_method_original, Some("made/up"));
    });
}

#[test]
fn a_route_is_of_the_server_and_of_a_path_that_it_knew() {
    let route = |side, status: i64| {
        let attrs: &'static [Attr<'static>] = match status {
            404 => const { &[HTTP[1], keys::HTTP_RESPONSE_STATUS_CODE.of(404)] },
            _ => const { &[HTTP[1], keys::HTTP_RESPONSE_STATUS_CODE.of(200)] },
        };
        let mut found = None;
        with_exchange_of("http", attrs, |mut exchange| {
            exchange.side = side;
            let (routes, mut scratch) = (Routes::default(), String::new());
            let facts = Facts::of(&exchange, &routes, &mut scratch);
            found = facts.route.map(|(route, _)| route.to_owned());
        });
        found
    };
    assert_eq!(route(Side::Server, 200).as_deref(), Some("/users/{id}"));
    assert_eq!(route(Side::Server, 404), None);
    assert_eq!(route(Side::Client, 200), None);
}
