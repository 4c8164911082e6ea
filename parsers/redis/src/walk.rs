//! Walking a value, element by element, in constant memory.

use wirespan_parser_api::{Next, ParseError, Step};

use crate::wire::{self, Item, Stop};

/// What a walk goes over.
#[derive(Clone, Copy, Debug, Default)]
enum Elements {
    /// Values of any type.
    #[default]
    Values,
    /// Words of a command: bulk strings only.
    Words,
}

/// Position inside a value. A counter instead of a stack: however deep a value is nested, all that
/// matters is how many elements are still to come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Walk {
    elements: Elements,
    /// Elements still to come, one that has begun included.
    owed: u64,
    /// Bytes seen of the line being read; `None` outside of a line.
    line: Option<u64>,
    /// Longest line allowed.
    max_line: u64,
    /// The last integer that went by.
    pub(crate) integer: i64,
}

/// How far a step came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Progress {
    /// Bytes done with.
    pub(crate) used: usize,
    /// Bytes behind them that are done with too, but not visible yet.
    pub(crate) skip: u64,
    /// Whether the last element is complete.
    pub(crate) done: bool,
}

impl Progress {
    /// The same as an answer to the engine, which showed this many bytes.
    pub(crate) const fn step(self, visible: usize) -> Step {
        match (self.used, self.skip) {
            (0, 0) => Step::need(visible.saturating_add(1)),
            (used, 0) => Step::more(used),
            (used, skip) => Step {
                consumed: used,
                next: Next::Skip(skip),
            },
        }
    }
}

impl Walk {
    /// A walk over this many values, with lines of up to `max_line` bytes.
    pub(crate) const fn over_values(n: u64, max_line: u64) -> Self {
        Self {
            elements: Elements::Values,
            owed: n,
            line: None,
            max_line,
            integer: 0,
        }
    }

    /// A walk over this many words of a command.
    pub(crate) const fn over_words(n: u64) -> Self {
        Self {
            elements: Elements::Words,
            owed: n,
            line: None,
            max_line: 0,
            integer: 0,
        }
    }

    /// Goes on with `bytes` behind the first `from`, which are done with and may reach further than
    /// `bytes` do.
    ///
    /// # Errors
    ///
    /// Only in front of anything done with: what lies before an error is reported first.
    #[inline]
    pub(crate) fn step_from(&mut self, from: u64, bytes: &[u8]) -> Result<Progress, ParseError> {
        let visible = bytes.len() as u64;
        if self.owed == 0 {
            return Ok(Progress {
                used: usize::try_from(from.min(visible)).unwrap_or(bytes.len()),
                skip: from.saturating_sub(visible),
                done: true,
            });
        }
        let start = usize::try_from(from.min(visible)).unwrap_or(bytes.len());
        let rest = bytes.get(start..).unwrap_or_default();
        let progress = match self.step(rest) {
            Ok(progress) => progress,
            Err(error) if from == 0 => return Err(error),
            Err(_) => Progress {
                used: 0,
                skip: 0,
                done: false,
            },
        };
        Ok(Progress {
            used: start.saturating_add(progress.used),
            skip: progress.skip.saturating_add(from.saturating_sub(visible)),
            done: progress.done,
        })
    }

    /// Goes on as far as `bytes` reach; `read` reads the beginning of an element.
    ///
    /// # Errors
    ///
    /// Only when nothing was done with.
    fn step(&mut self, bytes: &[u8]) -> Result<Progress, ParseError> {
        let mut used = 0usize;
        while self.owed > 0 {
            let rest = bytes.get(used..).unwrap_or_default();
            match self.element(rest) {
                Ok((len, payload)) => {
                    let left = (rest.len() as u64).saturating_sub(len as u64);
                    let seen = payload.min(left);
                    used = used
                        .saturating_add(len)
                        .saturating_add(usize::try_from(seen).unwrap_or(usize::MAX));
                    if payload > left {
                        return Ok(Progress {
                            used,
                            skip: payload.saturating_sub(left),
                            done: self.owed == 0,
                        });
                    }
                }
                Err(Stop::Bad(error)) if used == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(Progress {
            used,
            skip: 0,
            done: self.owed == 0,
        })
    }

    /// Reads the beginning of an element, or more of a line: the bytes it took, and the length of
    /// the payload behind them.
    fn element(&mut self, rest: &[u8]) -> Result<(usize, u64), Stop> {
        if let Some(before) = self.line {
            return self.line(rest, before).map(|len| (len, 0));
        }
        let (item, len) = match self.elements {
            Elements::Values => wire::item(rest)?,
            Elements::Words => wire::word(rest).map(|(n, len)| (Item::Bulk(n), len))?,
        };
        let owed = self.owed.saturating_sub(1);
        let (more, payload) = match item {
            Item::Line => {
                self.line = Some(0);
                return Ok((len, 0));
            }
            Item::Integer(n) => {
                self.integer = n;
                (0, 0)
            }
            Item::Scalar => (0, 0),
            Item::Bulk(n) => (0, n.saturating_add(2)),
            Item::Aggregate(n) => (n, 0),
            Item::Attribute(n) => (n.saturating_add(1), 0),
        };
        self.owed = owed
            .checked_add(more)
            .ok_or(Stop::Bad(ParseError::too_large("elements")))?;
        Ok((len, payload))
    }

    fn line(&mut self, rest: &[u8], before: u64) -> Result<usize, Stop> {
        let (len, ended) = match wire::line(rest)? {
            Some(len) => (len, true),
            // A last `\r` may be half of the line end.
            None => (rest.strip_suffix(b"\r").unwrap_or(rest).len(), false),
        };
        let so_far = before.saturating_add(len as u64);
        if so_far > self.max_line {
            return Err(Stop::Bad(ParseError::too_large("line")));
        }
        if ended {
            self.line = None;
            self.owed = self.owed.saturating_sub(1);
        } else if len == 0 {
            return Err(Stop::Short);
        } else {
            self.line = Some(so_far);
        }
        Ok(len)
    }
}
