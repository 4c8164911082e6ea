//! Trace context carried by a request: W3C Trace Context and B3, read strictly.

mod state;

use alloc::string::String;

/// A trace context as a request carried it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceContext<'a> {
    /// Trace id; never all zero. A 64-bit B3 id is padded on the left.
    pub trace_id: [u8; 16],
    /// The span id on the wire; never all zero. W3C: the caller's span, hence the parent of the
    /// server's. B3: the span that client and server share.
    pub span_id: [u8; 8],
    /// B3 only: the parent of `span_id`.
    pub parent_span_id: Option<[u8; 8]>,
    /// Whether the caller recorded the trace; `None` where B3 leaves the decision open.
    pub sampled: Option<bool>,
    /// The `trace-flags` byte of W3C (01 sampled, 02 random trace id), other bits cleared; of B3,
    /// the sampled bit.
    pub flags: u8,
    /// How it was carried.
    pub propagation: Propagation,
    /// W3C `tracestate`, its members joined; empty where there is none.
    pub tracestate: &'a str,
}

/// The format that carried a trace context.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Propagation {
    /// `traceparent` and `tracestate`.
    W3c,
    /// `b3`, or the `X-B3-` headers.
    B3,
}

impl TraceContext<'_> {
    /// Reads the value of one `traceparent` (W3C Trace Context §3.2); `None` where it is invalid.
    ///
    /// Version 00 is exactly 55 bytes. Of a higher version the first 55 bytes count, if they are
    /// all or a `-` follows. Version ff, all-zero ids and upper-case digits are invalid.
    #[must_use]
    pub fn from_traceparent(value: &[u8]) -> Option<TraceContext<'static>> {
        let (version, rest) = value.split_at_checked(2)?;
        let (trace_id, rest) = rest.strip_prefix(b"-")?.split_at_checked(32)?;
        let (span_id, rest) = rest.strip_prefix(b"-")?.split_at_checked(16)?;
        let (flags, rest) = rest.strip_prefix(b"-")?.split_at_checked(2)?;
        let version = hex::<1>(version)?;
        if version == [0xff] || !(rest.is_empty() || version != [0] && rest.starts_with(b"-")) {
            return None;
        }
        let [flags] = hex::<1>(flags)?;
        Some(TraceContext {
            trace_id: nonzero(hex(trace_id)?)?,
            span_id: nonzero(hex(span_id)?)?,
            parent_span_id: None,
            sampled: Some(flags & 1 == 1),
            flags: flags & 3,
            propagation: Propagation::W3c,
            tracestate: "",
        })
    }

    /// Reads the value of one `b3` header, `{trace}-{span}[-{0|1|d}[-{parent}]]`; `None` where it is
    /// invalid or says only whether to sample.
    #[must_use]
    pub fn from_b3(value: &[u8]) -> Option<TraceContext<'static>> {
        let mut parts = value.split(|b| *b == b'-');
        let (trace_id, span_id) = (parts.next()?, parts.next()?);
        let sampled = match parts.next() {
            None => None,
            Some(b"0") => Some(false),
            Some(b"1" | b"d") => Some(true),
            Some(_) => return None,
        };
        let parent = match parts.next() {
            None => None,
            Some(id) => Some(nonzero(hex(id)?)?),
        };
        if parts.next().is_some() {
            return None;
        }
        b3(trace_id, span_id, parent, sampled)
    }
}

/// Collects the trace headers of one message while its headers are walked.
///
/// A header that may stand only once and stands twice is invalid. Precedence: `traceparent`, then
/// `b3`, then `X-B3-…`; an invalid one gives way to the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceHeaders<'a> {
    traceparent: Field<'a>,
    b3: Field<'a>,
    b3_trace_id: Field<'a>,
    b3_span_id: Field<'a>,
    b3_parent_span_id: Field<'a>,
    b3_sampled: Field<'a>,
    b3_flags: Field<'a>,
    /// The `tracestate` headers in order; `tracestates` of them.
    tracestate: [&'a [u8]; MAX_TRACESTATE_HEADERS],
    /// May exceed the array, which makes the whole `tracestate` invalid.
    tracestates: usize,
}

