//! The summary: operations and their targets, as written, in the order of the text.
//!
//! <https://opentelemetry.io/docs/specs/semconv/db/database-spans/#generating-a-summary-of-the-query>

use alloc::string::String;

use crate::is_keyword;

/// Longest summary, in bytes; what does not fit is left out whole.
const MAX_SUMMARY: usize = 255;
/// Parentheses inside of parentheses that are told apart.
const MAX_DEPTH: usize = 16;

/// Collects a summary from the tokens of a statement.
#[derive(Debug)]
pub(crate) struct Summary {
    text: String,
    /// Whether something was left out: then nothing more is added.
    full: bool,
    /// Bytes of `text` that come from the first keyword.
    first: usize,
    /// The innermost parentheses.
    frame: Frame,
    /// Those around them, outermost first; `depth` of them.
    outer: [Frame; MAX_DEPTH],
    /// May exceed the array; what is beyond has no frame.
    depth: usize,
    before: Before,
    /// Nothing more of this statement is of interest.
    done: bool,
}

/// The state between a pair of parentheses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Frame {
    expect: Expect,
    /// Whether `FROM` names tables here; in `extract(year FROM day)` it does not.
    has_command: bool,
}

/// What a name would be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Expect {
    /// A column, a function, an alias.
    Nothing,
    /// The next of a list of tables.
    Table,
    /// An alias of a table; behind a comma, the next table.
    Comma,
    /// The only table.
    Target,
    /// What kind of thing is created.
    Kind,
}

const OUTERMOST: Frame = Frame {
    expect: Expect::Nothing,
    has_command: false,
};

/// What stands before a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Before {
    /// Nothing: the statement begins.
    Start,
    /// Something behind which a command may begin.
    Opening,
    /// `DISTINCT`, behind which `FROM` is an operator.
    Distinct,
    /// Anything else.
    Word,
}

