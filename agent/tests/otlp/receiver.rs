//! A backend of our own: takes OTLP over gRPC or HTTP, checks every message, and misbehaves when it
//! is told to.

use std::convert::Infallible;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Response, Status};

use crate::check;

/// What the backend does with requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Behaviour {
    /// Takes them.
    Take,
    /// Never answers.
    Hang,
    /// Answers with this HTTP status, or the gRPC status that goes with it, and says when to come
    /// back.
    Refuse(u16, Option<u64>),
    /// Closes the connection in the middle of a request.
    BreakOff,
    /// Takes them, but says that it rejected so many spans or points of each.
    TakePart(u64),
}

/// What came in.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) traces: Vec<ExportTraceServiceRequest>,
    pub(crate) metrics: Vec<ExportMetricsServiceRequest>,
    /// Requests, taken or not.
    pub(crate) attempts: u64,
    /// Header values by which requests proved who they are.
    pub(crate) keys: Vec<String>,
    /// Requests that came compressed with gzip.
    pub(crate) compressed: usize,
}

impl Received {
    /// Spans of all requests.
    pub(crate) fn spans(&self) -> usize {
        self.traces.iter().map(check::spans).sum()
    }
}

/// State that all connections share.
#[derive(Clone)]
struct State {
    received: Arc<Mutex<Received>>,
    behaviour: Arc<Mutex<Behaviour>>,
}

/// A running backend. Dropping it closes its port and connections.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    state: State,
    _runtime: Runtime,
}

/// What a backend speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Speaks {
    Grpc,
    Http,
}

impl Receiver {
    pub(crate) fn start(speaks: Speaks) -> Self {
        Self::start_at(speaks, 0)
    }

    /// A backend at a port, which a former one may have had.
    pub(crate) fn start_at(speaks: Speaks, port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let listener = runtime.block_on(listener).expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = State {
            received: Arc::default(),
            behaviour: Arc::new(Mutex::new(Behaviour::Take)),
        };
        match speaks {
            Speaks::Grpc => drop(runtime.spawn(grpc(listener, state.clone()))),
            Speaks::Http => drop(runtime.spawn(http(listener, state.clone()))),
        }
        Self {
            address,
            state,
            _runtime: runtime,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.state.behaviour.lock().expect("no panic") = behaviour;
    }

    pub(crate) fn received<T>(&self, look: impl FnOnce(&mut Received) -> T) -> T {
        look(&mut self.state.received.lock().expect("no message was wrong"))
    }

    /// Waits until something holds, at most 20 seconds.
    pub(crate) fn wait_for(&self, what: &str, holds: impl Fn(&Received) -> bool) {
        for _ in 0..2_000 {
            if self.received(|received| holds(received)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("waited in vain for {what}");
    }
}

impl State {
    fn now(&self) -> Behaviour {
        self.received.lock().expect("no panic").attempts += 1;
        *self.behaviour.lock().expect("no panic")
    }

    fn take_traces(&self, request: ExportTraceServiceRequest) {
        // Checked under the lock: a wrong message poisons it, and with that the test.
        let mut received = self.received.lock().expect("no panic");
        check::trace_request(&request);
        received.traces.push(request);
    }

    fn take_metrics(&self, request: ExportMetricsServiceRequest) {
        let mut received = self.received.lock().expect("no panic");
        check::metrics_request(&request);
        received.metrics.push(request);
    }

    fn compressed(&self, encoding: Option<&str>) {
        let mut received = self.received.lock().expect("no panic");
        match encoding {
            Some("gzip") => received.compressed += 1,
            None | Some("identity") => {}
            Some(other) => panic!("encoding {other}"),
        }
    }

    /// How many are said to be rejected.
    fn rejects(&self) -> Option<i64> {
        match *self.behaviour.lock().expect("no panic") {
            Behaviour::TakePart(n) => Some(n as i64),
            _ => None,
        }
    }

    fn key(&self, key: Option<&str>) {
        let keys = &mut self.received.lock().expect("no panic").keys;
        keys.extend(key.map(str::to_owned));
    }

    /// What gRPC answers; `None` to take the request.
    async fn status<T>(&self, request: &Request<T>) -> Option<Status> {
        let key = request.metadata().get("x-key");
        self.key(key.and_then(|key| key.to_str().ok()));
        let encoding = request.metadata().get("grpc-encoding");
        self.compressed(encoding.and_then(|encoding| encoding.to_str().ok()));
        match self.now() {
            Behaviour::Take | Behaviour::TakePart(_) => None,
            Behaviour::Hang => std::future::pending().await,
            Behaviour::Refuse(429, Some(after)) => Some(come_back(after)),
            Behaviour::Refuse(429 | 503, _) => Some(Status::unavailable("busy")),
            Behaviour::Refuse(..) => Some(Status::invalid_argument("never")),
            Behaviour::BreakOff => Some(Status::data_loss("broken off")),
        }
    }
}

/// Why some were rejected.
const WHY: &str = "too old";

fn spans_rejected(n: Option<i64>) -> ExportTraceServiceResponse {
    let partial = |rejected_spans| ExportTracePartialSuccess {
        rejected_spans,
        error_message: WHY.into(),
    };
    ExportTraceServiceResponse {
        partial_success: n.map(partial),
    }
}

fn points_rejected(n: Option<i64>) -> ExportMetricsServiceResponse {
    let partial = |rejected_data_points| ExportMetricsPartialSuccess {
        rejected_data_points,
        error_message: WHY.into(),
    };
    ExportMetricsServiceResponse {
        partial_success: n.map(partial),
    }
}

/// RESOURCE_EXHAUSTED with `google.rpc.RetryInfo` in `google.rpc.Status`.
fn come_back(after: u64) -> Status {
    let url = b"type.googleapis.com/google.rpc.RetryInfo";
    // retry_delay = 1 { seconds = 1 }
    let info = [0x0a, 2, 0x08, after as u8];
    let mut any = vec![0x0a, url.len() as u8];
    any.extend_from_slice(url);
    any.extend_from_slice(&[0x12, info.len() as u8]);
    any.extend_from_slice(&info);
    // details = 3
    let mut details = vec![0x1a, any.len() as u8];
    details.extend_from_slice(&any);
    Status::with_details(Code::ResourceExhausted, "busy", details.into())
}

const GZIP: CompressionEncoding = CompressionEncoding::Gzip;

async fn grpc(listener: TcpListener, state: State) {
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(state.clone()).accept_compressed(GZIP))
        .add_service(MetricsServiceServer::new(state).accept_compressed(GZIP));
    server.serve_with_incoming(incoming).await.expect("served");
}

#[tonic::async_trait]
impl TraceService for State {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if let Some(status) = self.status(&request).await {
            return Err(status);
        }
        self.take_traces(request.into_inner());
        Ok(Response::new(spans_rejected(self.rejects())))
    }
}

#[tonic::async_trait]
impl MetricsService for State {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        if let Some(status) = self.status(&request).await {
            return Err(status);
        }
        self.take_metrics(request.into_inner());
        Ok(Response::new(points_rejected(self.rejects())))
    }
}

