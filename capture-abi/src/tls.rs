//! TLS sessions: what probes on TLS libraries share with their loader.

/// Names a TLS session: the library's object for it, in the memory of a process. Also names a call
/// of a goroutine, by the address of its `g`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct SessionKey {
    /// Address of the object (`SSL *`, `gnutls_session_t`, `*tls.Conn`).
    pub object: u64,
    /// The process.
    pub tgid: u32,
    /// Zero.
    pub reserved: u32,
}

/// What is known of a TLS session. Positions count the bytes of its cleartext from where it was
/// first met.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Session {
    /// When it was first met, in nanoseconds of `CLOCK_MONOTONIC`: tells it from others that had
    /// the same address.
    pub born: u64,
    /// The socket that carries it; 0 until that is known.
    pub sock: u64,
    /// [`Connection::born`](crate::Connection::born) of that socket's connection.
    pub sock_born: u64,
    /// How far each stream has come, by [`Direction`](crate::Direction).
    pub position: [u64; 2],
    /// As those of a [`Connection`](crate::Connection).
    pub turn: [u64; 2],
    /// As those of a [`Connection`](crate::Connection).
    pub turn_other: [u64; 2],
    /// When a call that sends was first made, which the library wants to be made again; else 0.
    pub since: u64,
    /// Bits of [`session_flag`].
    pub flags: u32,
    /// [`Settings::epoch`](crate::Settings::epoch) at which the filters were asked.
    pub epoch: u32,
}

/// Bits of [`Session::flags`].
pub mod session_flag {
    /// The filters left its connection out.
    pub const IGNORED: u32 = 1;
    /// It was met before its first byte.
    pub const BEGINNING: u32 = 2;
    /// The event that tells its socket was sent.
    pub const ANNOUNCED: u32 = 4;
    /// A call that reads was seen from its beginning.
    pub const READ: u32 = 8;
}

/// Payload of [`EventKind::Bind`](crate::EventKind::Bind): the connection that carries a session.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Binding {
    /// Address of the kernel's socket.
    pub sock: u64,
    /// [`Connection::born`](crate::Connection::born).
    pub sock_born: u64,
    /// 1 if the session was met before its first byte.
    pub beginning: u64,
}

/// A call of a TLS library.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsCall {
    /// The session's object; 0 outside of calls.
    pub object: u64,
    /// The cleartext.
    pub buffer: u64,
    /// Where the call tells how many bytes it moved; 0 if that is what it returns.
    pub result: u64,
    /// When it began.
    pub time: u64,
    /// A [`Direction`](crate::Direction); [`TlsCall::NO_BYTES`] of a call that moves none.
    pub direction: u32,
    /// Whether the session's socket is known.
    pub bound: u32,
    /// Whether it was made by another such call, as those for early data do.
    pub nested: u32,
    /// Zero.
    pub reserved: u32,
}

impl TlsCall {
    /// Handshakes, and the like.
    pub const NO_BYTES: u32 = 2;
}

/// What a thread has done last with sessions whose socket is not known, because ciphertext goes
/// through memory: what a socket moves right before or after tells it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Adjacent {
    /// Whether the thread has used such a session.
    pub watch: u32,
    /// Bytes of cleartext that were written first since the thread last sent.
    pub written: u32,
    /// The session that they were written to; 0 if there are none.
    pub object: u64,
    /// The socket from which the thread has last received TLS records; 0 if there is none.
    pub sock: u64,
    /// Lengths of the first of these records that carry data.
    pub records: [u16; 4],
}

/// Most bytes by which a record is longer than the data in it: with the nonce, the padding and the
/// code of TLS 1.2's block ciphers. RFC 5246 allows more padding, which nobody uses.
pub const RECORD_OVERHEAD: u32 = 72;

/// Where a probe before the end of a call finds what the call will return: a branch may decide. As a
/// number, it is the cookie of the probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Recipe(pub u64);

/// Where a value is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// Nowhere: nothing was moved, or another probe will tell.
    Nothing,
    /// In a register, by its number in instructions.
    Register(u8),
    /// In the four bytes at an offset from the stack pointer.
    Stack(i32),
    /// It is this.
    Constant(i32),
}

impl Place {
    const BITS: u32 = 24;

    const fn encode(self) -> Option<u64> {
        let (kind, value) = match self {
            Self::Nothing => (0, 0),
            Self::Register(number) => (1, number as i32),
            Self::Stack(offset) => (2, offset),
            Self::Constant(value) => (3, value),
        };
        if value << (32 - Self::BITS) >> (32 - Self::BITS) != value {
            return None;
        }
        Some(kind | ((value as u32 & 0xff_ffff) as u64) << 2)
    }

