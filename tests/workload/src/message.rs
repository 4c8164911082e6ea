//! HTTP/1.1 messages that say in their head what the answer is to be.

use std::io;
use std::time::Duration;

/// Heads and bodies together are a multiple of this long, so that a reader who asks for so many
/// bytes at a time never waits for more than there is.
pub(crate) const GRAIN: usize = 64;

/// What a client asks a server to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) status: u16,
    /// Length of the request's body.
    pub(crate) sent: u64,
    /// Length of the response's body.
    pub(crate) wanted: u64,
    /// How long the server waits before it answers.
    pub(crate) pause: Duration,
    pub(crate) ending: Ending,
}

/// How a response ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// By its length.
    Length,
    /// With its connection.
    Close,
}

impl Ask {
    /// Different statuses, sizes and pauses, by number.
    pub(crate) fn usual(number: u64) -> Self {
        let (status, sent, wanted, pause) = match number % 6 {
            0 => (200, 0, 100, 0),
            1 => (404, 0, 0, 0),
            2 => (201, 700, 5_000, 5),
            3 => (200, 0, 40_000, 0),
            4 => (500, 20_000, 10, 0),
            _ => (200, 1, 1, 20),
        };
        Self {
            status,
            sent,
            wanted,
            pause: Duration::from_millis(pause),
            ending: Ending::Length,
        }
    }

    pub(crate) fn small() -> Self {
        Self::usual(0)
    }

    pub(crate) fn operation(&self) -> &'static str {
        if self.sent > 0 { "POST" } else { "GET" }
    }

    /// Head of the request.
    pub(crate) fn head(&self, target: &str, trace_id: &str) -> Vec<u8> {
        let close = self.ending == Ending::Close;
        let Self {
            status,
            sent,
            wanted,
            ..
        } = self;
        let pause = self.pause.as_millis();
        let head = format!(
            "{} {target} HTTP/1.1\r\nHost: workload\r\n\
             Traceparent: 00-{trace_id}-00f067aa0ba902b7-01\r\n\
             Answer: {status} {wanted} {pause} {}\r\nContent-Length: {sent}\r\n",
            self.operation(),
            u8::from(close),
        );
        padded(head, *sent)
    }

    /// What the head of a request asks for.
    pub(crate) fn of(request: &Message) -> io::Result<Self> {
        let answer = request.header("Answer").unwrap_or_default();
        let numbers: Vec<u64> = answer.split(' ').filter_map(|n| n.parse().ok()).collect();
        let [status, wanted, pause, close] = numbers[..] else {
            return Err(io::Error::other(format!(
                "what to answer? {}",
                request.head
            )));
        };
        Ok(Self {
            status: status as u16,
            sent: 0,
            wanted,
            pause: Duration::from_millis(pause),
            ending: if close == 1 {
                Ending::Close
            } else {
                Ending::Length
            },
        })
    }

    /// Head of the response, which names the process that gives it.
    pub(crate) fn response_head(&self, pid: u32, name: &str) -> Vec<u8> {
        let Self { status, wanted, .. } = self;
        let mut head = format!("HTTP/1.1 {status} Answer\r\nServer: {name} {pid}\r\n");
        head += &match self.ending {
            Ending::Length => format!("Content-Length: {wanted}\r\n"),
            Ending::Close => "Connection: close\r\n".into(),
        };
        padded(head, *wanted)
    }
}

/// `head`, with its end, and so long that with `body` bytes it is a multiple of [`GRAIN`].
fn padded(mut head: String, body: u64) -> Vec<u8> {
    let around = "Padding: \r\n\r\n".len();
    let len = head.len() + around + (body % GRAIN as u64) as usize;
    head += &format!(
        "Padding: {}\r\n\r\n",
        "-".repeat(len.next_multiple_of(GRAIN) - len)
    );
    head.into_bytes()
}

/// A message whose body has been taken.
#[derive(Debug)]
pub(crate) struct Message {
    head: String,
    /// Its length, head and body.
    pub(crate) bytes: u64,
}

impl Message {
    pub(crate) fn of(head: &[u8]) -> io::Result<Self> {
        let head = String::from_utf8(head.to_vec()).map_err(io::Error::other)?;
        Ok(Self { head, bytes: 0 })
    }

    pub(crate) fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// Length of the body; `None` where it ends with the connection.
    pub(crate) fn body_len(&self) -> io::Result<Option<u64>> {
        let len = self.header("Content-Length").map(str::parse);
        len.transpose().map_err(io::Error::other)
    }

    /// Name and number of the process that answered.
    pub(crate) fn server(&self) -> io::Result<(String, u32)> {
        let server = self.header("Server").and_then(|server| {
            let (name, pid) = server.rsplit_once(' ')?;
            Some((name.to_owned(), pid.parse().ok()?))
        });
        server.ok_or_else(|| io::Error::other(format!("who answered? {}", self.head)))
    }
}
