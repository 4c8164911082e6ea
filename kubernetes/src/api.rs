//! Requests to the API server, and what may become of them. No answer is larger than it may be, and
//! none is waited for longer than it may take.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::config::Config;
use crate::object::Refusal;

/// Largest answer: a page of a list.
const MAX_ANSWER: usize = 32 << 20;
/// Largest line of a watch: an object, of which etcd stores 1.5 MiB.
const MAX_LINE: usize = 4 << 20;
/// What is read of a refusal.
const MAX_REFUSAL: usize = 64 << 10;
/// Largest file with a token or certificates.
const MAX_FILE: u64 = 1 << 20;
/// Silence after which the kernel asks whether the other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What became of a request that was not answered as it should be.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What a watch or a list stood at is no longer known (410): everything is to be listed anew.
    Gone,
    /// There is none (404).
    Missing,
    /// Refused, with a status and a reason; to be tried again after that time, if it says so.
    Refused(StatusCode, String, Option<Duration>),
    /// Nobody answers, or stops in the middle.
    Unreachable(String),
    /// It took too long.
    Late,
    /// More than that many bytes.
    TooLarge(usize),
    /// It is not what it should be.
    Malformed(String),
    /// The token or the certificates cannot be read.
    Credentials(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("410: it has forgotten where we were"),
            Self::Missing => f.write_str("404: there is none"),
            Self::Refused(status, why, _) => write!(f, "{}: {why}", status.as_u16()),
            Self::Unreachable(why) => f.write_str(why),
            Self::Late => f.write_str("no answer in time"),
            Self::TooLarge(most) => write!(f, "the answer has more than {most} bytes"),
            Self::Malformed(why) => write!(f, "the answer is malformed: {why}"),
            Self::Credentials(why) => f.write_str(why),
        }
    }
}

impl Failure {
    /// When the server wants to be asked again, if it says so.
    pub(crate) const fn again_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(_, _, after) => *after,
            _ => None,
        }
    }
}

type Http = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// The API server.
pub(crate) struct Api {
    config: Config,
    /// With the certificates that it was made with: they may be others tomorrow.
    client: RefCell<Option<(Vec<u8>, Http)>>,
}

impl Api {
    pub(crate) const fn new(config: Config) -> Self {
        Self {
            config,
            client: RefCell::new(None),
        }
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    /// A whole answer, read as JSON.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        accept: &'static str,
    ) -> Result<T, Failure> {
        let whole = async {
            let answer = self.ask(path, accept).await?;
            collect(answer.into_body(), MAX_ANSWER).await
        };
        let whole = timeout(self.config.pace.patience, whole).await;
        let body = whole.map_err(|_| Failure::Late)??;
        serde_json::from_slice(&body).map_err(|error| Failure::Malformed(error.to_string()))
    }

    /// An answer that goes on, line by line.
    pub(crate) async fn follow(&self, path: &str) -> Result<Lines, Failure> {
        let answer = timeout(self.config.pace.patience, self.ask(path, JSON)).await;
        Ok(Lines {
            body: answer.map_err(|_| Failure::Late)??.into_body(),
            held: BytesMut::new(),
            searched: 0,
        })
    }

