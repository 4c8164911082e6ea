//! Bytes into the ring buffer.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_user};
use wirespan_capture_abi::{
    Counter, Direction, Header, LARGEST_PAYLOAD, PAYLOAD_CLASSES, Walk, flag,
};

use crate::calls::Memory;
use crate::functions::BUFFER;
use crate::kernel;
use crate::maps::{EVENTS, count, settings};

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

/// How a call describes its memory.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Shape {
    /// Vectors (`struct iovec`) in user memory.
    Vectors,
    /// Vectors in kernel memory, which point to user memory; or a buffer, with [`BUFFER`].
    KernelVectors,
    /// A buffer.
    Buffer,
    /// Messages with vectors each (`struct mmsghdr`).
    Messages,
    /// None that could be read.
    Nothing,
}

/// Pieces of one call that are submitted one by one; what is beyond is counted.
const STEPS: u32 = 16;
/// Vectors of one call that are gathered in one event, in a short record and in a long one; what is
/// beyond is counted.
const FEW: u32 = 16;
const MANY: u32 = 64;
/// Room of these records. A call's bytes may take half of it: so the verifier sees that none can end
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

/// `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Vector {
    base: u64,
    len: u64,
}

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
        if let Some(message) = read_user::<Message>(at) {
            total += u64::from(message.len);
        }
    }
    total
}

/// Address of the first byte of a call's memory.
#[inline(always)]
pub fn first_byte(shape: Shape, memory: Memory) -> Option<u64> {
    if memory.address == 0 {
        return None;
    }
    if matches!(shape, Shape::Buffer) || memory.count & BUFFER != 0 {
        return Some(memory.address + memory.offset);
    }
    let vector = match shape {
        Shape::Vectors => read_user::<Vector>(memory.address),
        Shape::KernelVectors => kernel::read::<Vector>(memory.address, 0),
        _ => None,
    };
    vector.map(|vector| vector.base + memory.offset)
}

