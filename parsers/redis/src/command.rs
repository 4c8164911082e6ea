//! What commands mean for the connection, and which of their arguments may be shown.

use alloc::borrow::Cow;
use alloc::string::String;

use wirespan_parser_api::Redaction;

/// Most bytes of the first argument that are shown.
pub(crate) const MAX_TARGET: usize = 4096;
/// The arguments that the text of a command shows at most.
const PLACEHOLDERS: &str = " ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ?";

/// A command name in upper case; empty where the word sent cannot be one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl Name {
    /// Longest command name that is taken, in bytes.
    pub(crate) const MAX: usize = 32;

    /// From a word as sent.
    pub(crate) fn new(word: &[u8]) -> Self {
        let mut name = Self {
            bytes: [0; Self::MAX],
            len: 0,
        };
        if let Some(bytes) = name.bytes.get_mut(..word.len())
            && word.iter().all(u8::is_ascii_graphic)
        {
            bytes.copy_from_slice(word);
            bytes.make_ascii_uppercase();
            name.len = word.len();
        }
        name
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// What a command means for the connection, or for what is shown of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    /// Nothing beyond its reply.
    Plain,
    /// `CLIENT`, whose `REPLY` turns replies off.
    Client,
    /// `DISCARD`.
    Discard,
    /// `EXEC`.
    Exec,
    /// `HELLO`: may change the protocol version.
    Hello,
    /// `MONITOR`.
    Monitor,
    /// `MULTI`.
    Multi,
    /// The first argument names a script or function.
    Procedure,
    /// `RESET`.
    Reset,
    /// The first argument is a credential.
    Secret,
    /// `SELECT`.
    Select,
    /// Subscribes or unsubscribes.
    Subscription(Verb),
    /// The connection turns into a replication stream.
    Sync,
    /// The first argument is a text that may hold values.
    Text,
}

impl Role {
    /// The role of a command by its name.
    pub(crate) fn of(name: &Name) -> Self {
        match name.as_bytes() {
            b"AUTH" => Self::Secret,
            b"CLIENT" => Self::Client,
            b"DISCARD" => Self::Discard,
            b"ECHO" | b"PING" | b"EVAL" | b"EVAL_RO" | b"RG.PYEXECUTE" => Self::Text,
            b"EVALSHA" | b"EVALSHA_RO" | b"FCALL" | b"FCALL_RO" => Self::Procedure,
            b"EXEC" => Self::Exec,
            b"HELLO" => Self::Hello,
            b"MONITOR" => Self::Monitor,
            b"MULTI" => Self::Multi,
            b"RESET" => Self::Reset,
            b"SELECT" => Self::Select,
            b"SYNC" | b"PSYNC" => Self::Sync,
            name if name.ends_with(b"SUBSCRIBE") => {
                Verb::of(name).map_or(Self::Plain, Self::Subscription)
            }
            _ => Self::Plain,
        }
    }

    /// Whether the first argument, as sent, may be shown.
    pub(crate) fn shows_first(self, redaction: Redaction) -> bool {
        match self {
            Self::Secret => false,
            Self::Text => redaction == Redaction::Off,
            // What they mean for the connection depends on it.
            Self::Client | Self::Select | Self::Hello => true,
            _ => redaction != Redaction::Full,
        }
    }

    /// What is shown of the first argument: the target.
    pub(crate) fn target<'a>(self, first: Option<&'a [u8]>, redaction: Redaction) -> Cow<'a, str> {
        match (self, first) {
            (_, None) | (Self::Secret, _) => Cow::Borrowed(""),
            (_, _) if redaction == Redaction::Full => Cow::Borrowed(""),
            (Self::Text, _) if redaction != Redaction::Off => Cow::Borrowed("?"),
            // `HELLO AUTH user password` is a mistake, but not one to spread.
            (Self::Hello, Some(version)) if !version.iter().all(u8::is_ascii_digit) => {
                Cow::Borrowed("")
            }
            (_, Some(first)) => {
                let first = cut(first);
                // Mostly it is text, and this check is the faster one.
                core::str::from_utf8(first)
                    .map_or_else(|_| String::from_utf8_lossy(first), Cow::Borrowed)
            }
        }
    }
}

/// Cuts at [`MAX_TARGET`] bytes, on a character boundary if it is text.
fn cut(bytes: &[u8]) -> &[u8] {
    let Some(head) = bytes.get(..MAX_TARGET).filter(|_| bytes.len() > MAX_TARGET) else {
        return bytes;
    };
    match core::str::from_utf8(head) {
        Err(error) if error.error_len().is_none() => {
            head.get(..error.valid_up_to()).unwrap_or(head)
        }
        _ => head,
    }
}

/// Writes a command as redis-cli shows it, its arguments behind the target as `?`.
pub(crate) fn write_text(text: &mut String, name: &str, target: &str, mut arguments: u64) {
    text.clear();
    text.push_str(name);
    if !target.is_empty() {
        text.push(' ');
        text.push_str(target);
        arguments = arguments.saturating_sub(1);
    }
    let len = usize::try_from(arguments).map_or(usize::MAX, |n| n.saturating_mul(2));
    text.push_str(PLACEHOLDERS.get(..len).unwrap_or(PLACEHOLDERS));
}

/// What one can subscribe to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Topic {
    /// Channels.
    Channels,
    /// Patterns of channel names.
    Patterns,
    /// Channels of a cluster's shard.
    Shards,
}

/// The commands of pub/sub that are answered with confirmations, one for each topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verb {
    /// `SUBSCRIBE`, `PSUBSCRIBE`, `SSUBSCRIBE`.
    Subscribe(Topic),
    /// `UNSUBSCRIBE`, `PUNSUBSCRIBE`, `SUNSUBSCRIBE`.
    Unsubscribe(Topic),
}

impl Verb {
    const ALL: [Self; 6] = [
        Self::Subscribe(Topic::Channels),
        Self::Subscribe(Topic::Patterns),
        Self::Subscribe(Topic::Shards),
        Self::Unsubscribe(Topic::Channels),
        Self::Unsubscribe(Topic::Patterns),
        Self::Unsubscribe(Topic::Shards),
    ];

    /// The verb that a command or a confirmation names.
    pub(crate) fn of(word: &[u8]) -> Option<Self> {
        let mut verbs = Self::ALL.into_iter();
        verbs.find(|verb| verb.name().as_bytes().eq_ignore_ascii_case(word))
    }

    /// As confirmations name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Subscribe(Topic::Channels) => "subscribe",
            Self::Subscribe(Topic::Patterns) => "psubscribe",
            Self::Subscribe(Topic::Shards) => "ssubscribe",
            Self::Unsubscribe(Topic::Channels) => "unsubscribe",
            Self::Unsubscribe(Topic::Patterns) => "punsubscribe",
            Self::Unsubscribe(Topic::Shards) => "sunsubscribe",
        }
    }

    pub(crate) const fn topic(self) -> Topic {
        match self {
            Self::Subscribe(topic) | Self::Unsubscribe(topic) => topic,
        }
    }
}
