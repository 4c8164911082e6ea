//! Events of the ring buffer, read without trust: a record that does not fit is no event.

use wirespan_capture_abi::{Binding, Direction, HEADER_LEN, Header, Tuple, UnixEnds};
use wirespan_engine::UnixName;

/// What the kernel side has seen.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    pub(crate) header: Header,
    pub(crate) what: What<'a>,
}

#[derive(Debug)]
pub(crate) enum What<'a> {
    /// Bytes moved; fewer than `moved` may have been copied.
    Data {
        direction: Direction,
        bytes: &'a [u8],
    },
    /// A connection; of Unix sockets with the observed one's name and its peer's.
    Open(Tuple, Option<Box<[UnixName; 2]>>),
    End(Direction),
    Close,
    /// Name of a process.
    Process([u8; 16]),
    Exec,
    Exit,
    /// The socket of a TLS session is known.
    Bind(Binding),
    /// A TLS session is gone.
    Unbind,
    /// A process has mapped code.
    Mapped,
}

impl What<'_> {
    /// Whether it tells of a process, whatever that has to do with connections.
    pub(crate) const fn is_of_process(&self) -> bool {
        matches!(
            self,
            Self::Process(_) | Self::Exec | Self::Exit | Self::Mapped
        )
    }
}

/// Reads an event.
pub(crate) fn read(record: &[u8]) -> Option<Event<'_>> {
    let (head, payload) = record.split_first_chunk::<HEADER_LEN>()?;
    let header = header(head);
    let payload = payload.get(..header.len as usize)?;
    let direction = match header.direction {
        0 => Direction::Sent,
        1 => Direction::Received,
        _ => return None,
    };
    let what = match header.kind {
        1 => What::Data {
            direction,
            bytes: payload,
        },
        2 => open(payload)?,
        3 => What::End(direction),
        4 => What::Close,
        5 => What::Process(payload.try_into().ok()?),
        6 => What::Exec,
        7 => What::Exit,
        8 => What::Bind(binding(payload.try_into().ok()?)),
        9 => What::Unbind,
        10 => What::Mapped,
        _ => return None,
    };
    Some(Event { header, what })
}

fn open(payload: &[u8]) -> Option<What<'_>> {
    if let Ok(payload) = payload.try_into() {
        return Some(What::Open(tuple(payload), None));
    }
    let ends = unix_ends(payload.try_into().ok()?);
    let name = |name: wirespan_capture_abi::UnixName| {
        let len = name.path.len().min(name.len as usize);
        UnixName::new(name.path.get(..len).unwrap_or_default())
    };
    let names = [name(ends.local), name(ends.remote)];
    Some(What::Open(ends.tuple, Some(Box::new(names))))
}

#[allow(unsafe_code, reason = "plain data, any bytes are a value")]
fn header(bytes: &[u8; HEADER_LEN]) -> Header {
    // SAFETY: integers only, without padding; the length is that of the type.
    unsafe { bytes.as_ptr().cast::<Header>().read_unaligned() }
}

#[allow(unsafe_code, reason = "plain data, any bytes are a value")]
fn tuple(bytes: &[u8; size_of::<Tuple>()]) -> Tuple {
    // SAFETY: as above.
    unsafe { bytes.as_ptr().cast::<Tuple>().read_unaligned() }
}

#[allow(unsafe_code, reason = "plain data, any bytes are a value")]
fn binding(bytes: &[u8; size_of::<Binding>()]) -> Binding {
    // SAFETY: as above.
    unsafe { bytes.as_ptr().cast::<Binding>().read_unaligned() }
}

#[allow(unsafe_code, reason = "plain data, any bytes are a value")]
fn unix_ends(bytes: &[u8; size_of::<UnixEnds>()]) -> UnixEnds {
    // SAFETY: as above.
    unsafe { bytes.as_ptr().cast::<UnixEnds>().read_unaligned() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(header: Header, payload: &[u8]) -> Vec<u8> {
        #[allow(unsafe_code, reason = "plain data")]
        // SAFETY: integers only, without padding.
        let head: [u8; HEADER_LEN] = unsafe { std::mem::transmute(header) };
        [&head, payload].concat()
    }

    #[test]
    fn payload_ends_where_the_header_says_not_where_the_record_does() {
        let bytes = record(
            Header {
                kind: 1,
                len: 3,
                moved: 9,
                ..Header::default()
            },
            b"abc and what was there before",
        );
        let event = read(&bytes).unwrap();
        assert!(matches!(event.what, What::Data { bytes: b"abc", .. }));
        assert_eq!(event.header.moved, 9);
    }

    #[test]
    fn names_of_unix_sockets_end_where_they_say_or_where_there_is_no_more_room() {
        let name = |len, text: &[u8]| {
            let mut path = [b'?'; wirespan_capture_abi::UnixName::LONGEST];
            path[..text.len()].copy_from_slice(text);
            wirespan_capture_abi::UnixName { len, path }
        };
        let ends = UnixEnds {
            tuple: Tuple::default(),
            local: name(5, b"\0name"),
            remote: name(u32::MAX, b"/p\0"),
        };
        #[allow(unsafe_code, reason = "plain data")]
        // SAFETY: integers only, without padding.
        let payload: [u8; size_of::<UnixEnds>()] = unsafe { std::mem::transmute(ends) };
        let head = Header {
            kind: 2,
            len: payload.len() as u32,
            ..Header::default()
        };
        let bytes = record(head, &payload);
        let Some(What::Open(_, Some(names))) = read(&bytes).map(|event| event.what) else {
            panic!("no names");
        };
        assert_eq!(names.map(|name| name.to_string()), ["@name", "/p"]);
    }

    #[test]
    fn what_does_not_fit_is_no_event() {
        let good = Header {
            kind: 1,
            len: 8,
            ..Header::default()
        };
        assert!(read(&record(good, b"12345678")).is_some());
        assert!(read(&record(good, b"1234567")).is_none(), "cut");
        assert!(read(&record(good, b"")[..HEADER_LEN - 1]).is_none());
        assert!(read(&record(Header { kind: 99, ..good }, b"12345678")).is_none());
        assert!(
            read(&record(
                Header {
                    direction: 2,
                    ..good
                },
                b"12345678"
            ))
            .is_none()
        );
        assert!(read(&record(Header { kind: 2, ..good }, b"12345678")).is_none());
    }
}
