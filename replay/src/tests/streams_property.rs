//! However segments are cut, repeated and shuffled within a window, the streams are the same.

use proptest::prelude::*;

use super::recorder::*;

const CLIENT_ISN: u32 = u32::MAX - 40;
const SERVER_ISN: u32 = 500;

/// A dialogue of both sides, each cut at the given lengths, with every segment acknowledging what
/// came before it from the other side.
fn dialogue(turns: &[(bool, Vec<usize>)]) -> (Vec<Sent>, [String; 2]) {
    let mut segments = Vec::new();
    let mut texts = [String::new(), String::new()];
    for (from_client, lens) in turns {
        let (from, me) = if *from_client {
            (Client, 0)
        } else {
            (Server, 1)
        };
        for len in lens {
            let start = texts[me].len();
            let data: String = (start..start + len)
                .map(|n| char::from(b'!' + ((n * 7 + me) % 90) as u8))
                .collect();
            let (seq, ack) = (number(me, start), number(1 - me, texts[1 - me].len()));
            segments.push(sent(from, ACK, seq, ack, data.as_bytes()));
            texts[me].push_str(&data);
        }
    }
    (segments, texts)
}

fn number(side: usize, offset: usize) -> u32 {
    let isn = if side == 0 { CLIENT_ISN } else { SERVER_ISN };
    isn.wrapping_add(1).wrapping_add(offset as u32)
}

/// Shuffles within windows of `window` segments, and repeats some.
fn disturb(segments: &[Sent], window: usize, seeds: &[u8]) -> Vec<Sent> {
    let mut disturbed = Vec::new();
    for (part, seed) in segments.chunks(window.max(1)).zip(seeds.iter().cycle()) {
        let mut part = part.to_vec();
        match seed % 4 {
            0 => part.reverse(),
            1 => part.extend(part.clone()),
            2 => {
                let by = usize::from(*seed) % part.len();
                part.rotate_left(by);
            }
            _ => {}
        }
        disturbed.extend(part);
    }
    disturbed
}

fn turns() -> impl Strategy<Value = Vec<(bool, Vec<usize>)>> {
    prop::collection::vec(
        (any::<bool>(), prop::collection::vec(1..40_usize, 1..5)),
        1..12,
    )
}

proptest! {
    #[test]
    fn a_whole_connection_is_the_same_in_any_order(
        turns in turns(),
        window in 1..12_usize,
        seeds in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        let (data, texts) = dialogue(&turns);
        let mut segments = vec![
            sent(Client, SYN, CLIENT_ISN, 0, b""),
            sent(Server, SYN | ACK, SERVER_ISN, CLIENT_ISN.wrapping_add(1), b""),
        ];
        segments.extend(data);
        let ends = [number(0, texts[0].len()), number(1, texts[1].len())];
        segments.push(sent(Client, FIN | ACK, ends[0], ends[1], b""));
        segments.push(sent(Server, FIN | ACK, ends[1], ends[0].wrapping_add(1), b""));
        segments.push(sent(Client, ACK, ends[0].wrapping_add(1), ends[1].wrapping_add(1), b""));
        let (recorder, _) = play(&disturb(&segments, window, &seeds));
        let told = only(&recorder);
        prop_assert_eq!(told.to_server().text(), &texts[0][..]);
        prop_assert_eq!(told.to_client().text(), &texts[1][..]);
        let length = |stream: &Stream| stream.end.map(|end| end - stream.anchor.unwrap_or(0));
        prop_assert_eq!(length(told.to_server()), Some(texts[0].len() as u64));
        prop_assert_eq!(length(told.to_client()), Some(texts[1].len() as u64));
    }

    #[test]
    fn a_connection_joined_in_the_middle_is_the_same_in_any_order(
        turns in turns(),
        window in 1..12_usize,
        seeds in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        let (segments, texts) = dialogue(&turns);
        let (recorder, _) = play(&disturb(&segments, window, &seeds));
        let told = only(&recorder);
        prop_assert_eq!(told.to_server().text(), &texts[0][..]);
        prop_assert_eq!(told.to_client().text(), &texts[1][..]);
    }

    #[test]
    fn arbitrary_segments_break_no_rule_of_the_engine(
        segments in prop::collection::vec(
            (any::<bool>(), 0..32_u8, 0..6_u32, 0..6_u32, 0..4_usize, 0..600_u64),
            0..60,
        ),
    ) {
        let segments: Vec<Sent> = segments
            .into_iter()
            .map(|(client, flags, seq, ack, len, ms)| {
                let from = if client { Client } else { Server };
                let near = |n: u32| if n == 5 { 1 << 31 } else { 100 + n };
                sent(from, flags, near(seq), near(ack), &vec![b'x'; len]).at(ms)
            })
            .collect();
        // The recorder asserts what it is told.
        play(&segments);
    }
}