    async fn ask(&self, path: &str, accept: &'static str) -> Result<Response<Incoming>, Failure> {
        let client = self.client()?;
        let agent = concat!("wirespan/", env!("CARGO_PKG_VERSION"));
        let mut request = Request::get(format!("{}{path}", self.config.url))
            .header(ACCEPT, accept)
            .header(USER_AGENT, agent);
        // It is another every hour: the kubelet replaces the file.
        if let Some(file) = &self.config.token_file {
            let token = read(file)?;
            let token = String::from_utf8_lossy(&token);
            let bearer = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
            let wrong = |_| Failure::Credentials(format!("{}: it is no token", file.display()));
            let mut bearer = bearer.map_err(wrong)?;
            bearer.set_sensitive(true);
            request = request.header(AUTHORIZATION, bearer);
        }
        let request = request.body(Empty::new());
        let request = request.map_err(|error| Failure::Unreachable(error.to_string()))?;
        let answer = client.request(request).await;
        let answer = answer.map_err(|error| Failure::Unreachable(chain(&error)))?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            StatusCode::GONE => Err(Failure::Gone),
            StatusCode::NOT_FOUND => Err(Failure::Missing),
            _ => Err(refusal(answer).await),
        }
    }

    /// A client that trusts whom the file names now.
    fn client(&self) -> Result<Http, Failure> {
        let with_tls = self.config.url.starts_with("https://");
        let file = self.config.ca_file.as_ref().filter(|_| with_tls);
        let pem = file.map(|file| read(file)).transpose()?.unwrap_or_default();
        let mut client = self.client.borrow_mut();
        if let Some((made_with, client)) = &*client
            && *made_with == pem
        {
            return Ok(client.clone());
        }
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            // Whatever else is in the file is passed over.
            let _ = certificate.map(|certificate| roots.add(certificate));
        }
        if with_tls && roots.is_empty() {
            let name = file.map(|file| file.display().to_string());
            let name = name.unwrap_or_default();
            return Err(Failure::Credentials(format!(
                "{name}: no certificate in it"
            )));
        }
        let made = connect(roots, self.config.pace.patience)?;
        *client = Some((pem, made.clone()));
        Ok(made)
    }
}

/// How objects are asked for.
pub(crate) const JSON: &str = "application/json";
/// How objects are asked for of which only the metadata is wanted.
pub(crate) const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

fn connect(roots: RootCertStore, patience: Duration) -> Result<Http, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.map_err(|error| Failure::Credentials(error.to_string()))?;
    let tls = tls.with_root_certificates(roots).with_no_client_auth();
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(patience));
    http.set_keepalive(Some(KEEPALIVE));
    http.set_keepalive_interval(Some(KEEPALIVE / 3));
    http.set_keepalive_retries(Some(3));
    let https = HttpsConnectorBuilder::new().with_tls_config(tls);
    let https = https.https_or_http().enable_http1().wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new()).build(https))
}

/// What a refusal says, in the words of the server.
async fn refusal(answer: Response<Incoming>) -> Failure {
    let status = answer.status();
    let after = answer.headers().get(RETRY_AFTER);
    let after = after.and_then(|after| after.to_str().ok()?.parse().ok());
    let body = collect(answer.into_body(), MAX_REFUSAL).await;
    let said = body
        .ok()
        .and_then(|body| serde_json::from_slice::<Refusal>(&body).ok());
    let said = said
        .map(|refusal| refusal.message)
        .filter(|said| !said.is_empty());
    let usual = || status.canonical_reason().unwrap_or_default().to_owned();
    let why = said.unwrap_or_else(usual);
    Failure::Refused(status, why, after.map(Duration::from_secs))
}

async fn collect(mut body: Incoming, most: usize) -> Result<Vec<u8>, Failure> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Unreachable(chain(&error)))?;
        let data = frame.into_data().unwrap_or_default();
        if whole.len() + data.len() > most {
            return Err(Failure::TooLarge(most));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

/// The lines of an answer that goes on.
pub(crate) struct Lines {
    body: Incoming,
    held: BytesMut,
    /// How much of what is held has no end of a line.
    searched: usize,
}

impl Lines {
    /// The next line, waited for so long; `None` at the end.
    pub(crate) async fn next(&mut self, patience: Duration) -> Result<Option<Bytes>, Failure> {
        loop {
            let fresh = self.held.get(self.searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let line = self.held.split_to(self.searched + at).freeze();
                self.held.advance(1);
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.held.len();
            if self.searched > MAX_LINE {
                return Err(Failure::TooLarge(MAX_LINE));
            }
            let frame = timeout(patience, self.body.frame()).await;
            match frame.map_err(|_| Failure::Late)? {
                None => return Ok(None),
                Some(Err(error)) => return Err(Failure::Unreachable(chain(&error))),
                Some(Ok(frame)) => {
                    self.held
                        .extend_from_slice(&frame.into_data().unwrap_or_default());
                }
            }
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    read.map_err(|error| Failure::Credentials(format!("{}: {error}", path.display())))?;
    Ok(bytes)
}

/// An error with what caused it: by itself it only says that connecting failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
