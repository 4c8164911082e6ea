//! Prepared statements by their ids.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;

use wirespan_parser_api::Redaction;

use crate::ask::Ask;

/// Statements of one connection that are remembered.
const MAX_STATEMENTS: usize = 4_096;
/// Bytes of their texts that are remembered.
const MAX_BYTES: usize = 2 << 20;

/// What is to be said of a statement when it is executed; fit for records.
#[derive(Debug, Default)]
pub(crate) struct Text {
    pub(crate) keyword: String,
    text: String,
    redaction: Redaction,
    pub(crate) summary: String,
    /// Whether `text` is only its beginning.
    pub(crate) is_cut: bool,
}

impl Text {
    pub(crate) fn of(statement: &Ask<'_>, redaction: Redaction, is_cut: bool) -> Self {
        Self {
            keyword: statement.operation.to_string(),
            text: statement.target.to_string(),
            redaction,
            summary: statement.summary.to_string(),
            is_cut,
        }
    }

    /// The statement. Empty if texts are redacted otherwise by now.
    pub(crate) fn text(&self, redaction: Redaction) -> &str {
        if self.redaction == redaction {
            &self.text
        } else {
            ""
        }
    }

    fn len(&self) -> usize {
        let texts = self.keyword.len().saturating_add(self.text.len());
        texts.saturating_add(self.summary.len())
    }
}

/// Prepared statements by their ids. Servers give rising ids, so the first is the oldest.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    by_id: BTreeMap<u32, Arc<Text>>,
    bytes: usize,
    /// The one prepared last, whether or not the server has answered: MariaDB's id -1.
    latest: Option<Arc<Text>>,
}

impl Statements {
    /// Id by which MariaDB's clients execute a statement before they know its id.
    const LATEST: u32 = u32::MAX;

    /// A statement is about to be prepared.
    pub(crate) fn announce(&mut self, text: Arc<Text>) {
        self.latest = Some(text);
    }

    /// The server has prepared a statement.
    pub(crate) fn insert(&mut self, id: u32, text: Arc<Text>) {
        self.remove(id);
        self.bytes = self.bytes.saturating_add(text.len());
        self.by_id.insert(id, text);
        while self.by_id.len() > MAX_STATEMENTS || self.bytes > MAX_BYTES {
            let Some((_, oldest)) = self.by_id.pop_first() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(oldest.len());
        }
    }

    pub(crate) fn remove(&mut self, id: u32) {
        if let Some(text) = self.by_id.remove(&id) {
            self.bytes = self.bytes.saturating_sub(text.len());
        }
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Arc<Text>> {
        if id == Self::LATEST {
            return self.latest.as_ref();
        }
        self.by_id.get(&id)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The statement prepared last is not known: its packet was lost.
    pub(crate) fn forget_latest(&mut self) {
        self.latest = None;
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        const EACH: usize = size_of::<Text>() + 64;
        let all = self.by_id.len().saturating_mul(EACH);
        let latest = self.latest.as_ref().map_or(0, |latest| latest.len());
        self.bytes.saturating_add(all).saturating_add(latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Arc<Text> {
        Arc::new(Text {
            text: text.to_string(),
            ..Text::default()
        })
    }

    #[test]
    fn the_oldest_statements_go_when_there_are_too_many() {
        let mut statements = Statements::default();
        for id in 0..5_000 {
            statements.insert(id, text("SELECT ?"));
        }
        assert!(statements.get(903).is_none() && statements.get(904).is_some());
        assert_eq!(statements.bytes, 4_096 * 8);
    }

    #[test]
    fn a_text_of_before_is_not_shown_when_it_is_redacted_otherwise() {
        let text = text("SELECT ?");
        assert_eq!(text.text(Redaction::On), "SELECT ?");
        for other in [Redaction::Off, Redaction::Full] {
            assert_eq!(text.text(other), "");
        }
    }

    #[test]
    fn the_texts_of_statements_are_bounded() {
        let mut statements = Statements::default();
        for id in 0..1_000 {
            statements.insert(id, text(&"x".repeat(4_096)));
        }
        assert_eq!(statements.by_id.len(), 512);
        assert!(statements.heap_bytes() < 3 << 20);
    }

    #[test]
    fn an_id_that_is_used_again_names_the_later_statement() {
        let mut statements = Statements::default();
        statements.insert(1, text("SELECT 1"));
        statements.insert(1, text("SELECT 22"));
        assert_eq!(statements.get(1).unwrap().text(Redaction::On), "SELECT 22");
        assert_eq!(statements.bytes, 9);
    }
}