    #[inline(always)]
    const fn decode(code: u64) -> Self {
        let value = (((code >> 2) as u32) << (32 - Self::BITS)) as i32 >> (32 - Self::BITS);
        match code & 3 {
            0 => Self::Nothing,
            1 => Self::Register(value as u8),
            2 => Self::Stack(value),
            _ => Self::Constant(value),
        }
    }
}

impl Recipe {
    /// Of a place where no branch decides.
    pub const ALWAYS: u8 = 16;
    const WIDTH: u32 = 2 + Place::BITS;

    /// `condition` is that of the branch as x86 encodes it (0 to 15), or [`Recipe::ALWAYS`]; then
    /// where the value is if the branch is taken, and if it is not. `None` for offsets and values
    /// that do not fit.
    #[must_use]
    pub const fn new(condition: u8, taken: Place, otherwise: Place) -> Option<Self> {
        match (taken.encode(), otherwise.encode()) {
            (Some(taken), Some(otherwise)) => Some(Self(
                condition as u64 | taken << 8 | otherwise << (8 + Self::WIDTH),
            )),
            _ => None,
        }
    }

    /// Where the value is, given the processor's flags.
    #[must_use]
    #[inline(always)]
    pub const fn place(self, flags: u64) -> Place {
        let shift = if self.is_taken(flags) {
            8
        } else {
            8 + Self::WIDTH
        };
        Place::decode(self.0 >> shift)
    }

    /// Intel SDM, volume 1, appendix B: the sixteen conditions.
    #[inline(always)]
    const fn is_taken(self, flags: u64) -> bool {
        let condition = self.0 as u8;
        if condition == Self::ALWAYS {
            return true;
        }
        let carry = flags & 1 != 0;
        let parity = flags >> 2 & 1 != 0;
        let zero = flags >> 6 & 1 != 0;
        let sign = flags >> 7 & 1 != 0;
        let overflow = flags >> 11 & 1 != 0;
        let holds = match condition >> 1 {
            0 => overflow,
            1 => carry,
            2 => zero,
            3 => carry | zero,
            4 => sign,
            5 => parity,
            6 => sign != overflow,
            _ => zero | (sign != overflow),
        };
        holds != (condition & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JLE: u8 = 14;
    const ZERO: u64 = 1 << 6;
    const SIGN: u64 = 1 << 7;
    const OVERFLOW: u64 = 1 << 11;

    #[test]
    fn a_recipe_is_read_as_it_was_written() {
        let recipe = Recipe::new(JLE, Place::Register(15), Place::Stack(-8)).unwrap();
        for taken in [ZERO, SIGN, OVERFLOW, ZERO | SIGN | OVERFLOW] {
            assert_eq!(recipe.place(taken), Place::Register(15));
        }
        for not in [0, SIGN | OVERFLOW] {
            assert_eq!(recipe.place(not), Place::Stack(-8));
        }
        for place in [
            Place::Nothing,
            Place::Stack(8_000_000),
            Place::Constant(-1),
            Place::Constant(-8_388_608),
        ] {
            let always = Recipe::new(Recipe::ALWAYS, place, Place::Nothing).unwrap();
            assert_eq!(always.place(u64::MAX), place);
        }
        assert_eq!(
            Recipe::new(JLE, Place::Stack(8_388_608), Place::Nothing),
            None
        );
    }

    #[test]
    fn conditions_are_those_of_the_processor() {
        let holds = |condition: u8, flags: u64| {
            let recipe = Recipe::new(condition, Place::Constant(1), Place::Nothing);
            recipe.unwrap().place(flags) == Place::Constant(1)
        };
        let (carry, zero, sign, overflow) = (1, ZERO, SIGN, OVERFLOW);
        assert!(holds(0x2, carry) && !holds(0x3, carry)); // b, ae
        assert!(holds(0x4, zero) && !holds(0x5, zero)); // e, ne
        assert!(holds(0x6, carry) && holds(0x6, zero) && holds(0x7, 0)); // be, a
        assert!(holds(0xc, sign) && !holds(0xc, sign | overflow)); // l
        assert!(holds(0xe, zero) && holds(0xe, overflow) && !holds(0xe, 0)); // le
        assert!(holds(0xf, sign | overflow) && !holds(0xf, zero)); // g
    }

    #[test]
    fn odd_conditions_are_the_even_ones_negated() {
        for flags in 0..1 << 12 {
            for condition in (0..16).step_by(2) {
                let place = |condition| {
                    let recipe = Recipe::new(condition, Place::Constant(1), Place::Nothing);
                    recipe.unwrap().place(flags)
                };
                assert_ne!(place(condition), place(condition + 1));
            }
        }
    }
}