async fn http(listener: TcpListener, state: State) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        tokio::spawn(connection(stream, state.clone()));
    }
}

async fn connection(stream: TcpStream, state: State) {
    if *state.behaviour.lock().expect("no panic") == Behaviour::BreakOff {
        state.now();
        let mut some = [0; 64];
        stream.readable().await.expect("bytes");
        let _ = stream.try_read(&mut some);
        return;
    }
    let answer = |request| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(answer(request, &state).await) }
    };
    let io = TokioIo::new(stream);
    let connection = hyper::server::conn::http1::Builder::new();
    let _ = connection.serve_connection(io, service_fn(answer)).await;
}

async fn answer(request: hyper::Request<Incoming>, state: &State) -> hyper::Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return hyper::Response::default();
    };
    let mut body = body.to_bytes();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    state.key(header("x-key"));
    state.compressed(header("content-encoding"));
    if header("content-encoding").is_some() {
        let mut whole = Vec::new();
        let read = MultiGzDecoder::new(&*body).read_to_end(&mut whole);
        read.expect("gzip");
        body = whole.into();
    }
    let mut response = hyper::Response::new(Full::default());
    match state.now() {
        Behaviour::Take | Behaviour::TakePart(_) => {}
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Refuse(status, after) => {
            *response.status_mut() = status.try_into().expect("a status");
            if let Some(after) = after {
                response.headers_mut().insert("retry-after", after.into());
            }
            return response;
        }
        Behaviour::BreakOff => return response,
    }
    let json = match header("content-type") {
        Some("application/x-protobuf") => false,
        Some("application/json") => true,
        other => panic!("content type {other:?}"),
    };
    match (head.uri.path(), json) {
        ("/v1/traces", false) => state.take_traces(Message::decode(body).expect("protobuf")),
        ("/v1/metrics", false) => state.take_metrics(Message::decode(body).expect("protobuf")),
        ("/v1/traces", true) => state.take_traces(serde_json::from_slice(&body).expect("JSON")),
        ("/v1/metrics", true) => state.take_metrics(serde_json::from_slice(&body).expect("JSON")),
        (path, _) => panic!("no such path: {path}"),
    }
    if let Some(n) = state.rejects() {
        let traces = head.uri.path().ends_with("traces");
        let answer = match (traces, json) {
            (true, false) => spans_rejected(Some(n)).encode_to_vec(),
            (false, false) => points_rejected(Some(n)).encode_to_vec(),
            (true, true) => serde_json::to_vec(&spans_rejected(Some(n))).expect("JSON"),
            (false, true) => serde_json::to_vec(&points_rejected(Some(n))).expect("JSON"),
        };
        *response.body_mut() = Full::new(answer.into());
    }
    response
}
