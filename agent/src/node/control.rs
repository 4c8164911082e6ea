//! The configuration that is in effect, and how it changes while the agent runs.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use wirespan_engine::{Nanos, Registry};
use wirespan_telemetry::Flow;

use super::log::Log;
use super::recording::Wanted;
use super::shelf::Shelf;
use super::wall_clock;
use crate::config::{Effective, Fault, Layer, Running, Sources};
use crate::top::Picture;

/// How long whoever wants something of the capturing thread waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where what is said while the agent runs comes from.
const DYNAMIC: &str = "PUT /config/dynamic";

/// What the capturing thread is asked for, between two looks at the kernel's events.
pub(super) enum Order {
    /// Goes on with these; tells whether it does.
    Apply(Box<Running>, SyncSender<Result<(), String>>),
    /// Tells what `top` shows.
    Picture(SyncSender<Picture>),
    /// Tells which connections are open.
    Connections(SyncSender<Vec<Value>>),
    /// Records, unless that is done already; gives what comes of it.
    Record(Wanted, SyncSender<Option<Flow>>),
}

/// Where orders come in.
pub(super) type Orders = Receiver<Order>;

/// Changes the configuration. Shared by all who may.
#[derive(Debug)]
pub(super) struct Control {
    inner: Mutex<Inner>,
    orders: Sender<Order>,
    registry: Arc<Registry>,
    log: Log,
}

#[derive(Debug)]
struct Inner {
    sources: Sources,
    /// What was said while the agent ran.
    dynamic: Layer,
    effective: Effective,
    state: State,
}

/// What became of changes.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// When the configuration that is in effect was applied.
    pub(super) since: Nanos,
    /// Changes that were applied since the start.
    pub(super) applied: u64,
    /// Those that were refused.
    pub(super) refused: u64,
    /// Why the latest attempt was refused, if it was.
    pub(super) fault: Option<String>,
    /// Keys that are said to be others than they are, and will be at the next start.
    pub(super) at_next_start: Vec<String>,
}

impl Control {
    pub(super) fn new(
        sources: Sources,
        effective: Effective,
        registry: &Arc<Registry>,
        log: Log,
    ) -> (Self, Orders) {
        let (orders, receiver) = channel();
        let inner = Inner {
            sources,
            dynamic: Layer::default(),
            effective,
            state: State {
                since: wall_clock(),
                ..State::default()
            },
        };
        let control = Self {
            inner: Mutex::new(inner),
            orders,
            registry: Arc::clone(registry),
            log,
        };
        (control, receiver)
    }

    /// Reads everything again and goes on with it; `why` is for the log.
    ///
    /// # Errors
    ///
    /// What is wrong. Then nothing has changed.
    pub(super) fn reload(&self, why: &str) -> Result<(), Fault> {
        let mut inner = self.lock();
        let loaded = inner.sources.load_under(&inner.dynamic);
        let applied = loaded.and_then(|loaded| self.apply(&mut inner, loaded, why));
        self.note(&mut inner, applied.as_ref().err(), why);
        applied
    }

    /// Changes what a patch (RFC 7396) says, until the agent ends; `null` gives a key back to the
    /// file. `who` is for the log.
    ///
    /// # Errors
    ///
    /// What is wrong. Then nothing has changed.
    pub(super) fn patch(&self, patch: &Value, who: &str) -> Result<(), Fault> {
        let mut inner = self.lock();
        let keys = &inner.sources.keys;
        let patched = inner
            .dynamic
            .patched(patch, keys, DYNAMIC)
            .map_err(Fault::new);
        let why = format!("{DYNAMIC} by {who}");
        let applied = patched.and_then(|dynamic| {
            let loaded = inner.sources.load_under(&dynamic)?;
            self.apply(&mut inner, loaded, &why)?;
            inner.dynamic = dynamic;
            Ok(())
        });
        self.note(&mut inner, applied.as_ref().err(), &why);
        applied
    }

    /// The configuration that is in effect: all keys, with who says so.
    pub(super) fn told(&self) -> Value {
        let inner = self.lock();
        json!({
            "schema": "wirespan.config/1",
            "file": inner.sources.file,
            "keys": inner.effective.told(&inner.sources.keys),
        })
    }

    /// The file that is read again when it changes.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.lock().sources.file.clone()
    }

    /// The connections that are open, each as JSON.
    pub(super) fn connections(&self) -> Result<Vec<Value>, Fault> {
        let (told, answer) = sync_channel(1);
        self.ask(Order::Connections(told), &answer)
    }

    /// What `top` shows now.
    pub(super) fn picture(&self) -> Result<Picture, Fault> {
        let (told, answer) = sync_channel(1);
        self.ask(Order::Picture(told), &answer)
    }

    /// Begins a recording; `None` while there is one. `who` is for the log.
    pub(super) fn record(&self, wanted: Wanted, who: &str) -> Result<Option<Flow>, Fault> {
        let (begun, answer) = sync_channel(1);
        let body = self.ask(Order::Record(wanted, begun), &answer)?;
        if body.is_some() {
            let words = wanted.words();
            let what = "all that connections carry, passwords and personal data included";
            self.log
                .audit(&format!("recording {words}, by {who}: {what}"));
        }
        Ok(body)
    }

    /// Where recordings are kept, if the configuration names a place.
    pub(super) fn shelf(&self) -> Option<Shelf> {
        let inner = self.lock();
        let keys = &inner.effective.config.admin;
        let folder = keys.recordings.as_ref();
        folder.map(|folder| Shelf::new(folder, u64::from(keys.recordings_most) << 20))
    }

    /// What the agent says of itself goes there.
    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// What became of changes so far.
    pub(super) fn state(&self) -> State {
        self.lock().state.clone()
    }

    fn apply(&self, inner: &mut Inner, loaded: Effective, why: &str) -> Result<(), Fault> {
        let keys = &inner.sources.keys;
        let (next, at_next_start) = loaded.keeping(&inner.effective, keys)?;
        let running = Running::of(&inner.sources, &next, &self.registry)?;
        let changed = next.changed(&inner.effective, keys);
        self.order(running)?;
        let names = match changed.is_empty() {
            true => "nothing changed".to_owned(),
            false => changed.join(", "),
        };
        self.log.audit(&format!("configuration: {why}: {names}"));
        if !at_next_start.is_empty() {
            let names = at_next_start.join(", ");
            let message = format!("configuration: {names}: takes effect at the next start only");
            self.log.warn(&message);
        }
        inner.effective = next;
        inner.state.at_next_start = at_next_start;
        Ok(())
    }

    fn note(&self, inner: &mut Inner, fault: Option<&Fault>, why: &str) {
        let state = &mut inner.state;
        state.fault = fault.map(ToString::to_string);
        match fault {
            None => {
                state.since = wall_clock();
                state.applied += 1;
            }
            Some(fault) => {
                state.refused += 1;
                let message = format!("configuration: {why}: {fault}; nothing was changed");
                self.log.error(&message);
            }
        }
    }

    /// Has the capturing thread go on with `running`.
    fn order(&self, running: Running) -> Result<(), Fault> {
        let (done, answer) = sync_channel(1);
        let applied = self.ask(Order::Apply(Box::new(running), done), &answer)?;
        applied.map_err(Fault::new)
    }

    fn ask<T>(&self, order: Order, answer: &Receiver<T>) -> Result<T, Fault> {
        let gone = || Fault::new("the agent is stopping");
        self.orders.send(order).map_err(|_| gone())?;
        answer.recv_timeout(PATIENCE).map_err(|_| gone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
