//! The page that Prometheus scrapes.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use wirespan_export::metrics::edges;
use wirespan_export::prometheus::{self, Format};

use crate::config::Error;
use crate::exporter::Source;
use crate::native;

/// Connections that are served at once.
const MAX_CONNECTIONS: usize = 32;
/// How long a client may take for its request's head, and a connection in all.
const HEAD_WAIT: Duration = Duration::from_secs(10);
const CONNECTION_LIFE: Duration = Duration::from_secs(600);

/// A listening socket for `/metrics`, `/edges` and `/healthz`.
#[derive(Debug)]
pub struct Scrape {
    listener: TcpListener,
    address: SocketAddr,
}

impl Scrape {
    /// Listens at `address`; port 0 is any that is free.
    ///
    /// # Errors
    ///
    /// Why it cannot listen there.
    pub fn bind(address: SocketAddr) -> Result<Self, Error> {
        let failed = |error| Error::new(format!("cannot listen at {address}: {error}"));
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is time to stop.
    pub(crate) async fn serve(
        self,
        source: Arc<dyn Source>,
        mut stopping: watch::Receiver<Option<Instant>>,
    ) {
        let Ok(listener) = tokio::net::TcpListener::from_std(self.listener) else {
            return;
        };
        let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopping.wait_for(Option::is_some) => return,
            };
            let Ok((stream, _)) = accepted else {
                // Out of descriptors, most likely: not to be tried again at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
                return;
            };
            let source = Arc::clone(&source);
            tokio::spawn(async move {
                // A client that breaks off is its own affair.
                let _ = tokio::time::timeout(CONNECTION_LIFE, connection(stream, source)).await;
                drop(permit);
            });
        }
    }
}

async fn connection(stream: TcpStream, source: Arc<dyn Source>) -> hyper::Result<()> {
    let answer = |request: Request<Incoming>| {
        let response = answer(&request, &*source);
        async { Ok::<_, Infallible>(response) }
    };
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await
}

pub(crate) fn answer(request: &Request<Incoming>, source: &dyn Source) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "");
        let allowed = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    match request.uri().path() {
        "/metrics" => {
            let accept = request.headers().get(ACCEPT);
            let accept = accept.and_then(|value| value.to_str().ok());
            metrics(accept.unwrap_or_default(), source)
        }
        "/edges" => page(StatusCode::OK, "application/json", map(source)),
        "/healthz" => page(StatusCode::OK, "text/plain", "ok\n"),
        _ => page(
            StatusCode::NOT_FOUND,
            "text/plain",
            "/metrics, /edges, /healthz\n",
        ),
    }
}

fn metrics(accept: &str, source: &dyn Source) -> Response<Full<Bytes>> {
    let collection = source.collect();
    let (snapshot, readings) = (&collection.snapshot, &collection.readings);
    if native::is_asked_for(accept) {
        let body = native::encode(snapshot, readings);
        return page(StatusCode::OK, native::CONTENT_TYPE, body);
    }
    let format = match accept.contains("application/openmetrics-text") {
        true => Format::OpenMetrics,
        false => Format::Text,
    };
    let mut text = String::new();
    prometheus::write(&mut text, snapshot, readings, format);
    page(StatusCode::OK, format.content_type(), text)
}

/// The service map as JSON: an array of edges.
fn map(source: &dyn Source) -> String {
    let edges = edges(&source.collect().snapshot).into_iter().map(|edge| {
        json!({
            "client": edge.client,
            "server": edge.server,
            "protocol": edge.protocol,
            "side": edge.side,
            "count": edge.count,
            "errors": edge.errors,
            "duration_sum_seconds": edge.durations.sum(),
            "duration_count": edge.durations.count(),
        })
    });
    format!("{}\n", serde_json::Value::from_iter(edges))
}

fn page(
    status: StatusCode,
    content: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content = HeaderValue::from_static(content);
    response.headers_mut().insert(CONTENT_TYPE, content);
    response
}
