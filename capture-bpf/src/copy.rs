//! Bytes into the ring buffer.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_probe_read_user};
use wirespan_capture_abi::{
    Counter, Direction, GOROUTINE, Header, LARGEST_PAYLOAD, PAYLOAD_CLASSES, Tuple, UnixEnds,
    UnixName, Walk, flag,
};

use crate::calls::{Memory, Shape};
use crate::fairness;
use crate::kernel::{self, Plain};
use crate::maps::{EVENTS, GO_PROGRAMS, count, settings};

/// A field of a [`Walk`], read from the map each time.
macro_rules! get {
    ($walk:ident . $field:ident) => {
        // SAFETY: a value of a map, which only the thread itself touches.
        unsafe { core::ptr::read_volatile(&raw const (*$walk).$field) }
    };
}

/// Sets a field of a [`Walk`] in the map.
macro_rules! set {
    ($walk:ident . $field:ident, $value:expr) => {{
        let value = $value;
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(&raw mut (*$walk).$field, value) }
    }};
}

/// Passes a number through the map.
macro_rules! forget {
    ($walk:ident, $value:expr) => {{
        set!($walk.passing, $value);
        get!($walk.passing)
    }};
}

/// Where the vectors of a call are. Known to each program, unlike the shape of a call's memory.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Source {
    /// In user memory (`struct iovec`).
    Vectors,
    /// In kernel memory. They point to user memory.
    KernelVectors,
    /// In messages (`struct mmsghdr`), all of it in user memory.
    Messages,
}

/// Pieces of one call that are submitted one by one; what is beyond is counted.
const PIECES: u32 = 32;
/// Vectors of one call that are gathered in one event; what is beyond is counted.
const VECTORS: u32 = 64;
/// Room of such an event. A call's bytes may take half of it: so the verifier sees that none can end
/// outside.
const SHORT: usize = 1_024;
const LONG: usize = 8_192;
/// Messages of one call that are looked at.
const MESSAGES: u32 = 16;

const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;

#[repr(C)]
struct Record<const N: usize> {
    header: Header,
    payload: [u8; N],
}

/// `struct iovec`: address and length.
type Vector = [u64; 2];

/// `struct mmsghdr`, as far as it is needed.
#[repr(C)]
#[derive(Clone, Copy)]
struct Message {
    name: u64,
    name_len: u64,
    vectors: u64,
    count: u64,
    control: [u64; 2],
    flags: u64,
    len: u32,
    padding: u32,
}
impl Plain for Message {}

/// Whether the reader is to be woken: when what waits for it passes a multiple of the threshold.
#[inline(always)]
fn wake() -> u64 {
    let Some(settings) = settings() else {
        return BPF_RB_NO_WAKEUP;
    };
    let threshold = u64::from(settings.wake_above).max(1);
    let waiting = EVENTS.query(0);
    if waiting >= threshold && waiting % threshold < LARGEST_PAYLOAD as u64 {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    }
}

/// Submits an event without payload.
#[inline(always)]
pub fn submit(header: &Header) {
    if !submit_read::<0>(header, 0, wake()) {
        count(Counter::RingFullEvents, 1);
    }
}