impl Summary {
    pub(crate) const fn new() -> Self {
        Self {
            text: String::new(),
            full: false,
            first: 0,
            frame: OUTERMOST,
            outer: [OUTERMOST; MAX_DEPTH],
            depth: 0,
            before: Before::Start,
            done: false,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.full = false;
        self.first = 0;
        self.restart();
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) const fn heap_bytes(&self) -> usize {
        self.text.capacity()
    }

    /// Another statement begins in the same text.
    pub(crate) fn semicolon(&mut self) {
        if self.before != Before::Start {
            self.restart();
        }
    }

    fn restart(&mut self) {
        self.frame = OUTERMOST;
        self.depth = 0;
        self.before = Before::Start;
        self.done = false;
    }

    /// Leaves nothing but the first keyword.
    pub(crate) fn keep_first(&mut self) {
        self.text.truncate(self.first);
    }

    pub(crate) fn other(&mut self) {
        self.before = Before::Word;
    }

    pub(crate) fn punctuation(&mut self, mark: u8) {
        match mark {
            b'(' => self.open(),
            b')' => self.close(),
            b',' if self.frame.expect == Expect::Comma => self.frame.expect = Expect::Table,
            _ => {}
        }
        self.before = match mark {
            // `(SELECT …) UNION …`: still no command.
            b'(' if self.before == Before::Start => Before::Start,
            b'(' | b')' => Before::Opening,
            _ => Before::Word,
        };
    }

    fn open(&mut self) {
        let inside = match self.frame.expect {
            Expect::Table => {
                self.frame.expect = Expect::Comma;
                Expect::Table
            }
            Expect::Target => {
                self.frame.expect = Expect::Nothing;
                Expect::Nothing
            }
            Expect::Nothing | Expect::Comma | Expect::Kind => Expect::Nothing,
        };
        if let Some(slot) = self.outer.get_mut(self.depth) {
            *slot = self.frame;
            self.frame = Frame {
                expect: inside,
                has_command: false,
            };
        }
        self.depth = self.depth.saturating_add(1);
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if let Some(frame) = self.outer.get(self.depth) {
            self.frame = *frame;
        }
    }

    /// Takes a name with a quoted part, which is no keyword.
    pub(crate) fn quoted(&mut self, name: &str) {
        self.before = Before::Word;
        self.name(name);
    }

    /// Takes a keyword or a name.
    pub(crate) fn word(&mut self, word: &str) {
        let before = core::mem::replace(&mut self.before, Before::Word);
        if self.done {
            return;
        }
        let keyword = Keyword::of(word);
        if before == Before::Start {
            self.begin(word, keyword);
            return;
        }
        match (keyword, self.frame.expect) {
            // `FROM table`: what else could it be?
            (Keyword::Kind | Keyword::Account | Keyword::Name, Expect::Table | Expect::Target) => {
                self.name(word);
            }
            (Keyword::Kind, Expect::Kind) => {
                self.push(word);
                self.frame.expect = Expect::Target;
            }
            (Keyword::Account, Expect::Kind) => {
                self.push(word);
                self.done = true;
            }
            (Keyword::Command, _) if before == Before::Opening => self.command(word, keyword),
            (Keyword::Select, _) => self.command(word, keyword),
            (Keyword::From, _) if self.frame.has_command && before != Before::Distinct => {
                self.frame.expect = Expect::Table;
            }
            (Keyword::Join, _) => self.frame.expect = Expect::Table,
            (Keyword::Clause, _) => self.frame.expect = Expect::Nothing,
            (Keyword::Distinct, _) => self.before = Before::Distinct,
            (Keyword::Opener, _) => self.before = Before::Opening,
            _ => {}
        }
    }

    /// The first word of a statement.
    fn begin(&mut self, word: &str, keyword: Keyword) {
        self.frame.has_command = true;
        match keyword {
            Keyword::With => {}
            Keyword::Select | Keyword::Command => self.command(word, keyword),
            Keyword::Name if !is_keyword(word) => self.done = true,
            _ => {
                self.frame.has_command = false;
                self.push(word);
                match keyword {
                    Keyword::Define => self.frame.expect = Expect::Kind,
                    Keyword::Single => self.frame.expect = Expect::Target,
                    Keyword::Opener => self.before = Before::Opening,
                    Keyword::Grant => self.done = true,
                    _ => {}
                }
            }
        }
        if self.first == 0 {
            self.first = self.text.len();
        }
    }

    fn command(&mut self, word: &str, keyword: Keyword) {
        self.push(word);
        self.frame.has_command = true;
        self.frame.expect = match (keyword, word.as_bytes()) {
            (Keyword::Select, _) | (_, [b'd' | b'D', ..]) => Expect::Nothing,
            (_, [b'u' | b'U', ..]) => Expect::Table,
            _ => Expect::Target,
        };
    }

    fn name(&mut self, name: &str) {
        match self.frame.expect {
            Expect::Table => {
                self.push(name);
                self.frame.expect = Expect::Comma;
            }
            Expect::Target => {
                self.push(name);
                self.frame.expect = Expect::Nothing;
            }
            Expect::Nothing | Expect::Comma | Expect::Kind => {}
        }
    }

    fn push(&mut self, word: &str) {
        let space = usize::from(!self.text.is_empty());
        let len = self.text.len().saturating_add(space);
        self.full |= len.saturating_add(word.len()) > MAX_SUMMARY;
        if self.full {
            return;
        }
        if space > 0 {
            self.text.push(' ');
        }
        self.text.push_str(word);
    }
}

/// The words that matter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Keyword {
    /// Not one of them.
    Name,
    Select,
    /// `INSERT`, `UPDATE`, `DELETE`, `MERGE`, `REPLACE`.
    Command,
    With,
    From,
    Join,
    /// Ends a list of tables.
    Clause,
    Distinct,
    /// Behind it a command may begin: `EXPLAIN`, `AS`.
    Opener,
    /// `CREATE`, `ALTER`, `DROP`, `TRUNCATE`, `LOCK`.
    Define,
    /// What is created: `TABLE`.
    Kind,
    /// What is created and has a person's name: `USER`.
    Account,
    /// `CALL`, `COPY`, `EXECUTE`: one name follows.
    Single,
    /// `GRANT`, `REVOKE`: whose keywords are privileges.
    Grant,
    /// Stands between a keyword and its name: `INTO`, `ONLY`, `IF EXISTS`.
    Filler,
}

