//! How the agent is asked, and changed, while it runs: HTTP on a Unix socket that only its own user
//! may use, and on TCP where that is wanted.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::config::Error;
use crate::exporter::Source;
use crate::flow::Flow;
use crate::scrape;

/// Connections that are served at once.
const MAX_CONNECTIONS: usize = 32;
/// How long a client may take for its request: head, and body.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a request's body.
const MAX_BODY: usize = 256 << 10;

/// What anybody may ask who reaches the TCP port. All else needs the token there: it changes
/// something, or tells what was observed.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// A request that was let in.
#[derive(Debug)]
pub struct Request {
    /// `GET`, `PUT`, `POST`, and the like.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// What stands behind `?`.
    pub query: String,
    /// The body.
    pub body: Bytes,
    /// Who asks, for the log.
    pub who: String,
}

/// The answer to it.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Media type.
    pub content: &'static str,
    /// The body.
    pub body: Answered,
}

/// The body of an answer.
#[derive(Debug)]
pub enum Answered {
    /// All of it.
    Whole(Bytes),
    /// As it comes about.
    Flowing(Flow),
}

impl Answer {
    /// An answer that is there as a whole.
    #[must_use]
    pub fn new(status: u16, content: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content,
            body: Answered::Whole(body.into()),
        }
    }

    /// A line of text.
    #[must_use]
    pub fn line(status: u16, text: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", format!("{text}\n"))
    }
}

/// Answers requests. `/metrics` and `/edges` are not among them: the metrics' source answers.
pub trait Handler: Send + Sync + fmt::Debug {
    /// The answer. May take a moment: it is called on a thread of its own.
    fn answer(&self, request: Request) -> Answer;
}

/// Where requests come in.
#[derive(Debug)]
pub struct Doors {
    unix: Option<Door>,
    tcp: Option<(TcpListener, SocketAddr)>,
    /// What opens the TCP door.
    token: Option<String>,
}

/// A Unix socket; its file is removed with it.
#[derive(Debug)]
struct Door {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Drop for Door {
    fn drop(&mut self) {
        // Somebody else may have put another one there.
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Door {
    fn open(path: &Path) -> io::Result<Self> {
        match UnixStream::connect(path) {
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another program answers",
                ));
            }
            Err(_) => {
                // What a program left that was killed.
                if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
                    fs::remove_file(path)?;
                }
            }
        }
        let listener = UnixListener::bind(path)?;
        // Who was faster is refused by its user.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            path: path.to_path_buf(),
            inode: fs::symlink_metadata(path)?.ino(),
        })
    }
}

impl Doors {
    /// Listens at a Unix socket, and at a TCP address, where they are given. A socket that a program
    /// left there is replaced; `token` is asked for at the TCP address.
    ///
    /// # Errors
    ///
    /// Why it cannot listen there.
    pub fn open(
        socket: Option<&Path>,
        address: Option<SocketAddr>,
        token: Option<String>,
    ) -> Result<Self, Error> {
        let unix = socket.map(|path| {
            let failed = |e| Error::new(format!("cannot listen at {}: {e}", path.display()));
            Door::open(path).map_err(failed)
        });
        let tcp = address.map(|address| {
            let failed = |error| Error::new(format!("cannot listen at {address}: {error}"));
            let listener = TcpListener::bind(address).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            Ok((listener, address))
        });
        Ok(Self {
            unix: unix.transpose()?,
            tcp: tcp.transpose()?,
            token,
        })
    }

    /// The TCP address.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|(_, address)| *address)
    }
}

/// Doors, and who answers behind them.
#[derive(Debug)]
pub struct Admin {
    /// Where requests come in.
    pub doors: Doors,
    /// Who answers.
    pub handler: Arc<dyn Handler>,
}

/// What a connection needs to know.
#[derive(Clone, Debug)]
struct Behind {
    handler: Arc<dyn Handler>,
    source: Arc<dyn Source>,
    token: Option<Arc<str>>,
}

/// Who is at the other end.
#[derive(Clone, Debug)]
enum Caller {
    /// The agent's own user, or root.
    Own(String),
    /// Another user of this machine.
    Stranger,
    /// Anybody.
    Tcp(SocketAddr),
}

impl Admin {
    /// Answers until it is time to stop.
    pub(crate) async fn serve(
        self,
        source: Arc<dyn Source>,
        stopping: watch::Receiver<Option<Instant>>,
    ) {
        let behind = Behind {
            handler: self.handler,
            source,
            token: self.doors.token.map(Arc::from),
        };
        let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut stop = stopping.clone();
        let unix = unix(self.doors.unix, behind.clone(), Arc::clone(&free));
        let tcp = tcp(self.doors.tcp, behind, free);
        tokio::select! {
            _ = async { tokio::join!(unix, tcp) } => {}
            _ = stop.wait_for(Option::is_some) => {}
        }
    }
}

async fn unix(door: Option<Door>, behind: Behind, free: Arc<Semaphore>) {
    let Some(door) = door else { return };
    let listener = door.listener.try_clone();
    let listener = listener.and_then(tokio::net::UnixListener::from_std);
    let Ok(listener) = listener else { return };
    let own = fs::metadata("/proc/self").map(|own| own.uid()).ok();
    loop {
        let accepted = listener.accept().await;
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely: not to be tried again at once.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let caller = match stream.peer_cred() {
            Ok(peer) if peer.uid() == 0 || Some(peer.uid()) == own => {
                let pid = peer
                    .pid()
                    .map_or(String::new(), |pid| format!(", process {pid}"));
                Caller::Own(format!("user {}{pid}", peer.uid()))
            }
            _ => Caller::Stranger,
        };
        spawn(stream, caller, behind.clone(), &free).await;
    }
}

