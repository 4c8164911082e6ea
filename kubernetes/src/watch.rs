//! The thread that lists the pods of this node and then hears of their changes.
//!
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use serde::Deserialize as _;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};

use crate::api::{Api, Failure, JSON};
use crate::backoff::Backoff;
use crate::config::Config;
use crate::directory::Directory;
use crate::object::{Event, EventKind, Item, Object, Page, Refusal};
use crate::owners;
use crate::state::{Phase, Shared, State};
use crate::store::Store;

/// Pods of a page.
const PAGE: usize = 100;
/// Pages of a list: more than hold the pods that are kept.
const MAX_PAGES: usize = 64;

/// Keeps a [`Directory`] true until it is dropped.
pub struct Watch {
    directory: Arc<Directory>,
    state: Arc<Shared>,
    config: Config,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// Begins to ask. Whether it works is told to `report`: once when it does not, and once when it does
    /// again.
    ///
    /// # Errors
    ///
    /// A thread that cannot be started. That nobody answers is none: it is asked again.
    pub fn start(
        config: Config,
        report: impl Fn(&str, Phase) + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let directory = Arc::new(Directory::default());
        let state = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let (of_thread, state_of_thread) = (Arc::clone(&directory), Arc::clone(&state));
        let asked = config.clone();
        let run = move || {
            let store = RefCell::new(Store::new(&asked.node));
            let api = Api::new(asked);
            let watcher = Watcher {
                api: &api,
                store: &store,
                directory: &of_thread,
                state: &state_of_thread,
                fresh: Notify::new(),
                report: &report,
            };
            let known = (&*of_thread, &*state_of_thread);
            let owners = owners::resolve(&api, &store, known, &watcher.fresh);
            runtime.block_on(async {
                tokio::select! {
                    () = watcher.run() => {}
                    () = owners => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = thread::Builder::new()
            .name("kubernetes".to_owned())
            .spawn(run)?;
        Ok(Self {
            directory,
            state,
            config,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// What is known.
    #[must_use]
    pub const fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// How it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.lock().clone()
    }

    /// Who is asked, and for what.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The thread may have ended by a panic, which has told of itself.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What the thread does.
struct Watcher<'a> {
    api: &'a Api,
    store: &'a RefCell<Store>,
    directory: &'a Directory,
    state: &'a Shared,
    /// Pods are new: their makers may be wanted.
    fresh: Notify,
    report: &'a dyn Fn(&str, Phase),
}

/// How a list is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Exactness {
    /// As the server has it at hand, which may be a little old; the watch makes up for that.
    AtHand,
    /// As it is, in pages.
    Exact,
}

impl Watcher<'_> {
    async fn run(&self) {
        let pace = self.api.config().pace;
        let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seed = seed.map_or(0, |since| since.as_nanos() as u64);
        let mut backoff = Backoff::new(pace.first_wait, pace.longest_wait, seed);
        let mut exactness = Exactness::AtHand;
        let mut heard = Instant::now();
        loop {
            let failure = match self.list(exactness).await {
                Ok(version) => self.follow(version, &mut backoff, &mut heard).await,
                Err(failure) => failure,
            };
            // A server that cannot, or does not want to, answer from what it has at hand.
            exactness = Exactness::Exact;
            let asked = failure.again_after();
            match failure {
                Failure::Gone => self.state.lock().forgotten += 1,
                failure => self.failed(&failure, heard),
            }
            sleep(backoff.wait(asked)).await;
        }
    }

    /// Lists all pods; the version that they are.
    async fn list(&self, exactness: Exactness) -> Result<String, Failure> {
        let node = self.api.config().node();
        let of = match exactness {
            Exactness::AtHand => "&resourceVersion=0".to_owned(),
            Exactness::Exact => format!("&limit={PAGE}"),
        };
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}{of}");
        let mut pods = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let from = next
                .as_deref()
                .map(|next| format!("&continue={}", encoded(next)));
            let page = format!("{path}{}", from.unwrap_or_default());
            let page: Page = self.api.get(&page, JSON).await?;
            self.state.lock().answered += 1;
            let items = page.items.into_iter().flatten();
            pods.extend(items.filter_map(|item| match item {
                Item::Object(object) => object.pod(),
                Item::Other(_) => None,
            }));
            next = page.metadata.next.filter(|next| !next.is_empty());
            if next.is_none() {
                self.store.borrow_mut().replace(pods);
                self.publish();
                return Ok(page.metadata.resource_version);
            }
        }
        Err(Failure::Malformed("its list does not end".to_owned()))
    }

    /// Hears of changes from `version` on, again and again, until everything is to be listed anew.
    async fn follow(
        &self,
        mut version: String,
        backoff: &mut Backoff,
        heard: &mut Instant,
    ) -> Failure {
        loop {
            let began = Instant::now();
            let failure = match self.watch(&mut version, backoff, heard).await {
                Ok(()) => None,
                Err(failure @ (Failure::Gone | Failure::Malformed(_) | Failure::TooLarge(_))) => {
                    return failure;
                }
                Err(failure) => Some(failure),
            };
            if let Some(failure) = &failure {
                self.failed(failure, *heard);
            }
            // A watch that ends at once must not be begun anew at once.
            if failure.is_some() || began.elapsed() < self.api.config().pace.first_wait {
                sleep(backoff.wait(failure.and_then(|failure| failure.again_after()))).await;
            }
        }
    }

    /// Hears of changes from `version` on until the server ends it.
    async fn watch(
        &self,
        version: &mut String,
        backoff: &mut Backoff,
        heard: &mut Instant,
    ) -> Result<(), Failure> {
        let config = self.api.config();
        // Not the same for all nodes, or they would all come back at once.
        let lasts = backoff.jittered(config.pace.watch);
        let path = format!(
            "/api/v1/pods?fieldSelector=spec.nodeName%3D{}&watch=1&allowWatchBookmarks=true\
             &resourceVersion={}&timeoutSeconds={}",
            config.node(),
            encoded(version),
            lasts.as_secs().max(1),
        );
        let mut lines = self.api.follow(&path).await?;
        *heard = Instant::now();
        self.works();
        let patience = lasts + config.pace.patience;
        while let Some(line) = lines.next(patience).await? {
            *heard = Instant::now();
            let event = serde_json::from_slice::<Event>(&line);
            let event = event.map_err(|error| Failure::Malformed(error.to_string()))?;
            self.take(event, version)?;
            backoff.reset();
        }
        Ok(())
    }

    /// Takes a change.
    fn take(&self, event: Event, version: &mut String) -> Result<(), Failure> {
        if event.kind == EventKind::Error {
            let refusal = Refusal::deserialize(event.object).unwrap_or_default();
            return Err(match refusal.code {
                410 => Failure::Gone,
                code => Failure::Unreachable(format!("{code}: {}", refusal.message)),
            });
        }
        // An object that is none is passed over, like one of a list.
        let Ok(object) = Object::deserialize(event.object) else {
            return Ok(());
        };
        if !object.metadata.resource_version.is_empty() {
            version.clone_from(&object.metadata.resource_version);
        }
        match event.kind {
            EventKind::Added | EventKind::Modified => {
                if let Some(pod) = object.pod() {
                    self.store.borrow_mut().put(pod);
                }
            }
            EventKind::Deleted => self.store.borrow_mut().remove(&object.metadata.uid),
            EventKind::Bookmark | EventKind::Error | EventKind::Unknown => return Ok(()),
        }
        self.state.lock().changes += 1;
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        let store = self.store.borrow();
        store.publish(self.directory);
        let mut state = self.state.lock();
        state.pods = self.directory.len();
        state.left_out = store.left_out();
        self.fresh.notify_one();
    }

    fn works(&self) {
        self.directory.set_old(false);
        let mut state = self.state.lock();
        state.answered += 1;
        if state.enter(Phase::Watching) {
            let (pods, config) = (state.pods, self.api.config());
            drop(state);
            let message = format!("{pods} pods of node {}", config.node());
            (self.report)(&message, Phase::Watching);
        }
    }

    fn failed(&self, failure: &Failure, heard: Instant) {
        let config = self.api.config();
        if heard.elapsed() > config.pace.old {
            self.directory.set_old(true);
        }
        let message = format!("{}: {failure}", config.url());
        let mut state = self.state.lock();
        state.failed(&message);
        if state.enter(Phase::Failing) {
            drop(state);
            (self.report)(&message, Phase::Failing);
        }
    }
}

/// A value of a query, percent-encoded.
fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}
