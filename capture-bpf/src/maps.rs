//! The maps, and the constants that the loader writes.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use wirespan_capture_abi::{
    Connection, Counter, Executable, Offsets, Session, SessionKey, Settings, Share, Thread,
    TlsCall, Wish,
};

/// Events for the reader.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// Connections by address of their socket.
#[map]
pub static CONNECTIONS: HashMap<u64, Connection> = HashMap::with_max_entries(65_536, 0);

/// What the reader wants of them.
#[map]
pub static WISHES: HashMap<u64, Wish> = HashMap::with_max_entries(65_536, 0);

/// TLS sessions. The one that was used longest ago gives way: most have no end that is seen.
#[map]
pub static SESSIONS: LruHashMap<SessionKey, Session> = LruHashMap::with_max_entries(65_536, 0);

/// When a call returned bytes whose beginning was not seen, by process: it was waiting when the
/// library was probed.
#[map]
pub static UNSEEN: LruHashMap<u32, u64> = LruHashMap::with_max_entries(4_096, 0);

/// Calls of goroutines.
#[map]
pub static GO_CALLS: LruHashMap<SessionKey, TlsCall> = LruHashMap::with_max_entries(32_768, 0);

/// What the reader wants of them.
#[map]
pub static SESSION_WISHES: LruHashMap<SessionKey, Wish> = LruHashMap::with_max_entries(65_536, 0);

/// Programs of Go, by process: where a goroutine keeps its number (`runtime.g.goid`), 0 where that is
/// not known.
#[map]
pub static GO_PROGRAMS: HashMap<u32, u32> = HashMap::with_max_entries(16_384, 0);

/// Threads by process id and thread id.
#[map]
pub static THREADS: HashMap<u64, Thread> = HashMap::with_max_entries(32_768, 0);

/// What processes have added to a ring buffer that is more than half full.
#[map]
pub static SHARES: LruHashMap<u32, Share> = LruHashMap::with_max_entries(4_096, 0);

/// What the loader tells the programs.
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// What was not delivered, by [`Counter`].
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT, 0);

/// Processes to observe.
#[map]
pub static TGIDS: HashMap<u32, u8> = HashMap::with_max_entries(4_096, 0);

/// Names of processes to observe.
#[map]
pub static NAMES: HashMap<[u8; 16], u8> = HashMap::with_max_entries(256, 0);

/// Executable files whose processes are to be observed.
#[map]
pub static EXECUTABLES: HashMap<Executable, u8> = HashMap::with_max_entries(4_096, 0);

/// Cgroups to observe.
#[map]
pub static CGROUPS: HashMap<u64, u8> = HashMap::with_max_entries(4_096, 0);

/// Network namespaces to observe.
#[map]
pub static NAMESPACES: HashMap<u32, u8> = HashMap::with_max_entries(256, 0);

/// Ports to observe.
#[map]
pub static PORTS: HashMap<u16, u8> = HashMap::with_max_entries(1_024, 0);

/// Addresses to observe.
#[map]
pub static ADDRESSES: LpmTrie<[u8; 16], u8> = LpmTrie::with_max_entries(1_024, 0);

/// Where the running kernel keeps what is read.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = unsafe { core::mem::zeroed() };

/// An offset that the loader has written: read as it is now, not as it was compiled.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a field of a constant that lives as long as the program.
        unsafe { core::ptr::read_volatile(&raw const (*$crate::maps::offsets()).$field) }
    };
}
pub(crate) use offset;

/// Where the offsets are.
#[inline(always)]
pub fn offsets() -> *const Offsets {
    &raw const OFFSETS
}

/// The settings as they are now.
#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// Adds to a counter.
#[inline(always)]
pub fn count(counter: Counter, amount: u64) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: this processor's own slot.
        unsafe { *value += amount };
    }
}