/// Submits an event with a small value as payload.
#[inline(always)]
pub fn submit_value<T: Copy>(header: &Header, value: &T) -> bool {
    let Some(mut entry) = EVENTS.reserve::<Record<{ PAYLOAD_CLASSES[1] }>>(0) else {
        count(Counter::RingFullEvents, 1);
        return false;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: reserved above; the value fits by the assertion.
    unsafe {
        const { assert!(size_of::<T>() <= PAYLOAD_CLASSES[1]) };
        (*record).header = *header;
        (*record).header.len = size_of::<T>() as u32;
        (&raw mut (*record).payload)
            .cast::<T>()
            .write_unaligned(*value);
    }
    entry.submit(wake());
    true
}

/// Submits the introduction of a connection of Unix sockets.
#[inline(always)]
pub fn submit_unix(header: &Header, tuple: &Tuple, sock: u64) -> bool {
    let Some(mut entry) = EVENTS.reserve::<Record<{ PAYLOAD_CLASSES[2] }>>(0) else {
        count(Counter::RingFullEvents, 1);
        return false;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: reserved above; the value fits by the assertion.
    unsafe {
        const { assert!(size_of::<UnixEnds>() <= PAYLOAD_CLASSES[2]) };
        (*record).header = *header;
        (*record).header.len = size_of::<UnixEnds>() as u32;
        let ends = (&raw mut (*record).payload).cast::<UnixEnds>();
        (*ends).tuple = *tuple;
        read_name(&raw mut (*ends).local, sock);
        // Where there is no peer nothing is read.
        read_name(
            &raw mut (*ends).remote,
            kernel::unix_peer(sock).unwrap_or(0),
        );
    }
    entry.submit(wake());
    true
}

/// Reads the name of a Unix socket. What lies behind it is not written.
#[inline(always)]
unsafe fn read_name(to: *mut UnixName, sock: u64) {
    let (name, len) = kernel::unix_name(sock);
    // SAFETY: the caller's; `len` is at most that of the field.
    unsafe {
        (*to).len = len.min(UnixName::LONGEST as u32);
        // Read anew, as in `submit_read`.
        let mut len = core::ptr::read_volatile(&raw const (*to).len);
        if len > UnixName::LONGEST as u32 {
            len = UnixName::LONGEST as u32;
        }
        bpf_probe_read_kernel((&raw mut (*to).path).cast(), len, name as *const _);
    }
}

/// Submits an event with `header.len` bytes of user memory.
#[inline(always)]
fn submit_read<const N: usize>(header: &Header, address: u64, wake: u64) -> bool {
    let Some(mut entry) = EVENTS.reserve::<Record<N>>(0) else {
        return false;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: reserved above; `len` is at most `N`.
    unsafe {
        (*record).header = *header;
        if N > 0 {
            // Read anew: the compiler must not drop the check that the verifier of Linux 5.10, which
            // forgets what callers know, needs to see.
            let mut len = core::ptr::read_volatile(&raw const header.len);
            if len > N as u32 {
                len = N as u32;
            }
            let to = (&raw mut (*record).payload).cast();
            if bpf_probe_read_user(to, len, address as *const _) != 0 {
                (*record).header.len = 0;
                (*record).header.flags |= flag::UNREADABLE;
            }
        }
    }
    entry.submit(wake);
    true
}

/// Submits an event in the smallest class that holds it.
#[inline(always)]
fn submit_sized(header: &Header, address: u64, wake: u64) -> bool {
    let len = header.len as usize;
    if len == 0 {
        submit_read::<0>(header, address, wake)
    } else if len <= PAYLOAD_CLASSES[1] {
        submit_read::<{ PAYLOAD_CLASSES[1] }>(header, address, wake)
    } else if len <= PAYLOAD_CLASSES[2] {
        submit_read::<{ PAYLOAD_CLASSES[2] }>(header, address, wake)
    } else if len <= PAYLOAD_CLASSES[3] {
        submit_read::<{ PAYLOAD_CLASSES[3] }>(header, address, wake)
    } else {
        submit_read::<{ PAYLOAD_CLASSES[4] }>(header, address, wake)
    }
}

/// Bytes of the first `messages` messages of a call, as the kernel has noted them there.
#[inline(always)]
pub fn message_bytes(address: u64, messages: u64) -> u64 {
    let mut total = 0;
    for n in 0..MESSAGES {
        if u64::from(n) >= messages {
            break;
        }
        let at = address + u64::from(n) * size_of::<Message>() as u64;
        total += u64::from(read_user::<Message>(at).len);
    }
    total
}

/// Address of the first byte of a call's memory; 0 where that is not known.
#[inline(always)]
pub fn first_byte(source: Source, memory: Memory) -> u64 {
    if memory.shape == Shape::BUFFER {
        return memory.address + memory.offset;
    }
    if memory.shape == Shape::NOTHING || matches!(source, Source::Messages) {
        return 0;
    }
    let [base, _] = vector(source, memory.address);
    base + memory.offset
}

/// Reads a `T` of user memory; zeros where it cannot be read.
#[inline(always)]
pub fn read_user<T: Plain>(address: u64) -> T {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes all of it, zeros if it fails.
    unsafe {
        let to = value.as_mut_ptr().cast();
        bpf_probe_read_user(to, size_of::<T>() as u32, address as *const _);
        value.assume_init()
    }
}

/// What an event of a call says whatever its piece.
pub struct Moved {
    pub header: Header,
    pub total: u64,
    /// Bytes before this position are not wanted.
    pub from: u64,
    /// Bytes from this position on are not to be copied.
    pub until: u64,
}

/// Submits what a call has moved.
#[inline(always)]
pub fn data(walk: *mut Walk, source: Source, memory: Memory, mut moved: Moved) {
    let id = bpf_get_current_pid_tgid();
    moved.header.tgid = (id >> 32) as u32;
    moved.header.task = forget!(walk, u64::from(task(id))) as u32;
    if moved.header.direction == Direction::Received as u8 {
        // SAFETY: has no requirements.
        moved.header.time = unsafe { bpf_ktime_get_ns() };
    }
    if memory.shape == Shape::NOTHING {
        moved.header.flags |= flag::NOT_USER_MEMORY;
        count(Counter::NotUserMemoryBytes, moved.total);
    }
    let most = settings().map_or(0, |settings| u64::from(settings.call_share));
    let admitted = fairness::admits(moved.header.tgid, moved.total, moved.total.min(most));
    if forget!(walk, u64::from(admitted)) == 0 {
        // Missed by the position of the next, like what found the buffer full.
        return;
    }
    let skip = moved.from.saturating_sub(moved.header.position);
    begin(walk, source, memory, &moved, skip);
    set!(walk.wake, wake());
    if skip > 0 {
        // What nobody wants is not copied, but the time at which it passed is told.
        count(Counter::UnwantedBytes, skip);
        moved.header.moved = skip as u32;
        deliver(walk, &moved.header, 0);
    }
    let header = &mut moved.header;
    let copy = get!(walk.copy);
    if memory.shape == Shape::BUFFER || copy >= LONG as u64 / 2 {
        pieces(walk, source, header);
    } else if copy >= SHORT as u64 / 2 {
        gather::<LONG>(walk, source, header);
    } else if copy > 0 {
        gather::<SHORT>(walk, source, header);
    }
    let left = get!(walk.left);
    if left > 0 {
        header.position = get!(walk.position);
        header.len = 0;
        header.moved = left as u32;
        deliver(walk, header, 0);
    }
}

/// Who the current thread works for. Go keeps the running goroutine in a thread's own memory, right
/// before where the thread's base points to.
#[inline(always)]
fn task(id: u64) -> u32 {
    /// Most programs of Go have less than this many goroutines in their life, and all are told apart
    /// from those of the same time.
    const NUMBER: u64 = GOROUTINE as u64 - 1;
    // SAFETY: a value of a map that the loader replaces as a whole.
    match unsafe { GO_PROGRAMS.get((id >> 32) as u32) } {
        None => id as u32,
        Some(0) => 0,
        Some(at) => {
            let goroutine: u64 = read_user(kernel::thread_base().wrapping_sub(8));
            // Its stack, and two places that functions compare theirs with: the second one is for
            // the runtime's own stacks, and out of reach in a goroutine's.
            let [low, high, _, guard]: [u64; 4] = read_user(goroutine);
            let number = read_user::<u64>(goroutine + u64::from(*at)) & NUMBER;
            if number == 0 || low >= high || guard != u64::MAX {
                return 0;
            }
            number as u32 | GOROUTINE
        }
    }
}

/// Divides the bytes that a call moved into `skip` bytes to pass over, those to copy, and those to
/// count.
#[inline(always)]
fn begin(walk: *mut Walk, source: Source, memory: Memory, moved: &Moved, skip: u64) {
    let start = moved.header.position + skip;
    let left = moved.total - skip;
    let mut copy = left;
    if memory.shape == Shape::NOTHING {
        copy = 0;
    }
    let share = settings().map_or(0, |settings| u64::from(settings.call_share));
    if copy > share {
        count(Counter::CallShareBytes, copy - share);
        copy = share;
    }
    let granted = moved.until.saturating_sub(start);
    if copy > granted {
        count(Counter::WindowBytes, copy - granted);
        copy = granted;
    }
    let (address, number) = (memory.address, memory.count);
    let is_buffer = memory.shape == Shape::BUFFER;
    set!(walk.address, address);
    set!(walk.len, if is_buffer { number } else { 0 });
    let is_messages = matches!(source, Source::Messages);
    set!(walk.vector, address);
    set!(
        walk.vectors,
        if is_buffer || is_messages { 0 } else { number }
    );
    set!(walk.message, address);
    set!(walk.messages, if is_messages { number } else { 0 });
    set!(walk.message_left, if is_messages { 0 } else { u64::MAX });
    set!(walk.skip, memory.offset + skip);
    set!(walk.copy, copy);
    set!(walk.left, left);
    set!(walk.position, start);
}

/// Goes on to the next piece if the one at hand is used up; false if there is none.
#[inline(always)]
fn load(walk: *mut Walk, source: Source) -> bool {
    if at_hand(walk) > 0 {
        return true;
    }
    if matches!(source, Source::Messages)
        && (get!(walk.message_left) == 0 || get!(walk.vectors) == 0)
    {
        let messages = get!(walk.messages);
        if messages == 0 {
            return false;
        }
        let at = get!(walk.message);
        let message: Message = read_user(at);
        set!(walk.message, at + size_of::<Message>() as u64);
        set!(walk.messages, messages - 1);
        set!(walk.message_left, u64::from(message.len));
        set!(walk.vector, message.vectors);
        set!(walk.vectors, message.count);
    }
    let vectors = get!(walk.vectors);
    if vectors == 0 {
        // An empty message is passed over, an empty buffer is the end.
        set!(walk.len, 0);
        return matches!(source, Source::Messages);
    }
    let at = get!(walk.vector);
    let [base, len] = vector(source, at);
    set!(walk.vector, at + size_of::<Vector>() as u64);
    set!(walk.vectors, vectors - 1);
    set!(walk.address, base);
    set!(walk.len, len);
    true
}

#[inline(always)]
fn vector(source: Source, at: u64) -> Vector {
    match source {
        Source::KernelVectors => kernel::read(at, 0),
        _ => read_user(at),
    }
}

/// Bytes left of the piece at hand.
#[inline(always)]
fn at_hand(walk: *mut Walk) -> u64 {
    get!(walk.len).min(get!(walk.message_left))
}

/// Passes over `take` bytes of the piece at hand.
#[inline(always)]
fn advance(walk: *mut Walk, take: u64) {
    set!(walk.address, get!(walk.address) + take);
    set!(walk.len, get!(walk.len) - take);
    set!(walk.message_left, get!(walk.message_left) - take);
}

/// Passes over what of the piece at hand is to be passed over; what is left of it.
#[inline(always)]
fn wanted(walk: *mut Walk) -> u64 {
    let skip = get!(walk.skip);
    if skip > 0 {
        let pass = skip.min(at_hand(walk));
        set!(walk.skip, skip - pass);
        advance(walk, pass);
    }
    at_hand(walk)
}

/// Submits what the vectors hold as one event. There are less than `N / 2` bytes to copy.
#[inline(always)]
fn gather<const N: usize>(walk: *mut Walk, source: Source, header: &mut Header) {
    let Some(mut entry) = EVENTS.reserve::<Record<N>>(0) else {
        // What is left of the call is told of, or counted as lost, without its bytes.
        return;
    };
    let record = entry.as_mut_ptr();
    let below_half = N as u64 / 2 - 1;
    set!(walk.gathered, 0);
    for _ in 0..VECTORS {
        let copy = get!(walk.copy);
        if copy == 0 || !load(walk, source) {
            break;
        }
        let take = wanted(walk).min(copy);
        let gathered = get!(walk.gathered);
        let from = get!(walk.address) as *const _;
        // SAFETY: reserved above; both are below `N / 2`.
        let failed = unsafe {
            let to = (&raw mut (*record).payload)
                .cast::<u8>()
                .add((gathered & below_half) as usize);
            bpf_probe_read_user(to.cast(), (take & below_half) as u32, from)
        };
        if failed != 0 {
            break;
        }
        set!(walk.gathered, gathered + take);
        set!(walk.copy, copy - take);
        advance(walk, take);
    }
    header.position = get!(walk.position);
    header.len = get!(walk.gathered) as u32;
    header.moved = get!(walk.left) as u32;
    // SAFETY: reserved above.
    unsafe { (*record).header = *header };
    set!(walk.left, 0);
    entry.submit(get!(walk.wake));
}

/// Submits the pieces one by one, long ones in parts.
#[inline(always)]
fn pieces(walk: *mut Walk, source: Source, header: &mut Header) {
    for _ in 0..PIECES {
        let copy = get!(walk.copy);
        if copy == 0 || !load(walk, source) {
            break;
        }
        let take = wanted(walk).min(copy).min(LARGEST_PAYLOAD as u64);
        if take == 0 {
            continue;
        }
        let (left, position) = (get!(walk.left), get!(walk.position));
        // The last event also stands for what is not copied.
        let stands_for = if take == copy { left } else { take };
        header.position = position;
        header.len = take as u32;
        header.moved = stands_for as u32;
        deliver(walk, header, get!(walk.address));
        set!(walk.copy, copy - take);
        set!(walk.left, left - stands_for);
        set!(walk.position, position + stands_for);
        advance(walk, take);
    }
}

/// Submits an event, or counts it as lost. Its bytes are missed by the position of the next.
#[inline(always)]
fn deliver(walk: *mut Walk, header: &Header, address: u64) {
    if !submit_sized(header, address, get!(walk.wake)) {
        count(Counter::RingFullEvents, 1);
        count(Counter::RingFullBytes, u64::from(header.moved));
    }
}
