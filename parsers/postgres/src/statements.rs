//! Prepared statements and portals of one connection.

use std::collections::HashMap;

use wirespan_parser_api::{Flags, Redaction};
use wirespan_sql::Statement;

/// Most named statements that are remembered.
const MAX_NAMES: usize = 4_096;
/// Most named portals that are remembered.
const MAX_PORTALS: usize = 1_024;
/// Most bytes of their names and texts.
const MAX_BYTES: usize = 512 * 1024;

/// What is known of a statement.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// Keyword, text and summary, one behind the other.
    joined: String,
    keyword: usize,
    text: usize,
    redaction: Redaction,
    flags: Flags,
    /// Of [`Statements::defined`] when it was defined: tells it from another of the same place.
    version: u64,
    /// Of [`Statements::used`] when it was used last.
    used: u64,
    /// Bytes of its name.
    name: usize,
}

impl Prepared {
    fn set(&mut self, statement: &Statement<'_>, flags: Flags) {
        self.joined.clear();
        self.joined.push_str(statement.keyword);
        self.joined.push_str(statement.text);
        self.joined.push_str(statement.summary);
        self.keyword = statement.keyword.len();
        self.text = self.keyword.saturating_add(statement.text.len());
        self.redaction = statement.redaction;
        self.flags = flags;
    }

    pub(crate) fn keyword(&self) -> &str {
        self.joined.get(..self.keyword).unwrap_or_default()
    }

    /// The statement. Empty if texts are redacted otherwise by now.
    pub(crate) fn text(&self, redaction: Redaction) -> &str {
        if redaction != self.redaction {
            return "";
        }
        self.joined.get(self.keyword..self.text).unwrap_or_default()
    }

    pub(crate) fn summary(&self) -> &str {
        self.joined.get(self.text..).unwrap_or_default()
    }

    /// What is unusual about every execution.
    pub(crate) const fn flags(&self) -> Flags {
        self.flags
    }

    const fn bytes(&self) -> usize {
        self.joined
            .capacity()
            .saturating_add(self.name)
            .saturating_add(size_of::<Self>())
    }
}

/// Which statement a portal runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    /// The one without a name, in this version.
    Unnamed(u64),
    /// The one in this place, in this version.
    Named(usize, u64),
    /// One that nobody saw being prepared.
    Unknown,
}

/// Prepared statements and portals of one connection.
#[derive(Debug)]
pub(crate) struct Statements {
    /// The statement without a name, in a place of its own: most texts come and go through it.
    unnamed: Option<Prepared>,
    /// Its memory, while there is none.
    spare: Prepared,
    places: Vec<Prepared>,
    free: Vec<usize>,
    names: HashMap<Box<[u8]>, usize>,
    unnamed_portal: Source,
    portals: HashMap<Box<[u8]>, Source>,
    /// Statements defined so far.
    defined: u64,
    /// Statements used so far.
    used: u64,
    /// Bytes of all that has a name.
    bytes: usize,
}

impl Statements {
    pub(crate) fn new() -> Self {
        Self {
            unnamed: None,
            spare: Prepared::default(),
            places: Vec::new(),
            free: Vec::new(),
            names: HashMap::new(),
            unnamed_portal: Source::Unknown,
            portals: HashMap::new(),
            defined: 0,
            used: 0,
            bytes: 0,
        }
    }

