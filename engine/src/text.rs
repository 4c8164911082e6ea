//! Texts and attributes of an exchange, copied out of the stream into one buffer.

use std::fmt;

use wirespan_parser_api::{Attr, Key, Value};

/// Longest text that is kept, in bytes.
const MAX_TEXT: usize = 4096;

/// A text inside a [`Text`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    fn of(self, buf: &str) -> &str {
        let start = self.start as usize;
        let end = start.saturating_add(self.len as usize);
        buf.get(start..end).unwrap_or("")
    }
}

/// Texts behind each other in one buffer, and attributes that refer to it. Cleared and used again.
#[derive(Debug, Default)]
pub(crate) struct Text {
    buf: String,
    attrs: Vec<(Key, Stored)>,
}

#[derive(Clone, Copy, Debug)]
enum Stored {
    Str(Span),
    Int(i64),
}

/// How much of a [`Text`] there is, to forget what comes behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextMark {
    buf: usize,
    attrs: usize,
}

/// Whether a text was cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub(crate) enum Cut {
    Whole,
    Cut,
}

impl Text {
    pub(crate) fn clear(&mut self) {
        self.buf.clear();
        self.attrs.clear();
    }

    pub(crate) fn mark(&self) -> TextMark {
        TextMark {
            buf: self.buf.len(),
            attrs: self.attrs.len(),
        }
    }

    /// Forgets what was pushed since.
    pub(crate) fn rewind(&mut self, mark: TextMark) {
        self.buf.truncate(mark.buf);
        self.attrs.truncate(mark.attrs);
    }

    /// Copies `text`, cut at [`MAX_TEXT`] bytes on a character boundary.
    pub(crate) fn push(&mut self, text: &str) -> (Span, Cut) {
        if text.len() > MAX_TEXT {
            let end = text.floor_char_boundary(MAX_TEXT);
            return (self.copy(text.get(..end).unwrap_or_default()), Cut::Cut);
        }
        (self.copy(text), Cut::Whole)
    }

    fn copy(&mut self, text: &str) -> Span {
        let span = Span {
            start: u32::try_from(self.buf.len()).unwrap_or(u32::MAX),
            len: u32::try_from(text.len()).unwrap_or(0),
        };
        self.buf.push_str(text);
        span
    }

    pub(crate) fn push_attr(&mut self, attr: &Attr<'_>) {
        let stored = match attr.value() {
            Value::Str(text) => Stored::Str(self.push(text).0),
            Value::Int(n) => Stored::Int(n),
            _ => return,
        };
        self.attrs.push((attr.key(), stored));
    }

    /// Adds an attribute whose value is a text that was pushed before.
    pub(crate) fn push_span(&mut self, key: Key, span: Span) {
        self.attrs.push((key, Stored::Str(span)));
    }

    /// Replaces the value of an attribute, or adds it.
    ///
    /// The old text stays in the buffer until it outgrows [`MAX_TEXT`] and everything is copied.
    pub(crate) fn set_attr(&mut self, attr: &Attr<'_>) {
        self.attrs.retain(|(key, _)| *key != attr.key());
        if self.buf.len() > MAX_TEXT {
            let mut packed = Self::default();
            for kept in self.attrs().iter() {
                packed.push_attr(&kept);
            }
            *self = packed;
        }
        self.push_attr(attr);
    }

    pub(crate) fn get(&self, span: Span) -> &str {
        span.of(&self.buf)
    }

    pub(crate) fn attrs(&self) -> Attrs<'_> {
        self.attrs_in(0, self.attrs.len())
    }

    /// The attributes from one up to another, by how many were there before them.
    pub(crate) fn attrs_in(&self, from: usize, to: usize) -> Attrs<'_> {
        Attrs {
            buf: &self.buf,
            attrs: self.attrs.get(from..to).unwrap_or_default(),
        }
    }

    pub(crate) fn attr_count(&self) -> usize {
        self.attrs.len()
    }

    pub(crate) fn has_attrs(&self) -> bool {
        !self.attrs.is_empty()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.attrs
            .capacity()
            .saturating_mul(size_of::<(Key, Stored)>())
            .saturating_add(self.buf.capacity())
    }
}

/// The attributes of an exchange.
#[derive(Clone, Copy)]
pub struct Attrs<'a> {
    buf: &'a str,
    attrs: &'a [(Key, Stored)],
}

impl fmt::Debug for Attrs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> Attrs<'a> {
    /// No attributes.
    pub(crate) const NONE: Attrs<'static> = Attrs {
        buf: "",
        attrs: &[],
    };

    /// The attributes, in order.
    pub fn iter(&self) -> impl Iterator<Item = Attr<'a>> + use<'a> {
        let buf = self.buf;
        self.attrs.iter().map(move |(key, stored)| {
            let value = match stored {
                Stored::Str(span) => Value::Str(span.of(buf)),
                Stored::Int(n) => Value::Int(*n),
            };
            Attr::restore(*key, value)
        })
    }

    /// The value of the attribute with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Value<'a>> {
        self.iter()
            .find(|attr| attr.key().name() == name)
            .map(|attr| attr.value())
    }
}
