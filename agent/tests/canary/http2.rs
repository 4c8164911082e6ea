//! HTTP/2 and gRPC: header blocks in all their forms, metadata, messages, what frames carry beside.

use crate::talk::Talk;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;

const END_HEADERS: u8 = 4;
/// With `END_STREAM`.
const END_BOTH: u8 = 5;

/// How a literal is represented (RFC 7541 §6.2).
const INDEXED: u8 = 0x40;
const PLAIN: u8 = 0x00;
const NEVER_INDEXED: u8 = 0x10;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn string(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).expect("short");
    assert!(len < 127, "a length of one byte");
    [&[len], text.as_bytes()].concat()
}

/// Literal fields, their names written out.
fn block(fields: &[(u8, &str, &str)]) -> Vec<u8> {
    let field = |(form, name, value): &(u8, &str, &str)| {
        [vec![*form], string(name), string(value)].concat()
    };
    fields.iter().flat_map(field).collect()
}

fn request(stream: u32, flags: u8, path: &str, more: &[(u8, &str, &str)]) -> Vec<u8> {
    let mut fields = vec![
        (PLAIN, ":method", "POST"),
        (PLAIN, ":scheme", "http"),
        (PLAIN, ":path", path),
        (PLAIN, ":authority", "example.com"),
    ];
    fields.extend(more);
    frame(HEADERS, flags, stream, &block(&fields))
}

fn response(stream: u32, flags: u8, more: &[(u8, &str, &str)]) -> Vec<u8> {
    let fields = [&[(PLAIN, ":status", "200")], more].concat();
    frame(HEADERS, flags, stream, &block(&fields))
}