    /// Notes a `Parse`.
    pub(crate) fn define(
        &mut self,
        name: &[u8],
        statement: &Statement<'_>,
        flags: Flags,
    ) -> Source {
        self.defined = self.defined.saturating_add(1);
        let version = self.defined;
        if name.is_empty() {
            let mut prepared = self.take_unnamed();
            prepared.set(statement, flags);
            prepared.version = version;
            self.unnamed = Some(prepared);
            return Source::Unnamed(version);
        }
        self.forget(name);
        while self.names.len() >= MAX_NAMES || self.bytes >= MAX_BYTES {
            self.evict();
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Prepared::default());
            self.places.len().saturating_sub(1)
        });
        self.used = self.used.saturating_add(1);
        let Some(prepared) = self.places.get_mut(place) else {
            return Source::Unknown;
        };
        prepared.set(statement, flags);
        prepared.version = version;
        prepared.used = self.used;
        prepared.name = name.len();
        self.bytes = self.bytes.saturating_add(prepared.bytes());
        self.names.insert(name.into(), place);
        Source::Named(place, version)
    }

    /// The statement of a name.
    pub(crate) fn find(&mut self, name: &[u8]) -> Source {
        if name.is_empty() {
            let unnamed = self.unnamed.as_ref();
            return unnamed.map_or(Source::Unknown, |unnamed| Source::Unnamed(unnamed.version));
        }
        self.used = self.used.saturating_add(1);
        let place = self.names.get(name).copied();
        match place.and_then(|place| Some((place, self.places.get_mut(place)?))) {
            Some((place, prepared)) => {
                prepared.used = self.used;
                Source::Named(place, prepared.version)
            }
            None => Source::Unknown,
        }
    }

    /// What is known of a statement that was found before, if it is still there.
    pub(crate) fn get(&self, source: Source) -> Option<&Prepared> {
        let (prepared, version) = match source {
            Source::Unnamed(version) => (self.unnamed.as_ref()?, version),
            Source::Named(place, version) => (self.places.get(place)?, version),
            Source::Unknown => return None,
        };
        (prepared.version == version).then_some(prepared)
    }

    /// Notes the closing of a statement.
    pub(crate) fn forget(&mut self, name: &[u8]) {
        if name.is_empty() {
            self.spare = self.take_unnamed();
        } else if let Some(place) = self.names.remove(name) {
            self.vacate(place);
        }
    }

    /// Notes a `Bind`.
    pub(crate) fn bind(&mut self, portal: &[u8], source: Source) {
        if portal.is_empty() {
            self.unnamed_portal = source;
        } else if let Some(known) = self.portals.get_mut(portal) {
            *known = source;
        } else {
            // Portals end with their transaction, which leaves ours behind.
            if self.portals.len() >= MAX_PORTALS {
                self.portals.clear();
            }
            self.portals.insert(portal.into(), source);
        }
    }

    /// The statement that a portal runs.
    pub(crate) fn bound(&self, portal: &[u8]) -> Source {
        if portal.is_empty() {
            return self.unnamed_portal;
        }
        self.portals.get(portal).copied().unwrap_or(Source::Unknown)
    }

    /// Notes the closing of a portal.
    pub(crate) fn unbind(&mut self, portal: &[u8]) {
        if portal.is_empty() {
            self.unnamed_portal = Source::Unknown;
        } else {
            self.portals.remove(portal);
        }
    }

    /// Notes that messages were lost. Names may mean something else by now: what is known of them
    /// is a guess, and what has no name is too fleeting even for that.
    pub(crate) fn lose(&mut self) {
        self.spare = self.take_unnamed();
        self.unnamed_portal = Source::Unknown;
        self.portals.clear();
        for prepared in &mut self.places {
            prepared.flags = prepared.flags.with(Flags::GUESSED);
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let entries = self
            .names
            .capacity()
            .saturating_add(self.portals.capacity());
        self.bytes
            .saturating_add(entries.saturating_mul(48))
            .saturating_add(self.free.capacity().saturating_mul(size_of::<usize>()))
            .saturating_add(self.unnamed.as_ref().map_or(0, Prepared::bytes))
    }

    fn take_unnamed(&mut self) -> Prepared {
        let unnamed = self.unnamed.take();
        unnamed.unwrap_or_else(|| core::mem::take(&mut self.spare))
    }

    fn vacate(&mut self, place: usize) {
        if let Some(prepared) = self.places.get_mut(place) {
            self.bytes = self.bytes.saturating_sub(prepared.bytes());
            *prepared = Prepared::default();
            self.free.push(place);
        }
    }

    /// Forgets the quarter of the statements that was not used for the longest time: many at once,
    /// so that the search costs little for each.
    fn evict(&mut self) {
        let Self { names, places, .. } = self;
        let used = |place: usize| places.get(place).map_or(0, |prepared| prepared.used);
        let mut uses: Vec<u64> = names.values().map(|place| used(*place)).collect();
        let quarter = uses.len().div_euclid(4);
        if uses.is_empty() {
            self.bytes = 0;
            return;
        }
        let (_, limit, _) = uses.select_nth_unstable(quarter);
        let limit = *limit;
        let forgotten: Vec<usize> = names
            .extract_if(|_, place| used(*place) <= limit)
            .map(|(_, place)| place)
            .collect();
        for place in forgotten {
            self.vacate(place);
        }
    }
}
