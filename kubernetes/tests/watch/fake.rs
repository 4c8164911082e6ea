//! An API server for tests: pods that are listed and watched, workloads, and all the ways in which it
//! may fail.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;

/// How it answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Behaviour {
    /// As it should.
    #[default]
    Well,
    /// Everything after this time.
    Late(Duration),
    /// With this status; with 503 it wants to be asked after nine seconds.
    Refuse(u16),
    /// Lists and workloads with this text, and lines of watches.
    Say(&'static str),
    /// Lists with more than anybody needs, and watches with a line without end.
    Flood,
    /// Workloads with this status, all else as it should.
    RefuseWorkloads(u16),
}

/// What it knows.
#[derive(Debug, Default)]
pub(crate) struct World {
    version: u64,
    /// The oldest version that a watch may begin at.
    oldest: u64,
    pods: BTreeMap<String, Value>,
    log: Vec<(u64, Value)>,
    /// Lines that were put into watches, whatever happened.
    said: Vec<String>,
    /// ReplicaSets and Jobs, by their paths.
    workloads: HashMap<String, Value>,
    /// The token that it wants.
    pub(crate) token: Option<String>,
    pub(crate) behaviour: Behaviour,
    /// Pods of a page at most, whatever is asked for.
    pub(crate) page: usize,
    /// What was asked for, with the token.
    pub(crate) asked: Vec<String>,
}

/// The server, until it is dropped.
pub(crate) struct Fake {
    world: Arc<Mutex<World>>,
    changed: watch::Sender<u64>,
    address: SocketAddr,
    tls: Option<Accept>,
    runtime: Option<Runtime>,
}

/// What is served: a socket, or TLS on one.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What becomes of a socket; nothing with clients that go away.
pub(crate) type Accepted = Pin<Box<dyn Future<Output = Option<Box<dyn Io>>> + Send>>;

/// Begins TLS on a socket.
pub(crate) type Accept = fn(TcpStream) -> Accepted;

/// What serves a connection.
#[derive(Clone)]
struct Desk {
    world: Arc<Mutex<World>>,
    changed: watch::Receiver<u64>,
}