fn start(t: &mut Talk) {
    let settings = frame(SETTINGS, 0, 0, &[]);
    t.client([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat());
    t.server(&settings);
}

pub(crate) fn talks() -> Vec<Talk> {
    vec![headers(), streams(), calls()]
}

fn headers() -> Talk {
    let mut talk = Talk::new("http2 headers", 8080);
    let t = &mut talk;
    start(t);
    let mut stream = 1;
    for (form, how) in [
        (PLAIN, "plain"),
        (INDEXED, "indexed"),
        (NEVER_INDEXED, "never indexed"),
    ] {
        for name in [
            "authorization",
            "cookie",
            "x-api-key",
            "proxy-authorization",
        ] {
            let secret = t.credential(&format!("{name}, {how}"));
            t.client(request(stream, END_BOTH, "/a", &[(form, name, &secret)]));
            t.server(response(stream, END_BOTH, &[]));
            stream += 2;
        }
    }
    // The newest entries of the dynamic table: two of those above.
    let path = [
        (PLAIN, ":method", "GET"),
        (PLAIN, ":scheme", "http"),
        (PLAIN, ":path", "/again"),
    ];
    let again = [block(&path), vec![0x80 | 62, 0x80 | 63]].concat();
    t.client(frame(HEADERS, END_BOTH, stream, &again));
    t.server(response(stream, END_BOTH, &[]));
    stream += 2;
    for path in ["/a?token=", "/a;jsessionid=", "/a?user_password="] {
        let secret = t.literal(path);
        t.client(request(stream, END_BOTH, &format!("{path}{secret}"), &[]));
        t.server(response(stream, END_BOTH, &[]));
        stream += 2;
    }
    let secret = t.literal("path, indexed");
    let fields = [
        (PLAIN, ":method", "GET"),
        (PLAIN, ":scheme", "http"),
        (INDEXED, ":path", &format!("/a?token={secret}")),
    ];
    t.client(frame(HEADERS, END_BOTH, stream, &block(&fields)));
    t.server(response(stream, END_BOTH, &[]));
    stream += 2;
    let secret = t.credential("userinfo of the authority");
    let authority = format!("joe:{secret}@example.com");
    let fields = [
        (PLAIN, ":method", "GET"),
        (PLAIN, ":scheme", "http"),
        (PLAIN, ":path", "/a"),
        (PLAIN, ":authority", &authority),
    ];
    t.client(frame(HEADERS, END_BOTH, stream, &block(&fields)));
    let (cookie, location) = (t.credential("set-cookie"), t.credential("location"));
    t.server(response(
        stream,
        END_BOTH,
        &[
            (INDEXED, "set-cookie", &cookie),
            (PLAIN, "location", &location),
        ],
    ));
    talk
}

fn streams() -> Talk {
    let mut talk = Talk::new("http2 streams", 8080);
    let t = &mut talk;
    start(t);
    let (body, padding) = (t.body("DATA"), t.body("padding of DATA"));
    t.client(request(1, END_HEADERS, "/upload", &[]));
    let padded = [&[16], body.as_bytes(), padding.as_bytes()].concat();
    t.client(frame(DATA, 0x08 | 0x01, 1, &padded));
    let promised = t.body("path of a promise");
    let path = format!("/pushed?token={promised}");
    let promise = block(&[
        (PLAIN, ":method", "GET"),
        (PLAIN, ":scheme", "http"),
        (PLAIN, ":path", &path),
    ]);
    t.server(frame(
        PUSH_PROMISE,
        END_HEADERS,
        1,
        &[&[0, 0, 0, 2], &promise[..]].concat(),
    ));
    let answer = t.body("DATA of the server");
    t.server(response(1, END_HEADERS, &[]));
    t.server(frame(DATA, 1, 1, answer.as_bytes()));
    let trailer = t.credential("trailer");
    t.client(request(3, END_HEADERS, "/upload", &[]));
    t.client(frame(
        HEADERS,
        END_BOTH,
        3,
        &block(&[(NEVER_INDEXED, "x-signature", &trailer)]),
    ));
    t.server(frame(RST_STREAM, 0, 3, &[0, 0, 0, 2]));
    // PING has eight bytes; a frame of an unknown kind has more, and is passed over likewise.
    let extension = t.body("frame of an unknown kind");
    t.client(frame(0x0a, 0, 0, extension.as_bytes()));
    let debug = t.body("GOAWAY");
    t.server(frame(
        GOAWAY,
        0,
        0,
        &[&[0, 0, 0, 3, 0, 0, 0, 2], debug.as_bytes()].concat(),
    ));
    talk
}

fn calls() -> Talk {
    let mut talk = Talk::new("grpc", 50_051);
    let t = &mut talk;
    start(t);
    let message = |text: &str| [&[0, 0, 0, 0, 18, 0x0a, 16], text.as_bytes()].concat();
    let call = [
        (PLAIN, "te", "trailers"),
        (PLAIN, "content-type", "application/grpc"),
    ];
    let answer = [(PLAIN, "content-type", "application/grpc")];
    let mut stream = 1;
    for (form, name) in [
        (NEVER_INDEXED, "authorization"),
        (INDEXED, "authorization"),
        (PLAIN, "x-api-key"),
        (INDEXED, "x-user-bin"),
        (PLAIN, "grpc-tags-bin"),
    ] {
        let secret = t.credential(&format!("{name} {form}"));
        let fields = [&call[..], &[(form, name, &secret)]].concat();
        let (asked, told) = (
            t.body(&format!("message of call {stream}")),
            t.body(&format!("message to call {stream}")),
        );
        t.client(request(stream, END_HEADERS, "/shop.Cart/Add", &fields));
        t.client(frame(DATA, 1, stream, &message(&asked)));
        t.server(response(stream, END_HEADERS, &answer));
        t.server(frame(DATA, 0, stream, &message(&told)));
        let (text, details) = (
            t.body(&format!("grpc-message {stream}")),
            t.body(&format!("grpc-status-details-bin {stream}")),
        );
        t.server(frame(
            HEADERS,
            END_BOTH,
            stream,
            &block(&[
                (PLAIN, "grpc-status", "3"),
                (INDEXED, "grpc-message", &text),
                (PLAIN, "grpc-status-details-bin", &details),
            ]),
        ));
        stream += 2;
    }
    let secret = t.body("query of a method");
    t.client(request(
        stream,
        END_HEADERS,
        &format!("/shop.Cart/Add?token={secret}"),
        &call,
    ));
    t.client(frame(DATA, 1, stream, &message("0123456789012345")));
    t.server(response(
        stream,
        END_BOTH,
        &[&answer[..], &[(PLAIN, "grpc-status", "12")]].concat(),
    ));
    talk
}
