//! Books of what was read.

/// What was made of the events.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Ledger {
    /// Events read.
    pub events: u64,
    /// Of them, those that tell of processes rather than of connections.
    pub process_events: u64,
    /// Events that could not be understood.
    pub unreadable_events: u64,
    /// Whether events were left unread at the end, behind one that was not written in time.
    pub cut_short: bool,
    /// Bytes copied out of the kernel.
    pub copied_bytes: u64,
    /// Bytes that events stand for.
    pub moved_bytes: u64,
    /// Events whose bytes were in user memory and could not be read.
    pub unreadable_memory: u64,
    /// Connections met.
    pub connections: u64,
    /// Of them, open before.
    pub midstream: u64,
    /// TLS sessions whose cleartext was seen.
    pub sessions: u64,
    /// Of them, those whose socket was not found.
    pub unbound_sessions: u64,
}

impl Ledger {
    /// Adds what another one has counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.events += other.events;
        self.process_events += other.process_events;
        self.unreadable_events += other.unreadable_events;
        self.cut_short |= other.cut_short;
        self.copied_bytes += other.copied_bytes;
        self.moved_bytes += other.moved_bytes;
        self.unreadable_memory += other.unreadable_memory;
        self.connections += other.connections;
        self.midstream += other.midstream;
        self.sessions += other.sessions;
        self.unbound_sessions += other.unbound_sessions;
    }
}