impl Fake {
    /// In the clear, or over TLS, which tests bring along that want it.
    pub(crate) fn start(tls: Option<Accept>) -> Self {
        let mut fake = Self {
            world: Arc::new(Mutex::new(World {
                version: 1_000,
                oldest: 1_000,
                page: usize::MAX,
                ..World::default()
            })),
            changed: watch::channel(0).0,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls,
            runtime: None,
        };
        fake.begin();
        fake
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Listens, at the same port if it has listened before.
    pub(crate) fn begin(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(bind(self.address));
        self.address = listener.local_addr().expect("an address");
        let desk = Desk {
            world: Arc::clone(&self.world),
            changed: self.changed.subscribe(),
        };
        let tls = self.tls;
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, tls, desk.clone()));
            }
        });
        self.runtime = Some(runtime);
    }

    /// Listens no more, and breaks off all connections.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pod is there, or is another.
    pub(crate) fn put(&self, mut pod: Value) {
        let mut world = self.world();
        world.version += 1;
        let version = world.version;
        pod["metadata"]["resourceVersion"] = version.to_string().into();
        let uid = pod["metadata"]["uid"].as_str().expect("a uid").to_owned();
        let known = world.pods.insert(uid, pod.clone());
        let kind = if known.is_some() { "MODIFIED" } else { "ADDED" };
        world
            .log
            .push((version, json!({"type": kind, "object": pod})));
        drop(world);
        self.tell();
    }

    pub(crate) fn delete(&self, uid: &str) {
        let mut world = self.world();
        world.version += 1;
        let version = world.version;
        let mut pod = world.pods.remove(uid).expect("a pod");
        pod["metadata"]["resourceVersion"] = version.to_string().into();
        world
            .log
            .push((version, json!({"type": "DELETED", "object": pod})));
        drop(world);
        self.tell();
    }

    /// A ReplicaSet (`apps/v1`, `replicasets`) or a Job, and what made it.
    pub(crate) fn workload(
        &self,
        group: &str,
        collection: &str,
        name: &str,
        owner: Option<(&str, &str)>,
    ) {
        let path = format!("/apis/{group}/namespaces/shop/{collection}/{name}");
        let mut object = json!({"metadata": {"uid": format!("uid-of-{name}"), "name": name, "namespace": "shop"}});
        if let Some((kind, owner)) = owner {
            object["metadata"]["ownerReferences"] = json!([reference(group, kind, owner)]);
        }
        self.world().workloads.insert(path, object);
    }

    /// Much has happened to pods of other nodes: the version that watches stand at now.
    pub(crate) fn bookmark(&self) -> u64 {
        let mut world = self.world();
        world.version += 1_000;
        let version = world.version;
        let object = json!({"kind": "Pod", "metadata": {"resourceVersion": version.to_string()}});
        world
            .log
            .push((version, json!({"type": "BOOKMARK", "object": object})));
        drop(world);
        self.tell();
        version
    }

    /// Forgets what was, as etcd does when it compacts.
    pub(crate) fn forget(&self) {
        let mut world = self.world();
        world.oldest = world.version;
        world.log.clear();
    }

    /// Puts a line into the watches that there are.
    pub(crate) fn say(&self, line: Value) {
        self.world().said.push(line.to_string());
        self.tell();
    }

    /// How often something of this kind was asked for.
    pub(crate) fn asked(&self, what: &str) -> usize {
        let world = self.world();
        world
            .asked
            .iter()
            .filter(|asked| asked.contains(what))
            .count()
    }

    fn tell(&self) {
        self.changed.send_modify(|n| *n += 1);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A pod of node `node-1` in the namespace `shop`, with one container `app`.
pub(crate) fn pod(name: &str, address: &str, owner: Option<(&str, &str, &str)>) -> Value {
    let mut pod = json!({
        "kind": "Pod",
        "metadata": {"uid": format!("uid-of-{name}"), "name": name, "namespace": "shop"},
        "spec": {"nodeName": "node-1", "containers": [{"name": "app", "image": "shop/app:1.2"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "containerStatuses": [{"name": "app", "containerID": format!("containerd://container-of-{name}")}]},
    });
    if let Some((group, kind, name)) = owner {
        pod["metadata"]["ownerReferences"] = json!([reference(group, kind, name)]);
    }
    pod
}

fn reference(group: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": group, "kind": kind, "name": name, "uid": format!("uid-of-{name}"), "controller": true})
}

/// Where it listened before, the kernel may still have connections of clients.
async fn bind(address: SocketAddr) -> TcpListener {
    for _ in 0..100 {
        if let Ok(listener) = TcpListener::bind(address).await {
            return listener;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{address} is in use");
}

async fn connection(stream: TcpStream, tls: Option<Accept>, desk: Desk) {
    match tls {
        None => serve(stream, desk).await,
        Some(accept) => {
            if let Some(stream) = accept(stream).await {
                serve(stream, desk).await;
            }
        }
    }
}

async fn serve(stream: impl Io, desk: Desk) {
    let answer = service_fn(move |request| desk.clone().answer(request));
    // Clients that go away are none of its business.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

/// Pieces of an answer as they come.
struct Pieces(Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

impl Desk {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Pieces>, Infallible> {
        let (path, query) = (
            request.uri().path().to_owned(),
            request.uri().query().unwrap_or_default().to_owned(),
        );
        let token = request.headers().get("authorization");
        let token = token.map(|token| token.to_str().expect("a text").to_owned());
        let (behaviour, allowed) = {
            let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
            let who = token.as_deref().unwrap_or_default();
            world.asked.push(format!("{path}?{query} {who}"));
            let wanted = world.token.as_ref().map(|token| format!("Bearer {token}"));
            (world.behaviour.clone(), wanted.is_none() || wanted == token)
        };
        if let Behaviour::Late(time) = &behaviour {
            tokio::time::sleep(*time).await;
        }
        let is_workload = path.starts_with("/apis/");
        let status = match behaviour {
            _ if !allowed => 401,
            Behaviour::Refuse(status) => status,
            Behaviour::RefuseWorkloads(status) if is_workload => status,
            _ => 200,
        };
        let (sender, receiver) = channel(16);
        let mut response = Response::new(Pieces(receiver));
        if status != 200 {
            *response.status_mut() = status.try_into().expect("a status");
            if status == 503 {
                let after = hyper::header::HeaderValue::from_static("9");
                response.headers_mut().insert("retry-after", after);
            }
            let why = json!({"kind": "Status", "message": "it is not allowed", "code": status});
            send(&sender, &why.to_string()).await;
        } else if is_workload {
            let found = {
                let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
                world.workloads.get(&path).map(Value::to_string)
            };
            match found {
                Some(text) => send(&sender, &text).await,
                None => *response.status_mut() = 404.try_into().expect("a status"),
            }
        } else if query.contains("watch=1") {
            let from = number(&query, "resourceVersion").unwrap_or(0);
            // Whoever has the answer hears what is said from then on.
            let heard = self.said();
            tokio::spawn(self.watch((from, heard), behaviour, sender));
        } else {
            tokio::spawn(self.list(query, behaviour, sender));
        }
        Ok(response)
    }

    async fn list(self, query: String, behaviour: Behaviour, to: Sender<Bytes>) {
        match behaviour {
            Behaviour::Say(text) => return send(&to, text).await,
            Behaviour::Flood => return flood(&to, 64 << 20).await,
            _ => {}
        }
        let text = {
            let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
            let from = number(&query, "continue").unwrap_or(0) as usize;
            let all: Vec<&Value> = world.pods.values().collect();
            let items: Vec<&&Value> = all.iter().skip(from).take(world.page).collect();
            let next = from.saturating_add(items.len());
            let next = (next < all.len()).then(|| next.to_string());
            json!({"kind": "PodList", "items": items,
                "metadata": {"resourceVersion": world.version.to_string(), "continue": next}})
            .to_string()
        };
        send(&to, &text).await;
    }

    fn said(&self) -> usize {
        let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.said.len()
    }

    async fn watch(
        mut self,
        (mut from, mut heard): (u64, usize),
        behaviour: Behaviour,
        to: Sender<Bytes>,
    ) {
        match behaviour {
            Behaviour::Say(text) => return send(&to, &format!("{text}\n")).await,
            Behaviour::Flood => return flood(&to, 64 << 20).await,
            _ => {}
        }
        loop {
            let lines: Vec<(u64, String)> = {
                let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
                if from < world.oldest {
                    let why = json!({"code": 410, "message": "too old resource version"});
                    vec![(
                        u64::MAX,
                        json!({"type": "ERROR", "object": why}).to_string(),
                    )]
                } else {
                    let news = world.log.iter().filter(|(version, _)| *version > from);
                    let news = news.map(|(version, line)| (*version, line.to_string()));
                    let news: Vec<_> = news.collect();
                    let last = news.last().map_or(from, |(version, _)| *version);
                    let said = world.said[heard..].iter().map(|line| (last, line.clone()));
                    let lines = news.into_iter().chain(said).collect();
                    heard = world.said.len();
                    lines
                }
            };
            for (version, line) in lines {
                from = version;
                send(&to, &format!("{line}\n")).await;
            }
            if from == u64::MAX || to.is_closed() {
                return;
            }
            tokio::select! {
                changed = self.changed.changed() => if changed.is_err() { return },
                () = to.closed() => return,
            }
        }
    }
}

fn number(query: &str, key: &str) -> Option<u64> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == key)?.1.parse().ok()
}

async fn send(to: &Sender<Bytes>, text: &str) {
    // Whoever asked may have gone.
    let _ = to.send(Bytes::copy_from_slice(text.as_bytes())).await;
}

/// Sends so many bytes, none of which ends a line.
async fn flood(to: &Sender<Bytes>, bytes: usize) {
    let piece = Bytes::from(vec![b' '; 1 << 16]);
    for _ in 0..bytes >> 16 {
        if to.send(piece.clone()).await.is_err() {
            return;
        }
    }
}
