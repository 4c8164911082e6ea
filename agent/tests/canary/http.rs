//! HTTP/1.1: headers, targets, bodies.

use crate::talk::Talk;

pub(crate) fn talks() -> Vec<Talk> {
    vec![
        headers(),
        targets(),
        bodies(),
        proxy(),
        tunnel(),
        websocket(),
    ]
}

/// A request with these header lines.
fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: example.com\r\n{lines}\r\n")
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn headers() -> Talk {
    let mut talk = Talk::new("http headers", 80);
    let t = &mut talk;
    for name in [
        "Authorization: Basic ",
        "Authorization: Bearer ",
        "Authorization: Digest username=\"joe\", response=",
        "Proxy-Authorization: Basic ",
        "Cookie: session=",
        "X-Api-Key: ",
        "X-Auth-Token: ",
        "X-Csrf-Token: ",
        "X-Amz-Security-Token: ",
        "Referer: https://example.com/?token=",
        "From: ",
        "X-Forwarded-Authorization: ",
        "Sec-WebSocket-Protocol: bearer, ",
        "Baggage: user=",
        "If-None-Match: ",
    ] {
        let secret = t.credential(name);
        t.client(get("/a", &format!("{name}{secret}\r\n")))
            .server(OK);
    }
    let secret = t.credential("userinfo in Host");
    t.client(format!(
        "GET /a HTTP/1.1\r\nHost: joe:{secret}@example.com\r\n\r\n"
    ))
    .server(OK);
    let secret = t.credential("folded header");
    t.client(get("/a", &format!("Authorization: Basic\r\n {secret}\r\n")))
        .server(OK);
    for name in [
        "Set-Cookie: session=",
        "Location: https://example.com/?code=",
        "WWW-Authenticate: Digest nonce=",
        "Authentication-Info: nextnonce=",
        "ETag: ",
    ] {
        let secret = t.credential(&format!("response {name}"));
        t.client(get("/a", ""));
        t.server(format!(
            "HTTP/1.1 302 Found\r\n{name}{secret}\r\nContent-Length: 0\r\n\r\n"
        ));
    }
    let secret = t.body("reason phrase");
    t.client(get("/a", "")).server(format!(
        "HTTP/1.1 500 {secret}\r\nContent-Length: 0\r\n\r\n"
    ));
    talk
}

fn targets() -> Talk {
    let mut talk = Talk::new("http targets", 80);
    let t = &mut talk;
    for (before, behind) in [
        ("/a?token=", ""),
        ("/a?x=1&password=", "&y=2"),
        ("/a?X-Amz-Signature=", "&x=1"),
        ("/a?X-Amz-Credential=", ""),
        ("/a?sig=", ""),
        ("/a?%70assword=", ""),
        ("/a?user[password]=", ""),
        ("/a?user%5Bpassword%5D=", ""),
        ("/a?user_password=", ""),
        ("/a?db.password=", ""),
        ("/a?newPassword=", ""),
        ("/a?password_confirmation=", ""),
        ("/a?oauth_token=", ""),
        ("/a?csrfmiddlewaretoken=", ""),
        ("/a?stripe_secret_key=", ""),
        ("/a?googleApiKey=", ""),
        ("/a?x=1;token=", ";y=2"),
        ("/a;jsessionid=", "?x=1"),
        ("/a;v=1;token=", "/b"),
        ("/a?next=/login?token=", ""),
        ("/a?next=%2Flogin%3Ftoken%3D", ""),
        ("/a?next=https://joe:", "@example.com/"),
        ("/a?next=https%3A%2F%2Fjoe%3A", "%40example.com%2F"),
        ("/a#access_token=", ""),
        ("/a?code=", "&state=x"),
        ("/oauth?id_token=", ""),
    ] {
        let secret = t.literal(&format!("{before}…{behind}"));
        t.client(get(&format!("{before}{secret}{behind}"), ""))
            .server(OK);
    }
    talk
}

fn bodies() -> Talk {
    let mut talk = Talk::new("http bodies", 80);
    let t = &mut talk;
    let body = format!("user=joe&password={}", t.body("form"));
    t.client(format!(
        "POST /login HTTP/1.1\r\nHost: example.com\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let body = format!("{{\"token\":\"{}\"}}", t.body("JSON"));
    t.server(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let (chunk, extension, trailer) = (
        t.body("chunk"),
        t.body("chunk extension"),
        t.credential("trailer"),
    );
    t.client(format!(
        "POST /upload HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n\
         10;key={extension}\r\n{chunk}\r\n0\r\nX-Signature: {trailer}\r\n\r\n"
    ));
    let body = t.body("body to the end");
    t.server(format!(
        "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n{body}"
    ));
    talk
}

fn proxy() -> Talk {
    let mut talk = Talk::new("http proxy", 3128);
    let t = &mut talk;
    let (user, password) = (
        t.credential("user in a target"),
        t.credential("password in a target"),
    );
    t.client(get(
        &format!("http://{user}:{password}@example.com/a?x=1"),
        "",
    ))
    .server(OK);
    let user = t.credential("token as user in a target");
    t.client(get(&format!("https://{user}@example.com/a"), ""))
        .server(OK);
    talk
}

fn tunnel() -> Talk {
    let mut talk = Talk::new("http tunnel", 3128);
    let t = &mut talk;
    let password = t.credential("userinfo of CONNECT");
    t.client(format!(
        "CONNECT joe:{password}@example.com:443 HTTP/1.1\r\n\r\n"
    ));
    t.server("HTTP/1.1 200 Connection established\r\n\r\n");
    let body = t.body("bytes in a tunnel");
    t.client(format!("\0\x01{body}\x02")).server("\0\0\0\0");
    talk
}

fn websocket() -> Talk {
    let mut talk = Talk::new("http websocket", 80);
    let t = &mut talk;
    let token = t.literal("token of an upgrade");
    t.client(get(
        &format!("/chat?access_token={token}"),
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ));
    t.server(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    );
    let (said, answer) = (t.body("masked frame"), t.body("frame of the server"));
    // A mask of zeros leaves the text as it is.
    t.client([&[0x81, 0x90, 0, 0, 0, 0], said.as_bytes()].concat());
    t.server([&[0x81, 0x10], answer.as_bytes()].concat());
    let reason = t.body("reason of a close");
    t.server([&[0x88, 0x12, 0x03, 0xe8], reason.as_bytes()].concat());
    talk
}