/// Repeated `tracestate` headers that are combined. Nobody needs several, and 32 members fit in one.
const MAX_TRACESTATE_HEADERS: usize = 8;
/// A header that may stand only once.
#[derive(Clone, Copy, Debug, Default)]
enum Field<'a> {
    #[default]
    Absent,
    Once(&'a [u8]),
    Repeated,
}

impl<'a> Field<'a> {
    const fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Absent => Self::Once(value),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }

    fn value(&self) -> Option<&'a [u8]> {
        match self {
            Self::Once(value) => Some(trim(value)),
            Self::Absent | Self::Repeated => None,
        }
    }
}

impl<'a> TraceHeaders<'a> {
    /// Takes one header, whose name is in any case; ignores those that carry no trace context.
    pub fn header(&mut self, name: &[u8], value: &'a [u8]) {
        // Most headers leave by their length or first letter.
        let field = match (name.len(), name) {
            (2, b"b3" | b"B3") => &mut self.b3,
            (10, [b't' | b'T', ..]) if name.eq_ignore_ascii_case(b"tracestate") => {
                if let Some(slot) = self.tracestate.get_mut(self.tracestates) {
                    *slot = value;
                }
                self.tracestates = self.tracestates.saturating_add(1);
                return;
            }
            (11, [b't' | b'T', ..]) if name.eq_ignore_ascii_case(b"traceparent") => {
                &mut self.traceparent
            }
            (10..=17, [b'x' | b'X', b'-', b'b' | b'B', b'3', b'-', rest @ ..]) => {
                match rest.len() {
                    5 if rest.eq_ignore_ascii_case(b"flags") => &mut self.b3_flags,
                    6 if rest.eq_ignore_ascii_case(b"spanid") => &mut self.b3_span_id,
                    7 if rest.eq_ignore_ascii_case(b"traceid") => &mut self.b3_trace_id,
                    7 if rest.eq_ignore_ascii_case(b"sampled") => &mut self.b3_sampled,
                    12 if rest.eq_ignore_ascii_case(b"parentspanid") => &mut self.b3_parent_span_id,
                    _ => return,
                }
            }
            _ => return,
        };
        field.add(value);
    }

    /// The trace context that the headers carry, if any.
    ///
    /// `scratch` is overwritten where the `tracestate` must be put together; an invalid `tracestate`
    /// is left out and never invalidates the rest.
    #[must_use]
    pub fn context<'s>(&self, scratch: &'s mut String) -> Option<TraceContext<'s>>
    where
        'a: 's,
    {
        let traceparent = self.traceparent.value();
        if let Some(context) = traceparent.and_then(TraceContext::from_traceparent) {
            return Some(TraceContext {
                tracestate: self.tracestate(scratch),
                ..context
            });
        }
        let single = self.b3.value().and_then(TraceContext::from_b3);
        single.or_else(|| self.multiple_b3())
    }

    fn tracestate<'s>(&self, scratch: &'s mut String) -> &'s str
    where
        'a: 's,
    {
        let headers = self.tracestate.get(..self.tracestates);
        headers
            .and_then(|headers| state::combine(headers, scratch))
            .unwrap_or("")
    }

    fn multiple_b3(&self) -> Option<TraceContext<'static>> {
        let sampled = match (self.b3_flags.value(), self.b3_sampled.value()) {
            (Some(b"1"), _) | (_, Some(b"1")) => Some(true),
            (_, Some(b"0")) => Some(false),
            // Old senders.
            (_, Some(word)) if word.eq_ignore_ascii_case(b"true") => Some(true),
            (_, Some(word)) if word.eq_ignore_ascii_case(b"false") => Some(false),
            _ => None,
        };
        let parent = self
            .b3_parent_span_id
            .value()
            .and_then(hex)
            .and_then(nonzero);
        b3(
            self.b3_trace_id.value()?,
            self.b3_span_id.value()?,
            parent,
            sampled,
        )
    }
}

