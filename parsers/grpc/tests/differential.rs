//! Against the `h2` crate: what its client and its server say to each other, we read the same.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::task::LocalSet;
use wirespan_grpc::Http2;
use wirespan_testkit::{Fixture, Run, Seen};

/// Streams of one connection.
const STREAMS: u32 = 120;

/// What passes between the peers, written down in order.
#[derive(Clone, Default)]
struct Recording(Rc<RefCell<Fixture>>);

impl Recording {
    fn note(&self, add: impl FnOnce(Fixture) -> Fixture) {
        let fixture = self.0.take();
        self.0.replace(add(fixture));
    }

    /// Passes everything on between two peers.
    fn between(&self, client: DuplexStream, server: DuplexStream) {
        let (client_read, client_write) = split(client);
        let (server_read, server_write) = split(server);
        let to_server = self.clone();
        tokio::task::spawn_local(pass_on(client_read, server_write, move |bytes| {
            to_server.note(|fixture| fixture.client(bytes));
        }));
        let to_client = self.clone();
        tokio::task::spawn_local(pass_on(server_read, client_write, move |bytes| {
            to_client.note(|fixture| fixture.server(bytes));
        }));
    }
}

async fn pass_on(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut note: impl FnMut(&[u8]),
) {
    let mut buffer = [0; 1_400];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        note(&buffer[..n]);
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn headers(&mut self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for _ in 0..self.throw(6) {
            let name = format!("x-{}", self.throw(40));
            let len = self.throw(60);
            let value: String = (0..len)
                .map(|_| char::from(33 + self.throw(94) as u8))
                .collect();
            headers.insert(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(&value).unwrap(),
            );
        }
        headers
    }
}

/// What one request asks for, and what the server makes of it: both sides derive it from the path.
struct Plan {
    stream: u32,
    grpc: bool,
    upload: usize,
    download: usize,
    status: u16,
    grpc_status: u32,
}

impl Plan {
    fn new(stream: u32) -> Self {
        let mut dice = Dice(u64::from(stream) * 977);
        let statuses = [200, 204, 301, 404, 418, 500, 503];
        Self {
            stream,
            grpc: dice.throw(2) == 0,
            upload: dice.throw(3) as usize * dice.throw(3_000) as usize,
            download: dice.throw(3) as usize * dice.throw(30_000) as usize,
            status: statuses[dice.throw(7) as usize],
            grpc_status: dice.throw(17) as u32,
        }
    }

    fn path(&self) -> String {
        format!("/pkg.Service{}/Method{}", self.stream % 7, self.stream)
    }

    fn line(&self) -> String {
        if self.grpc {
            format!("grpc {} {}", &self.path()[1..], self.grpc_status)
        } else {
            format!("http POST {} {}", self.path(), self.status)
        }
    }

    fn body(&self, len: usize) -> Bytes {
        let mut body = Vec::new();
        if self.grpc {
            body.push(0);
            body.extend((len as u32).to_be_bytes());
        }
        body.resize(body.len() + len, b'x');
        body.into()
    }
}

async fn serve(io: DuplexStream) {
    let mut connection = h2::server::Builder::new()
        .max_concurrent_streams(30)
        .header_table_size(2_000)
        .handshake::<_, Bytes>(io)
        .await
        .unwrap();
    while let Some(accepted) = connection.accept().await {
        let (request, mut respond) = accepted.unwrap();
        tokio::task::spawn_local(async move {
            let (parts, mut body) = request.into_parts();
            let path = parts.uri.path();
            let stream = path.rsplit_once("Method").unwrap().1.parse().unwrap();
            let plan = Plan::new(stream);
            while let Some(data) = body.data().await {
                let n = data.unwrap().len();
                body.flow_control().release_capacity(n).unwrap();
            }
            let mut response = Response::new(());
            *response.headers_mut() = Dice(u64::from(stream)).headers();
            if !plan.grpc {
                *response.status_mut() = plan.status.try_into().unwrap();
                let mut send = respond.send_response(response, false).unwrap();
                send.send_data(plan.body(plan.download), true).unwrap();
                return;
            }
            let grpc = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert("content-type", grpc);
            let mut send = respond.send_response(response, false).unwrap();
            send.send_data(plan.body(plan.download), false).unwrap();
            let mut trailers = Dice(u64::from(stream) + 1).headers();
            trailers.insert("grpc-status", plan.grpc_status.into());
            send.send_trailers(trailers).unwrap();
        });
    }
}

