//! What the kernel programs and their loader share: the events of the ring buffer, the keys and
//! values of the maps, and the constants that the loader writes into the programs.
//!
//! Plain data, the same layout on both sides (`repr(C)`, no implicit padding); no code beyond
//! constructors.
#![no_std]

mod event;
mod maps;
mod offsets;
mod tls;

pub use event::{
    Direction, EventKind, GOROUTINE, HEADER_LEN, Header, LARGEST_PAYLOAD, Layer, PAYLOAD_CLASSES,
    Role, Tuple, UnixEnds, UnixName, flag,
};
pub use maps::{
    Connection, Counter, Executable, Settings, Share, Thread, Verdict, Walk, Wish, connection_flag,
    filter_flag,
};
pub use offsets::Offsets;
pub use tls::{
    Adjacent, Binding, Place, RECORD_OVERHEAD, Recipe, Session, SessionKey, TlsCall, session_flag,
};