fn b3(
    trace_id: &[u8],
    span_id: &[u8],
    parent_span_id: Option<[u8; 8]>,
    sampled: Option<bool>,
) -> Option<TraceContext<'static>> {
    let trace_id = match trace_id.len() {
        16 => {
            let mut padded = [0; 16];
            padded
                .last_chunk_mut()
                .map(|low| hex::<8>(trace_id).map(|id| *low = id))??;
            padded
        }
        _ => hex(trace_id)?,
    };
    Some(TraceContext {
        trace_id: nonzero(trace_id)?,
        span_id: nonzero(hex(span_id)?)?,
        parent_span_id,
        sampled,
        flags: u8::from(sampled == Some(true)),
        propagation: Propagation::B3,
        tracestate: "",
    })
}

/// Reads exactly `N` bytes of lower-case hex.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    // No branch for each digit: most are right, and this is read for every request.
    let mut seen = 0;
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (high, low) = (nibble(*high), nibble(*low));
        seen |= high | low;
        *byte = high << 4 | low;
    }
    (seen <= 0xf).then_some(bytes)
}

/// The value of a lower-case hex digit; above 0xf where it is none.
const fn nibble(digit: u8) -> u8 {
    let (decimal, letter) = (digit.wrapping_sub(b'0'), digit.wrapping_sub(b'a'));
    if decimal < 10 {
        decimal
    } else if letter < 6 {
        letter.wrapping_add(10)
    } else {
        0xff
    }
}

fn nonzero<const N: usize>(id: [u8; N]) -> Option<[u8; N]> {
    (id != [0; N]).then_some(id)
}

