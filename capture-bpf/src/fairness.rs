//! Room in the ring buffer for everybody: a noisy process must not make the events of others lost.
//!
//! While more than half of the buffer waits for the reader, what a process may add, each time the
//! reader has come an eighth of the buffer further, is an eighth of the room that is left. So one
//! noisy process keeps the buffer half full at most, several that are noisy have less each, the
//! fuller it is, and whoever says little finds room at any time. (Thresholds that follow the room
//! that is left: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998.)

use wirespan_capture_abi::{Counter, HEADER_LEN, Share};

use crate::maps::{EVENTS, SHARES, count, settings};

/// Parts of the buffer by which the reader's way and the room that is left are measured.
const PARTS: u64 = 8;

/// `BPF_RB_AVAIL_DATA`, `BPF_RB_CONS_POS`.
const WAITING: u64 = 0;
const READ: u64 = 2;

/// Whether a process may add an event that stands for `moved` bytes of which `copied` are in it; if
/// not, they are counted.
#[inline(always)]
pub fn admits(tgid: u32, moved: u64, copied: u64) -> bool {
    let size = settings().map_or(0, |settings| u64::from(settings.ring_bytes));
    let waiting = EVENTS.query(WAITING);
    if waiting < size / 2 {
        return true;
    }
    let window = EVENTS.query(READ) / (size / PARTS).max(1);
    let Some(share) = SHARES.get_ptr_mut(tgid) else {
        // The one event by which it may exceed its share is the first.
        let fresh = Share { window, bytes: 0 };
        let _ = SHARES.insert(tgid, &fresh, 0);
        return true;
    };
    // SAFETY: a value of a map; threads of a process may write at the same time, which costs some
    // bytes' count.
    let share = unsafe { &mut *share };
    if share.window != window {
        share.window = window;
        share.bytes = 0;
    }
    let bytes = share.bytes + HEADER_LEN as u64 + copied;
    if bytes > size.saturating_sub(waiting) / PARTS {
        count(Counter::ShareEvents, 1);
        count(Counter::ShareBytes, moved);
        return false;
    }
    share.bytes = bytes;
    true
}