/// Slots of the table of keywords; a power of two, several for each keyword.
const SLOTS: usize = 256;

/// The keywords, each in the first free slot from its hash on.
const TABLE: [(&str, Keyword); SLOTS] = build();

impl Keyword {
    fn of(word: &str) -> Self {
        let mut slot = hash(word.as_bytes());
        loop {
            match TABLE.get(slot) {
                Some((keyword, kind)) if keyword.eq_ignore_ascii_case(word) => return *kind,
                Some((keyword, _)) if !keyword.is_empty() => slot = next(slot),
                _ => return Self::Name,
            }
        }
    }
}

const fn hash(word: &[u8]) -> usize {
    match word {
        [first, second, .., last] => {
            let mixed = (*first as usize & 0x1f)
                ^ (*second as usize & 0x1f) << 3
                ^ (*last as usize & 0x1f) << 2
                ^ word.len() << 5;
            mixed & (SLOTS - 1)
        }
        _ => 0,
    }
}

const fn next(slot: usize) -> usize {
    slot.wrapping_add(1) & (SLOTS - 1)
}

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "runs when compiled"
)]
const fn build() -> [(&'static str, Keyword); SLOTS] {
    let mut table = [("", Keyword::Name); SLOTS];
    let mut kind = 0;
    while kind < KEYWORDS.len() {
        let (keyword, words) = KEYWORDS[kind];
        let mut word = 0;
        while word < words.len() {
            let mut slot = hash(words[word].as_bytes());
            while !table[slot].0.is_empty() {
                slot = next(slot);
            }
            table[slot] = (words[word], keyword);
            word += 1;
        }
        kind += 1;
    }
    table
}

/// The words of each kind, in lower case.
const KEYWORDS: [(Keyword, &[&str]); 14] = [
    (Keyword::Select, &["select"]),
    (
        Keyword::Command,
        &["insert", "update", "delete", "merge", "replace"],
    ),
    (Keyword::With, &["with"]),
    (Keyword::From, &["from"]),
    (Keyword::Join, &["join", "straight_join"]),
    (
        Keyword::Clause,
        &[
            "where",
            "set",
            "group",
            "order",
            "having",
            "limit",
            "values",
            "union",
            "intersect",
            "except",
            "returning",
            "window",
            "for",
            "offset",
            "fetch",
            "partition",
        ],
    ),
    (Keyword::Distinct, &["distinct"]),
    (
        Keyword::Opener,
        &["as", "explain", "analyze", "verbose", "describe", "desc"],
    ),
    (
        Keyword::Define,
        &["create", "alter", "drop", "truncate", "lock"],
    ),
    (
        Keyword::Kind,
        &[
            "table",
            "view",
            "index",
            "sequence",
            "schema",
            "database",
            "function",
            "procedure",
            "trigger",
            "type",
            "extension",
            "event",
            "domain",
            "publication",
            "subscription",
        ],
    ),
    (Keyword::Account, &["user", "role", "server"]),
    (Keyword::Single, &["call", "copy", "execute", "exec"]),
    (Keyword::Grant, &["grant", "revoke"]),
    (
        Keyword::Filler,
        &[
            "into",
            "only",
            "lateral",
            "if",
            "not",
            "exists",
            "ignore",
            "low_priority",
            "high_priority",
            "delayed",
            "concurrently",
        ],
    ),
];
