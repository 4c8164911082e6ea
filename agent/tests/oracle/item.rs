//! What both sides are brought to, and how they are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Characters of a text that are compared: we cut texts at 4,096 bytes.
const COMPARED: usize = 1_000;

/// A request, or an outcome, of a connection.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Item {
    /// The command; empty for statements, whose text says it.
    pub(crate) name: String,
    /// The text, but for what the two programs write differently: see [`squeeze`].
    pub(crate) text: String,
    /// The error, or empty.
    pub(crate) error: String,
}

impl Item {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        Self {
            name: name.to_owned(),
            text: squeeze(text),
            error: String::new(),
        }
    }

    pub(crate) fn error(code: &str) -> Self {
        Self {
            error: code.to_owned(),
            ..Self::new("", "")
        }
    }

    /// What the document calls it: the command, or the statement's first word, and the error.
    fn shown(&self) -> String {
        let words = self
            .text
            .split(|c: char| !(c.is_alphanumeric() || c == '_'));
        let name = match &*self.name {
            "" => words.into_iter().next().unwrap_or_default(),
            name => name,
        };
        let is_word = name.len() <= 24 && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        match (is_word, name, &*self.error) {
            (true, "", "") => "(empty)".to_owned(),
            (true, "", error) => error.to_owned(),
            (true, name, error) => format!("{name} {error}").trim_end().to_owned(),
            (false, _, _) => "(no word)".to_owned(),
        }
    }
}

/// A text without what the two write each in its own way: white space is one space, and of all else
/// only printable ASCII is left. A backslash of the text's own is not told from one of tshark's, so
/// both sides are treated alike.
fn squeeze(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n' | 'r' | 't' | 'v' | 'f' | 'a' | 'b') => out.push(' '),
                Some('x') => drop(chars.nth(1)),
                Some(escaped) if escaped.is_ascii_graphic() => out.push(escaped),
                _ => out.push(' '),
            },
            c if c.is_whitespace() => out.push(' '),
            // Stands for what is no text, on one side or the other.
            '?' => {}
            c if c.is_ascii_graphic() => out.push(c),
            _ => {}
        }
    }
    let words: Vec<&str> = out.split_whitespace().collect();
    words.join(" ").chars().take(COMPARED).collect()
}

/// What one program reads, by the ports of the connections, lower first.
#[derive(Debug, Default)]
pub(crate) struct Reading(BTreeMap<(u16, u16), Vec<Item>>);

impl Reading {
    /// The items of the connection between two ports.
    pub(crate) fn connection(&mut self, (a, b): (u16, u16)) -> &mut Vec<Item> {
        self.0.entry((a.min(b), a.max(b))).or_default()
    }

    /// Gives up the order within each connection.
    pub(crate) fn sort(&mut self) {
        self.0.values_mut().for_each(|items| items.sort());
    }
}

/// What is in one reading only.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// How many items are in both.
    pub(crate) agreed: usize,
    theirs: Vec<Item>,
    ours: Vec<Item>,
}

impl Difference {
    pub(crate) fn is_none(&self) -> bool {
        self.theirs.is_empty() && self.ours.is_empty()
    }

    /// Both sides in short.
    pub(crate) fn cells(&self) -> [String; 2] {
        [&self.theirs, &self.ours].map(|items| {
            let mut counts = BTreeMap::new();
            for item in items {
                *counts.entry(item.shown()).or_insert(0) += 1;
            }
            let parts: Vec<_> = counts
                .iter()
                .map(|(what, n)| format!("{n} {what}"))
                .collect();
            match parts.is_empty() {
                true => "–".to_owned(),
                false => parts.join(", "),
            }
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (side, items) in [('<', &self.theirs), ('>', &self.ours)] {
            for item in items.iter().take(6) {
                let text: String = item.text.chars().take(120).collect();
                writeln!(f, "  {side} {} {text:?} {}", item.name, item.error)?;
            }
        }
        Ok(())
    }
}

/// What remains of both when their longest common sequence is taken out of each connection.
pub(crate) fn difference(theirs: &Reading, ours: &Reading) -> Difference {
    let mut difference = Difference::default();
    let none = Vec::new();
    let connections: BTreeSet<_> = theirs.0.keys().chain(ours.0.keys()).collect();
    for connection in connections {
        let a = theirs.0.get(connection).unwrap_or(&none);
        let b = ours.0.get(connection).unwrap_or(&none);
        difference.add(a, b);
    }
    difference
}

impl Difference {
    fn add(&mut self, mut a: &[Item], mut b: &[Item]) {
        while let ([first, rest_a @ ..], [other, rest_b @ ..]) = (a, b)
            && first == other
        {
            self.agreed += 1;
            (a, b) = (rest_a, rest_b);
        }
        // Length of the longest common sequence of what begins at each pair of places.
        let mut longest = vec![vec![0u32; b.len() + 1]; a.len() + 1];
        for i in (0..a.len()).rev() {
            for j in (0..b.len()).rev() {
                longest[i][j] = match a[i] == b[j] {
                    true => longest[i + 1][j + 1] + 1,
                    false => longest[i + 1][j].max(longest[i][j + 1]),
                };
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < a.len() || j < b.len() {
            if i < a.len() && j < b.len() && a[i] == b[j] {
                (i, j) = (i + 1, j + 1);
                self.agreed += 1;
            } else if j == b.len() || i < a.len() && longest[i + 1][j] >= longest[i][j + 1] {
                self.theirs.push(a[i].clone());
                i += 1;
            } else {
                self.ours.push(b[j].clone());
                j += 1;
            }
        }
    }
}