async fn tcp(door: Option<(TcpListener, SocketAddr)>, behind: Behind, free: Arc<Semaphore>) {
    let Some((listener, _)) = door else { return };
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => spawn(stream, Caller::Tcp(peer), behind.clone(), &free).await,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn spawn<S>(stream: S, caller: Caller, behind: Behind, free: &Arc<Semaphore>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Ok(permit) = Arc::clone(free).acquire_owned().await else {
        return;
    };
    tokio::spawn(async move {
        let answer = |request: hyper::Request<Incoming>| {
            let (caller, behind) = (caller.clone(), behind.clone());
            async move { Ok::<_, Infallible>(answer(request, caller, behind).await) }
        };
        // A client that breaks off is its own affair.
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(stream), service_fn(answer))
            .await;
        drop(permit);
    });
}

async fn answer(
    request: hyper::Request<Incoming>,
    caller: Caller,
    behind: Behind,
) -> Response<Outgoing> {
    let path = request.uri().path().to_owned();
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    if let Some(refused) = refusal(&request, &caller, behind.token.as_deref()) {
        return response(refused);
    }
    if reading && matches!(path.as_str(), "/metrics" | "/edges") {
        return scrape::answer(&request, &*behind.source).map(Outgoing::Whole);
    }
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect();
    let body = match tokio::time::timeout(PATIENCE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return response(Answer::line(413, "the body is too large, or broke off")),
        Err(_) => return response(Answer::line(408, "the body did not come")),
    };
    let request = Request {
        method: head.method.as_str().to_owned(),
        path,
        query: head.uri.query().unwrap_or_default().to_owned(),
        body,
        who: match caller {
            Caller::Own(who) => who,
            Caller::Tcp(peer) => peer.to_string(),
            Caller::Stranger => "a stranger".to_owned(),
        },
    };
    let answered = tokio::task::spawn_blocking(move || behind.handler.answer(request)).await;
    // A panic has told of itself.
    response(answered.unwrap_or_else(|_| Answer::line(500, "the agent has a bug")))
}

/// Why a request is not let in; `None` if it is.
fn refusal(
    request: &hyper::Request<Incoming>,
    caller: &Caller,
    token: Option<&str>,
) -> Option<Answer> {
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    match caller {
        Caller::Own(_) => None,
        Caller::Stranger => Some(Answer::line(
            403,
            "only for the user of the agent, and root",
        )),
        Caller::Tcp(_) if reading && OPEN.contains(&request.uri().path()) => None,
        Caller::Tcp(_) => {
            let Some(token) = token else {
                let why = "only on the Unix socket: there is no token (admin.token_file)";
                return Some(Answer::line(403, why));
            };
            let given = request.headers().get(AUTHORIZATION);
            let given = given.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
            match given.is_some_and(|given| is_same(given.as_bytes(), token.as_bytes())) {
                true => None,
                false => Some(Answer::line(401, "needs authorization: Bearer <the token>")),
            }
        }
    }
}

/// Whether two texts are the same; the time it takes does not tell where they differ.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let differing = a
        .iter()
        .zip(b)
        .fold(0, |differing, (a, b)| differing | (a ^ b));
    a.len() == b.len() && differing == 0
}

fn response(answer: Answer) -> Response<Outgoing> {
    let mut response = Response::new(match answer.body {
        Answered::Whole(body) => Outgoing::Whole(Full::new(body)),
        Answered::Flowing(flow) => Outgoing::Flowing(flow),
    });
    let status = StatusCode::from_u16(answer.status);
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content = HeaderValue::from_static(answer.content);
    response.headers_mut().insert(CONTENT_TYPE, content);
    response
}

/// The body of a response.
enum Outgoing {
    Whole(Full<Bytes>),
    Flowing(Flow),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Flowing(flow) => {
                let part = flow.poll_part(context);
                part.map(|part| part.map(|part| Ok(Frame::data(part))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_same_or_not() {
        assert!(is_same(b"secret", b"secret"));
        for other in [&b"secreT"[..], b"secre", b"secrets", b""] {
            assert!(!is_same(other, b"secret"));
        }
    }

    #[test]
    fn a_socket_that_was_left_is_replaced_and_one_that_is_used_is_not() {
        let path = std::env::temp_dir().join(format!("wirespan-door-{}", std::process::id()));
        let open = || Doors::open(Some(&path), None, None);
        let first = open().expect("it listens");
        let mode = fs::metadata(&path).expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let used = open().expect_err("it is used").to_string();
        assert!(used.contains("another program answers"), "{used}");
        // As after SIGKILL: the file stays, nobody listens.
        let door = first.unix.as_ref().expect("a door");
        let left = UnixListener::bind(path.with_extension("left")).expect("it listens");
        fs::rename(path.with_extension("left"), &path).expect("renamed");
        assert_ne!(fs::symlink_metadata(&path).expect("it").ino(), door.inode);
        drop(left);
        drop(first);
        assert!(path.exists(), "it is not the one that was opened");
        drop(open().expect("nobody listens"));
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let path = std::env::temp_dir().join(format!("wirespan-no-door-{}", std::process::id()));
        fs::write(&path, "precious").expect("written");
        assert!(Doors::open(Some(&path), None, None).is_err());
        assert_eq!(fs::read_to_string(&path).expect("there"), "precious");
        fs::remove_file(&path).expect("removed");
    }
}
