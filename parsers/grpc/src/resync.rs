//! Where a frame could begin in bytes of which that is not known.

use wirespan_parser_api::Direction;

use crate::wire::{self, DEFAULT_MAX_FRAME, HEAD, Head, Kind, PREFACE, flag};

/// Bytes that are shown again when nothing is found: a shorter candidate need not be decided yet.
const SHOWN_AGAIN: usize = 64;
/// How far above the highest stream so far a new one is believed.
const STREAMS_AHEAD: u32 = 1 << 20;

/// The first place where two frames follow each other; else the first frame that ends where the window
/// does; else, where the window is long, one that reaches out of it.
/// `highest`: the highest stream so far, 0 if none is known.
pub(crate) fn find(dir: Direction, window: &[u8], highest: u32) -> Option<usize> {
    let (mut whole, mut begun) = (None, None);
    for at in 0..window.len() {
        let rest = window.get(at..).unwrap_or_default();
        if dir == Direction::ToServer && rest.starts_with(PREFACE) {
            return Some(at);
        }
        let Some(first) = wire::head(rest).filter(|head| is_plausible(dir, head, highest)) else {
            continue;
        };
        let behind = HEAD.saturating_add(first.payload());
        match rest.get(behind..).map(wire::head) {
            Some(Some(second)) if is_plausible(dir, &second, highest) => return Some(at),
            Some(Some(_)) => {}
            _ if rest.len() == behind => whole = whole.or(Some(at)),
            // A shorter one is shown again, with what decides.
            _ if rest.len() > SHOWN_AGAIN => begun = begun.or(Some(at)),
            _ => {}
        }
    }
    whole.or(begun)
}

/// Whether these nine bytes look like the header of a frame. For random ones, rarely.
pub(crate) fn is_plausible(dir: Direction, head: &Head, highest: u32) -> bool {
    let only = |flags: u8| head.flags & !flags == 0;
    let size = |least: u32| (least..=DEFAULT_MAX_FRAME).contains(&head.len);
    let known = match highest {
        0 => true,
        highest => head.stream <= highest.saturating_add(STREAMS_AHEAD),
    };
    let request = head.stream % 2 == 1 && known;
    let right = match head.kind {
        Kind::DATA => only(flag::END_STREAM | flag::PADDED) && size(0) && request,
        Kind::HEADERS => {
            let flags = flag::END_STREAM | flag::END_HEADERS | flag::PADDED | flag::PRIORITY;
            only(flags) && size(1) && request
        }
        Kind::PRIORITY | Kind::RST_STREAM => only(0) && known,
        Kind::SETTINGS => only(flag::ACK) && head.len <= 6 * 32,
        Kind::PUSH_PROMISE => {
            let flags = flag::END_HEADERS | flag::PADDED;
            dir == Direction::ToClient && only(flags) && size(5) && request
        }
        Kind::PING => only(flag::ACK),
        Kind::GOAWAY => only(0) && head.len <= 1024,
        Kind::WINDOW_UPDATE => only(0) && known,
        Kind::CONTINUATION => only(flag::END_HEADERS) && size(1) && request,
        _ => false,
    };
    right && !head.reserved && head.fault().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPDATE: &[u8] = b"\0\0\x04\x08\0\0\0\0\x01\0\0\x10\0";
    const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingping";

    fn find_in(parts: &[&[u8]]) -> Option<usize> {
        find(Direction::ToClient, &parts.concat(), 0)
    }

    #[test]
    fn two_frames_behind_each_other_are_found() {
        assert_eq!(find_in(&[UPDATE, PING]), Some(0));
        assert_eq!(
            find_in(&[b"rest of a body", UPDATE, PING, b"\0\0"]),
            Some(14)
        );
    }

    #[test]
    fn one_frame_that_ends_with_the_window_is_found() {
        assert_eq!(find_in(&[b"rest of a body", PING]), Some(14));
    }

    #[test]
    fn one_long_frame_is_found() {
        let data = [b"\0\x40\0\0\0\0\0\0\x05".as_slice(), &[b'x'; 100]].concat();
        assert_eq!(find_in(&[b"rest", &data]), Some(4));
    }

    #[test]
    fn a_frame_that_is_whole_goes_before_one_that_reaches_out_of_the_window() {
        let reaching = b"\0\x40\0\0\0\0\0\0\x05";
        let tail = [b"x".repeat(80).as_slice(), PING].concat();
        assert_eq!(find_in(&[reaching, &tail]), Some(89));
    }

    #[test]
    fn a_frame_that_reaches_out_of_a_short_window_is_not_believed_yet() {
        // The end of a DATA frame's header, and a message: at an offset by three, a header as well.
        let shifted = b"\0\0\x01\0\0\0\0\x0ammmmmmmmmm";
        assert_eq!(find_in(&[shifted]), None);
    }

    #[test]
    fn text_has_no_frames() {
        assert_eq!(
            find_in(&[&b"the quick brown fox jumps over the lazy dog".repeat(9)]),
            None
        );
    }

    #[test]
    fn a_preface_is_found() {
        assert_eq!(
            find(Direction::ToServer, &[b"x", PREFACE].concat(), 0),
            Some(1)
        );
    }
}