async fn ask(io: DuplexStream) {
    let (mut client, connection) = h2::client::Builder::new()
        .header_table_size(10_000)
        .initial_max_send_streams(20)
        .handshake::<_, Bytes>(io)
        .await
        .unwrap();
    tokio::task::spawn_local(async move { connection.await.unwrap() });
    let mut asked = Vec::new();
    for stream in 0..STREAMS {
        let plan = Plan::new(stream);
        client = client.ready().await.unwrap();
        let mut request = Request::new(());
        *request.uri_mut() = format!("http://example.com{}", plan.path())
            .parse()
            .unwrap();
        *request.method_mut() = Method::POST;
        *request.headers_mut() = Dice(u64::from(stream) + 2).headers();
        let kind = if plan.grpc {
            "application/grpc"
        } else {
            "application/json"
        };
        let kind = HeaderValue::from_static(kind);
        request.headers_mut().insert("content-type", kind);
        let (response, mut send) = client.send_request(request, false).unwrap();
        send.send_data(plan.body(plan.upload), true).unwrap();
        asked.push(tokio::task::spawn_local(async move {
            let mut body = response.await.unwrap().into_body();
            while let Some(data) = body.data().await {
                let n = data.unwrap().len();
                body.flow_control().release_capacity(n).unwrap();
            }
            body.trailers().await.unwrap();
        }));
    }
    for asked in asked {
        asked.await.unwrap();
    }
}

fn conversation() -> Fixture {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let recording = Recording::default();
    LocalSet::new().block_on(&runtime, async {
        let (client, client_peer) = duplex(4_096);
        let (server, server_peer) = duplex(4_096);
        recording.between(client_peer, server_peer);
        tokio::task::spawn_local(serve(server));
        ask(client).await;
    });
    recording.0.take()
}

fn line(seen: &Seen) -> String {
    let parts = [seen.protocol, &seen.operation, &seen.target, &seen.status];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

#[test]
fn everything_is_read_as_h2_meant_it() {
    let run = Run::of(Http2, &conversation());
    assert!(run.stats.errors.is_empty(), "{:?}", run.stats.errors);
    let mut expected: Vec<String> = (0..STREAMS)
        .map(|stream| Plan::new(stream).line())
        .collect();
    let mut read: Vec<String> = run.seen.iter().map(line).collect();
    expected.sort();
    read.sort();
    assert_eq!(read, expected);
    for seen in &run.seen {
        assert!(
            seen.flags.is_empty() && seen.duration.is_some(),
            "{seen:#?}"
        );
        let plan = plan(seen).unwrap();
        assert!(
            seen.request_bytes >= plan.upload as u64 && seen.response_bytes >= plan.download as u64
        );
        if plan.grpc {
            let attrs = common::attrs(seen);
            assert!(
                attrs.contains(&"wirespan.grpc.request.messages=1".into()),
                "{attrs:?}"
            );
            assert!(
                attrs.contains(&"wirespan.grpc.response.messages=1".into()),
                "{attrs:?}"
            );
        }
    }
}

#[test]
fn joined_anywhere_nothing_is_wrong() {
    let whole = conversation();
    let (mut known, mut all) = (0, 0);
    for cut in (1..whole.chunks().len()).step_by(9) {
        let mut late = Fixture::new();
        for chunk in &whole.chunks()[cut..] {
            late = late.chunk(chunk.dir, chunk.time, &chunk.bytes);
        }
        for seen in &Run::of_late(Http2, &late).seen {
            all += 1;
            let Some(plan) = plan(seen) else { continue };
            let right = plan.line();
            let mut right = right.split(' ');
            let (protocol, operation) = (right.next().unwrap(), right.next().unwrap());
            let (target, status) = match (right.next().unwrap(), right.next()) {
                (target, Some(status)) => (target, status),
                (status, None) => ("", status),
            };
            let honest = |seen: &str, right: &str| seen.is_empty() || seen == right;
            assert!(
                seen.protocol == protocol
                    && honest(&seen.operation, operation)
                    && honest(&seen.target, target)
                    && honest(&seen.status, status),
                "joined at {cut}: {seen:#?}"
            );
            known += u32::from(line(seen) == plan.line());
        }
    }
    println!("{known} of {all} exchanges wholly known");
    assert!(known * 10 > all * 4, "{known} of {all}");
}

/// The plan of an exchange, by its path.
fn plan(seen: &Seen) -> Option<Plan> {
    let path = if seen.target.is_empty() {
        &seen.operation
    } else {
        &seen.target
    };
    let (_, stream) = path.rsplit_once("Method")?;
    Some(Plan::new(stream.parse().unwrap()))
}
