//! The kernel's monotonic clock as wall time.

use wirespan_engine::Nanos;

/// Readings of which the best is taken, if none is undisturbed: so many nanoseconds long.
const READINGS: usize = 64;
const UNDISTURBED: u64 = 20_000;

/// Translates times of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Wall time less monotonic time.
    offset: u64,
}

impl Clock {
    /// A clock that is right now.
    pub(crate) fn new() -> Self {
        let mut clock = Self { offset: 0 };
        clock.adjust();
        clock
    }

    /// Follows the wall clock, which may have been set.
    pub(crate) fn adjust(&mut self) {
        // Of some readings, the one that was interrupted least.
        let mut best = u64::MAX;
        let mut offset = self.offset;
        for _ in 0..READINGS {
            let before = read(libc::CLOCK_MONOTONIC);
            let wall = read(libc::CLOCK_REALTIME);
            let after = read(libc::CLOCK_MONOTONIC);
            let span = after.saturating_sub(before);
            if span < best {
                best = span;
                offset = wall.wrapping_sub(before.midpoint(after));
            }
            if best < UNDISTURBED {
                break;
            }
        }
        // A difference within the reading's own error is none: times must not jitter.
        let drift = offset.wrapping_sub(self.offset).cast_signed();
        if drift.unsigned_abs() > best.max(100_000) {
            self.offset = offset;
        }
    }

    /// A monotonic time as wall time.
    pub(crate) fn wall(&self, monotonic: u64) -> Nanos {
        Nanos(monotonic.wrapping_add(self.offset))
    }

    /// Monotonic time now, in nanoseconds.
    pub(crate) fn monotonic() -> u64 {
        read(libc::CLOCK_MONOTONIC)
    }
}

#[allow(
    unsafe_code,
    reason = "clock_gettime writes to the timespec given to it"
)]
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec; the clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}