/// Without the optional white space around a header's value.
const fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";
    const PARENT: &str = "05e3ac9a4f6e3b90";

    fn parent(value: &str) -> Option<TraceContext<'static>> {
        TraceContext::from_traceparent(value.as_bytes())
    }

    /// Reads headers as written, and gives the context to `check`.
    fn read(headers: &[(&str, &str)], check: impl FnOnce(Option<TraceContext<'_>>)) {
        let mut collected = TraceHeaders::default();
        for (name, value) in headers {
            collected.header(name.as_bytes(), value.as_bytes());
        }
        check(collected.context(&mut String::from("stale")));
    }

    fn tracestate(values: &[&str]) -> String {
        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let mut headers = alloc::vec![("traceparent", w3c.as_str())];
        headers.extend(values.iter().map(|value| ("TraceState", *value)));
        let mut state = String::new();
        read(&headers, |context| {
            state = context.unwrap().tracestate.to_string()
        });
        state
    }

    #[test]
    fn a_traceparent_is_read() {
        let context = parent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(
            context.trace_id,
            0x4bf92f3577b34da6a3ce929d0e0e4736_u128.to_be_bytes()
        );
        assert_eq!(context.span_id, 0x00f067aa0ba902b7_u64.to_be_bytes());
        assert_eq!((context.sampled, context.flags), (Some(true), 1));
        assert_eq!(
            (context.parent_span_id, context.propagation),
            (None, Propagation::W3c)
        );
    }

    #[test]
    fn traceparent_flags_keep_sampled_and_random_only() {
        for (flags, sampled, kept) in [("00", false, 0), ("02", false, 2), ("ff", true, 3)] {
            let context = parent(&format!("00-{TRACE}-{SPAN}-{flags}")).unwrap();
            assert_eq!(
                (context.sampled, context.flags),
                (Some(sampled), kept),
                "{flags}"
            );
        }
    }

    #[test]
    fn a_higher_version_may_be_longer() {
        assert!(parent(&format!("01-{TRACE}-{SPAN}-01")).is_some());
        assert!(parent(&format!("cc-{TRACE}-{SPAN}-01-what-the-future")).is_some());
        assert!(parent(&format!("cc-{TRACE}-{SPAN}-01-")).is_some());
        assert!(parent(&format!("cc-{TRACE}-{SPAN}-01.what")).is_none());
    }

    #[test]
    fn an_invalid_traceparent_is_none() {
        let zeros = "0".repeat(32);
        for value in [
            String::new(),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-011"),
            format!("00-{TRACE}-{SPAN}"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-011"),
            format!("0x-{TRACE}-{SPAN}-01"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}0-{}-01", &SPAN[1..]),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!("00-{TRACE}-{SPAN}-0é"),
        ] {
            assert_eq!(parent(&value), None, "{value:?}");
        }
    }

    #[test]
    fn header_names_are_read_in_any_case_and_values_trimmed() {
        let value = format!(" 00-{TRACE}-{SPAN}-01\t");
        for name in ["traceparent", "Traceparent", "TRACEPARENT", "traceParent"] {
            read(&[("accept", "x"), (name, &value)], |context| {
                assert!(context.is_some())
            });
        }
    }

    #[test]
    fn several_traceparents_are_invalid() {
        let value = format!("00-{TRACE}-{SPAN}-01");
        let headers = [("traceparent", value.as_str()), ("traceparent", &value)];
        read(&headers, |context| assert_eq!(context, None));
    }

    #[test]
    fn tracestate_headers_are_combined_in_order() {
        assert_eq!(tracestate(&[]), "");
        assert_eq!(tracestate(&["foo=1,bar=2"]), "foo=1,bar=2");
        assert_eq!(
            tracestate(&["foo=1", "bar=2, ,baz=3\t"]),
            "foo=1,bar=2,baz=3"
        );
        assert_eq!(tracestate(&["t61rcwkgmzE=1"]), "", "upper case in a key");
        assert_eq!(
            tracestate(&["fw529a3039@dt=FfAAAAS1,0a=b c"]),
            "fw529a3039@dt=FfAAAAS1,0a=b c"
        );
    }

    #[test]
    fn a_bad_tracestate_is_dropped_alone() {
        for bad in [
            "foo",
            "foo=",
            "=1",
            "foo=1,b\u{e4}r=2",
            "foo=a=b",
            "foo =1",
            "_a=1",
        ] {
            assert_eq!(tracestate(&[bad]), "", "{bad:?}");
        }
        let many = (0..33)
            .map(|i| format!("k{i}=1"))
            .collect::<alloc::vec::Vec<_>>();
        assert_eq!(tracestate(&[&many.join(",")]), "");
        assert_eq!(tracestate(&[&many[..32].join(",")]), many[..32].join(","));
        assert_eq!(
            tracestate(&["a=1"; 9]),
            "",
            "more headers than are combined"
        );
    }

    #[test]
    fn a_long_tracestate_loses_long_members_first_and_then_the_last() {
        let long = format!("long={}", "x".repeat(200));
        let short = |n: usize| format!("s{n:02}={}", "y".repeat(96));
        assert_eq!(
            tracestate(&[&format!("{long},a=1")]),
            format!("{long},a=1"),
            "it fits"
        );
        let list = (0..6).map(short).collect::<alloc::vec::Vec<_>>();
        let all = format!("{long},{}", list.join(","));
        assert_eq!(tracestate(&[&all]), list[..5].join(","));
        let exact = format!("a={},b={}", "x".repeat(253), "y".repeat(254));
        assert_eq!(exact.len(), 512);
        assert_eq!(tracestate(&[&exact]), exact, "512 characters are kept");
    }

    #[test]
    fn a_tracestate_without_traceparent_is_discarded() {
        read(&[("tracestate", "foo=1")], |context| {
            assert_eq!(context, None)
        });
        let b3 = format!("{TRACE}-{SPAN}");
        read(&[("tracestate", "foo=1"), ("b3", &b3)], |context| {
            assert_eq!(context.unwrap().tracestate, "");
        });
    }

    #[test]
    fn a_single_b3_header_is_read() {
        for (rest, sampled, parent, flags) in [
            ("", None, None, 0),
            ("-0", Some(false), None, 0),
            ("-1", Some(true), None, 1),
            ("-d", Some(true), None, 1),
            (
                "-1-05e3ac9a4f6e3b90",
                Some(true),
                Some(0x05e3ac9a4f6e3b90_u64.to_be_bytes()),
                1,
            ),
        ] {
            let value = format!("{TRACE}-{SPAN}{rest}");
            let context = TraceContext::from_b3(value.as_bytes()).unwrap();
            assert_eq!(context.span_id, 0x00f067aa0ba902b7_u64.to_be_bytes());
            assert_eq!(
                (context.sampled, context.parent_span_id, context.flags),
                (sampled, parent, flags),
                "{value}"
            );
            assert_eq!(context.propagation, Propagation::B3);
        }
    }

    #[test]
    fn a_64_bit_b3_trace_id_is_padded_on_the_left() {
        let value = format!("{SPAN}-{PARENT}");
        let context = TraceContext::from_b3(value.as_bytes()).unwrap();
        assert_eq!(context.trace_id, 0x00f067aa0ba902b7_u128.to_be_bytes());
    }

    #[test]
    fn an_invalid_b3_header_is_none() {
        for value in [
            "0",
            "1",
            "d",
            "",
            "-",
            "00f067aa0ba902b7",
            "00f067aa0ba902b7-00f067aa0ba902b",
            "00f067aa0ba902b7-00f067aa0ba902b7-2",
            "00f067aa0ba902b7-00f067aa0ba902b7-1-00",
            "00f067aa0ba902b7-00f067aa0ba902b7-1-00f067aa0ba902b7-",
            "0000000000000000-00f067aa0ba902b7",
            "00f067aa0ba902b7-0000000000000000",
            "00F067AA0BA902B7-00f067aa0ba902b7",
        ] {
            assert_eq!(TraceContext::from_b3(value.as_bytes()), None, "{value:?}");
        }
    }

    #[test]
    fn multiple_b3_headers_are_read() {
        let ids = [
            ("X-B3-TraceId", TRACE),
            ("x-b3-spanid", SPAN),
            ("X-B3-ParentSpanId", PARENT),
        ];
        for (name, value, sampled) in [
            ("X-B3-Sampled", "1", Some(true)),
            ("X-B3-Sampled", "0", Some(false)),
            ("X-B3-Sampled", "True", Some(true)),
            ("X-B3-Sampled", "false", Some(false)),
            ("X-B3-Sampled", "maybe", None),
            ("X-B3-Flags", "1", Some(true)),
            ("X-B3-Flags", "0", None),
        ] {
            let [a, b, c] = ids;
            read(&[a, b, c, (name, value)], |context| {
                let context = context.unwrap();
                assert_eq!(context.sampled, sampled, "{name}: {value}");
                assert_eq!(
                    context.parent_span_id,
                    Some(0x05e3ac9a4f6e3b90_u64.to_be_bytes())
                );
            });
        }
        read(&ids[..1], |context| assert_eq!(context, None));
    }

    #[test]
    fn traceparent_wins_over_b3_and_single_over_multiple() {
        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let single = format!("{TRACE}-{PARENT}");
        let all = [
            ("x-b3-traceid", TRACE),
            ("x-b3-spanid", "00000000000000aa"),
            ("b3", &single),
            ("traceparent", &w3c),
        ];
        let span = |headers: &[(&str, &str)]| {
            let mut id = 0;
            read(headers, |context| {
                id = u64::from_be_bytes(context.unwrap().span_id)
            });
            id
        };
        assert_eq!(span(&all), 0x00f067aa0ba902b7);
        assert_eq!(span(&all[..3]), 0x05e3ac9a4f6e3b90);
        assert_eq!(span(&all[..2]), 0xaa);
        assert_eq!(
            span(&[all[0], all[1], ("b3", "0")]),
            0xaa,
            "an unusable one gives way"
        );
    }
}
