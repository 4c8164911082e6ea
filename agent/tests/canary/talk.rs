//! Conversations that have a secret in every place where one can be, and the search for them.

use std::collections::HashMap;

use wirespan_engine::api::Direction;

/// A piece of a secret of so many bytes is as bad as the whole.
const PIECE: usize = 6;

/// Letters of secrets: without vowels no word is among them, and no piece of a secret in anything
/// that the program says of its own.
const LETTERS: &[u8; 20] = b"bcdfghjklmnpqrstvwxz";

/// What kind of token a secret is to the parsers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Class {
    /// Hidden unless `--redact off` says otherwise: literals of statements, and targets.
    Literal,
    /// Proves who somebody is: hidden whatever the configuration.
    Credential,
    /// What was stored, answered or said on the side: no output has a place for it.
    Body,
}

/// A place for a secret, with one in it.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) class: Class,
    /// As it stands in the conversation.
    pub(crate) secret: String,
}

/// A connection from its first byte on, with secrets.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) said: Vec<(Direction, Vec<u8>)>,
    pub(crate) slots: Vec<Slot>,
}

impl Talk {
    pub(crate) fn new(name: &'static str, port: u16) -> Self {
        Self {
            name,
            port,
            said: Vec::new(),
            slots: Vec::new(),
        }
    }

    /// A secret for the slot of this name: letters, 16 of them, of which no two secrets share six in
    /// a row.
    pub(crate) fn secret(&mut self, class: Class, name: &str) -> String {
        let mut state = seed(self.name, name);
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            LETTERS[(state >> 33) as usize % LETTERS.len()]
        };
        let secret: Vec<u8> = (0..16).map(|_| next()).collect();
        let secret = String::from_utf8(secret).expect("letters");
        self.keep(class, name, &secret);
        secret
    }

    pub(crate) fn literal(&mut self, name: &str) -> String {
        self.secret(Class::Literal, name)
    }

    pub(crate) fn credential(&mut self, name: &str) -> String {
        self.secret(Class::Credential, name)
    }

    pub(crate) fn body(&mut self, name: &str) -> String {
        self.secret(Class::Body, name)
    }

    /// A secret of digits.
    pub(crate) fn number(&mut self, name: &str) -> String {
        let number = 900_000_000_000_000 + seed(self.name, name) % 100_000_000_000_000;
        self.keep(Class::Literal, name, &number.to_string());
        number.to_string()
    }

    fn keep(&mut self, class: Class, name: &str, secret: &str) {
        self.slots.push(Slot {
            name: format!("{}: {name}", self.name),
            class,
            secret: secret.to_owned(),
        });
    }

    pub(crate) fn client(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.said
            .push((Direction::ToServer, bytes.as_ref().to_vec()));
        self
    }

    pub(crate) fn server(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.said
            .push((Direction::ToClient, bytes.as_ref().to_vec()));
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.said.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Panics where a slot has no secret in it: then the search for it would prove nothing.
    pub(crate) fn assert_sent(&self) {
        for slot in &self.slots {
            let secret = slot.secret.as_bytes();
            let sent = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
            let said = self.said.iter().any(|(_, bytes)| sent(bytes));
            assert!(said, "{} was not sent", slot.name);
        }
    }
}

/// FNV-1a over the names.
fn seed(talk: &str, slot: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let bytes = talk.bytes().chain(b":".iter().copied()).chain(slot.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, step)
}

/// Finds pieces of secrets.
#[derive(Debug)]
pub(crate) struct Search {
    pieces: HashMap<[u8; PIECE], usize>,
    slots: Vec<Slot>,
}

impl Search {
    pub(crate) fn new<'a>(slots: impl IntoIterator<Item = &'a Slot>) -> Self {
        let slots: Vec<Slot> = slots.into_iter().cloned().collect();
        let mut pieces = HashMap::new();
        for (number, slot) in slots.iter().enumerate() {
            // Six digits in a row are anywhere; a number is looked for as a whole.
            if slot.secret.as_bytes()[0].is_ascii_digit() {
                continue;
            }
            for piece in slot.secret.as_bytes().windows(PIECE) {
                let piece = piece.try_into().expect("its length");
                let other = pieces.insert(piece, number);
                assert!(
                    other.is_none_or(|other| other == number),
                    "{}: alike",
                    slot.name
                );
            }
        }
        Self { pieces, slots }
    }

    /// The slots of which something is in `output`, each with what is around it.
    pub(crate) fn found(&self, output: &[u8]) -> Vec<(&Slot, String)> {
        let lower = output.to_ascii_lowercase();
        let mut hits = Vec::new();
        for (at, window) in lower.windows(PIECE).enumerate() {
            let piece: &[u8; PIECE] = window.try_into().expect("its length");
            hits.extend(self.pieces.get(piece).map(|number| (*number, at)));
        }
        for (number, slot) in self.slots.iter().enumerate() {
            let secret = slot.secret.as_bytes();
            if secret[0].is_ascii_digit() {
                let at = lower
                    .windows(secret.len())
                    .position(|window| window == secret);
                hits.extend(at.map(|at| (number, at)));
            }
        }
        hits.sort_unstable();
        hits.dedup_by_key(|(number, _)| *number);
        let show = |(number, at): (usize, usize)| {
            let from = at.saturating_sub(120);
            let until = (at + 60).min(output.len());
            let around = String::from_utf8_lossy(&output[from..until]).into_owned();
            (&self.slots[number], around)
        };
        hits.into_iter().map(show).collect()
    }
}