/// Reads a `T` in user memory.
#[inline(always)]
pub fn read_user<T: Copy>(address: u64) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes all of it or fails.
    unsafe {
        let to = value.as_mut_ptr().cast();
        if bpf_probe_read_user(to, size_of::<T>() as u32, address as *const _) != 0 {
            return None;
        }
        Some(value.assume_init())
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
pub fn data(walk: *mut Walk, shape: Shape, memory: Memory, mut moved: Moved) {
    let id = bpf_get_current_pid_tgid();
    moved.header.tgid = (id >> 32) as u32;
    moved.header.tid = id as u32;
    if moved.header.direction == Direction::Received as u8 {
        // SAFETY: has no requirements.
        moved.header.time = unsafe { bpf_ktime_get_ns() };
    }
    let nothing = matches!(shape, Shape::Nothing) || (memory.address == 0 && memory.count == 0);
    if nothing {
        moved.header.flags |= flag::NOT_USER_MEMORY;
        count(Counter::NotUserMemoryBytes, moved.total);
    }
    set!(walk.wake, wake());
    if moved.from > moved.header.position {
        // What nobody wants is not copied, but the time at which it passed is told.
        let skip = moved.from - moved.header.position;
        count(Counter::UnwantedBytes, skip);
        moved.header.moved = skip as u32;
        deliver(walk, &moved.header, 0);
    }
    begin(walk, shape, memory, &moved, nothing);
    let copy = get!(walk.copy);
    // Only for system calls: where functions are hooked, Linux 5.10 must be able to follow.
    let scattered = matches!(shape, Shape::Vectors | Shape::Messages);
    if scattered && copy < SHORT as u64 / 2 && get!(walk.vectors) <= u64::from(FEW) {
        gather::<SHORT, FEW>(walk, shape, &mut moved.header);
    } else if scattered && copy < LONG as u64 / 2 && !matches!(shape, Shape::Messages) {
        gather::<LONG, MANY>(walk, shape, &mut moved.header);
    } else {
        let steps = match shape {
            Shape::Messages => STEPS / 2,
            Shape::KernelVectors => STEPS * 2,
            _ => STEPS,
        };
        for _ in 0..steps {
            if get!(walk.copy) == 0 || !load(walk, shape) {
                break;
            }
            piece(walk, &mut moved.header);
        }
    }
    let left = get!(walk.left);
    if left > 0 {
        moved.header.position = get!(walk.position);
        moved.header.len = 0;
        moved.header.moved = left as u32;
        deliver(walk, &moved.header, 0);
    }
}

/// Divides the bytes that a call moved into those to pass over, to copy and to count.
#[inline(always)]
fn begin(walk: *mut Walk, shape: Shape, memory: Memory, moved: &Moved, nothing: bool) {
    let position = moved.header.position;
    let mut skip = 0;
    if moved.from > position {
        skip = moved.from - position;
    }
    let start = position + skip;
    let left = moved.total - skip;
    let mut copy = if nothing { 0 } else { left };
    let share = settings().map_or(0, |settings| u64::from(settings.call_share));
    if copy > share {
        count(Counter::CallShareBytes, copy - share);
        copy = share;
    }
    if start + copy > moved.until {
        let granted = if moved.until > start {
            moved.until - start
        } else {
            0
        };
        count(Counter::WindowBytes, copy - granted);
        copy = granted;
    }
    let is_buffer = matches!(shape, Shape::Buffer) || memory.count & BUFFER != 0;
    let (address, count) = (memory.address, memory.count & !BUFFER);
    let is_messages = matches!(shape, Shape::Messages);
    let is_vectors = !is_buffer && !is_messages;
    set!(walk.address, if is_buffer { address } else { 0 });
    set!(walk.len, if is_buffer { count } else { 0 });
    set!(walk.vector, if is_vectors { address } else { 0 });
    set!(walk.vectors, if is_vectors { count } else { 0 });
    set!(walk.message, if is_messages { address } else { 0 });
    set!(walk.messages, if is_messages { count } else { 0 });
    set!(walk.message_left, if is_messages { 0 } else { u64::MAX });
    set!(walk.skip, memory.offset + skip);
    set!(walk.copy, copy);
    set!(walk.left, left);
    set!(walk.position, start);
}

/// Goes on to the next piece if the one at hand is used up; false if there is none.
#[inline(always)]
fn load(walk: *mut Walk, shape: Shape) -> bool {
    if get!(walk.len) > 0 && get!(walk.message_left) > 0 {
        return true;
    }
    if matches!(shape, Shape::Messages) && (get!(walk.message_left) == 0 || get!(walk.vectors) == 0)
    {
        let messages = get!(walk.messages);
        if messages == 0 {
            return false;
        }
        let at = get!(walk.message);
        let Some(message) = read_user::<Message>(at) else {
            return false;
        };
        set!(walk.message, at + size_of::<Message>() as u64);
        set!(walk.messages, messages - 1);
        set!(walk.message_left, u64::from(message.len));
        set!(walk.vector, message.vectors);
        set!(walk.vectors, message.count);
        set!(walk.len, 0);
    }
    let vectors = get!(walk.vectors);
    if vectors == 0 {
        // An empty message is passed over, an empty buffer is the end.
        return matches!(shape, Shape::Messages);
    }
    let at = get!(walk.vector);
    let vector = match shape {
        Shape::KernelVectors => kernel::read::<Vector>(at, 0),
        _ => read_user::<Vector>(at),
    };
    let Some(vector) = vector else {
        return false;
    };
    set!(walk.vector, at + size_of::<Vector>() as u64);
    set!(walk.vectors, vectors - 1);
    set!(walk.address, vector.base);
    set!(walk.len, vector.len);
    true
}

/// Submits what the vectors hold as one event. There are less than `N / 2` bytes to copy.
#[inline(always)]
fn gather<const N: usize, const VECTORS: u32>(walk: *mut Walk, shape: Shape, header: &mut Header) {
    if get!(walk.copy) == 0 {
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<Record<N>>(0) else {
        // What is left of the call is told of, or counted as lost, without its bytes.
        return;
    };
    let record = entry.as_mut_ptr();
    let below_half = N as u64 / 2 - 1;
    set!(walk.gathered, 0);
    for _ in 0..VECTORS {
        let copy = get!(walk.copy);
        if copy == 0 || !load(walk, shape) {
            break;
        }
        let len = get!(walk.len);
        let message_left = get!(walk.message_left);
        let address = get!(walk.address);
        let skip = get!(walk.skip);
        let gathered = get!(walk.gathered);
        let mut take = if len > message_left {
            message_left
        } else {
            len
        };
        if skip > 0 {
            if take > skip {
                take = skip;
            }
            set!(walk.skip, skip - take);
        } else {
            if take > copy {
                take = copy;
            }
            // SAFETY: reserved above; both are below `N / 2`.
            let failed = unsafe {
                let to = (&raw mut (*record).payload)
                    .cast::<u8>()
                    .add((gathered & below_half) as usize);
                bpf_probe_read_user(to.cast(), (take & below_half) as u32, address as *const _)
            };
            if failed != 0 {
                break;
            }
            set!(walk.gathered, gathered + take);
            set!(walk.copy, copy - take);
        }
        set!(walk.address, address + take);
        set!(walk.len, len - take);
        if message_left != u64::MAX {
            set!(walk.message_left, message_left - take);
        }
    }
    header.position = get!(walk.position);
    header.len = get!(walk.gathered) as u32;
    header.moved = get!(walk.left) as u32;
    // SAFETY: reserved above.
    unsafe { (*record).header = *header };
    set!(walk.left, 0);
    entry.submit(get!(walk.wake));
}

/// Passes over, or submits, the piece at hand or the first part of it.
#[inline(always)]
fn piece(walk: *mut Walk, header: &mut Header) {
    let len = get!(walk.len);
    let message_left = get!(walk.message_left);
    let mut take = if len > message_left {
        message_left
    } else {
        len
    };
    let address = get!(walk.address);
    let skip = get!(walk.skip);
    if skip > 0 {
        if take > skip {
            take = skip;
        }
        set!(walk.skip, skip - take);
    } else {
        let copy = get!(walk.copy);
        if take > LARGEST_PAYLOAD as u64 {
            take = LARGEST_PAYLOAD as u64;
        }
        if take > copy {
            take = copy;
        }
        if take > 0 {
            submit_piece(walk, header, address, take, copy - take);
        }
    }
    set!(walk.address, address + take);
    set!(walk.len, len - take);
    if message_left != u64::MAX {
        set!(walk.message_left, message_left - take);
    }
}

/// Submits `take` bytes, of `rest + take` that are to be copied.
#[inline(always)]
fn submit_piece(walk: *mut Walk, header: &mut Header, address: u64, take: u64, rest: u64) {
    let left = get!(walk.left);
    // The last event also stands for what is not copied.
    let stands_for = if rest == 0 { left } else { take };
    header.position = get!(walk.position);
    header.len = take as u32;
    header.moved = stands_for as u32;
    deliver(walk, header, address);
    set!(walk.copy, rest);
    set!(walk.left, left - stands_for);
    set!(walk.position, get!(walk.position) + stands_for);
}

/// Submits an event, or counts it as lost. Its bytes are missed by the position of the next.
#[inline(always)]
fn deliver(walk: *mut Walk, header: &Header, address: u64) {
    if !submit_sized(header, address, get!(walk.wake)) {
        count(Counter::RingFullEvents, 1);
        count(Counter::RingFullBytes, u64::from(header.moved));
    }
}
