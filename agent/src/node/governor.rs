//! Keeps the agent within a budget of processor time and memory.
//!
//! Once a second it compares what the agent uses with what it may use, and takes a step down or up a
//! ladder. What the steps give up never is a count: first how soon the kernel's events are looked at,
//! then spans, then payload. A step down follows two seconds above the budget; a step up needs a
//! quiet time, which is doubled each time that the agent had to come down again soon after.

use std::time::Duration;

use wirespan_capture::MAX_CALL_BYTES;

/// What the agent may use. `None` is without a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Budget {
    /// Processors: 0.5 is half the time of one.
    pub(crate) processors: Option<f64>,
    /// Bytes of resident memory.
    pub(crate) memory: Option<u64>,
}

/// What the agent uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// Processors, since the look before.
    pub(super) processors: f64,
    /// Bytes of resident memory.
    pub(super) memory: u64,
}

/// What is done without at a step of the ladder, beside what the configuration says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measures {
    /// How long the kernel's events may wait.
    pub(super) pause: Duration,
    /// Share of the spans that the configuration keeps, beside failures and the slowest; `None` for no
    /// spans at all, and nothing of what they need: parents, and the ids in exemplars.
    pub(super) spans: Option<f64>,
    /// Most bytes of a call that are copied.
    pub(super) call_bytes: u32,
}

impl Measures {
    /// Share of the spans' queue that may be used: where fewer spans are made, fewer may wait.
    pub(super) fn queue(self) -> f64 {
        /// For failures and the slowest.
        const LEAST: f64 = 0.03;
        self.spans.map_or(0.0, |share| share.max(LEAST))
    }
}

/// From nothing given up to all that may be. Each step keeps what the one before gave up.
const LADDER: [Measures; 10] = [
    measures(0, Some(1.0), MAX_CALL_BYTES),
    measures(8, Some(1.0), MAX_CALL_BYTES),
    measures(8, Some(0.5), MAX_CALL_BYTES),
    measures(8, Some(0.25), MAX_CALL_BYTES),
    measures(8, Some(0.1), MAX_CALL_BYTES),
    measures(8, Some(0.03), MAX_CALL_BYTES),
    measures(8, Some(0.0), MAX_CALL_BYTES),
    measures(16, None, MAX_CALL_BYTES),
    measures(16, None, 32 << 10),
    measures(16, None, 16 << 10),
];

const fn measures(pause_millis: u64, spans: Option<f64>, call_bytes: u32) -> Measures {
    Measures {
        pause: Duration::from_millis(pause_millis),
        spans,
        call_bytes,
    }
}

/// Looks above the budget before a step down.
const OVER: u32 = 2;
/// Looks well below it before a step up, at first and at most.
const QUIET: [u32; 2] = [5, 320];
/// Share of the budget that is well below it.
const BELOW: f64 = 0.7;

/// What a budget is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Resource {
    Processors,
    Memory,
}

/// A step that was taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Less is done, because of this.
    Down(Resource),
    /// More is done again.
    Up,
    /// The budget is passed, and nothing is left to do without. Said once, until that changes.
    Exhausted(Resource),
}

/// Steps taken since the start, for metrics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Steps {
    pub(super) down_processors: u64,
    pub(super) down_memory: u64,
    pub(super) up: u64,
}

/// Where the agent stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Level {
    /// Steps below where nothing is given up.
    pub(super) level: usize,
    /// Whether the budget is passed though nothing is left to give up.
    pub(super) exhausted: bool,
    pub(super) steps: Steps,
}

/// Where the agent stands on the ladder, and how it came there.
#[derive(Clone, Debug)]
pub(super) struct Governor {
    budget: Budget,
    level: usize,
    steps: Steps,
    exhausted: bool,
    /// Looks in a row that were above the budget, and well below.
    over: u32,
    below: u32,
    /// Looks below the budget that a step up takes by now.
    quiet: u32,
    /// Looks since the latest step up.
    since_up: u32,
}

impl Governor {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            budget,
            level: 0,
            steps: Steps::default(),
            exhausted: false,
            over: 0,
            below: 0,
            quiet: QUIET[0],
            since_up: u32::MAX,
        }
    }

    /// Goes on with another budget.
    pub(super) fn set(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// What is done without now.
    pub(super) fn measures(&self) -> Measures {
        LADDER[self.level]
    }

    /// For metrics.
    pub(super) fn level(&self) -> Level {
        Level {
            level: self.level,
            exhausted: self.exhausted,
            steps: self.steps,
        }
    }

    /// Looks at what is used, once a second; tells if [`Governor::measures`] changed.
    pub(super) fn look(&mut self, usage: Usage) -> Option<Step> {
        self.since_up = self.since_up.saturating_add(1);
        match self.passed(usage) {
            Some(resource) => {
                self.below = 0;
                self.over += 1;
                (self.over >= OVER).then(|| self.down(resource))?
            }
            None => {
                self.over = 0;
                self.exhausted = false;
                self.below = if self.is_well_below(usage) {
                    self.below + 1
                } else {
                    0
                };
                self.up()
            }
        }
    }

    fn down(&mut self, resource: Resource) -> Option<Step> {
        self.over = 0;
        // The latest step up has not lasted, or it has.
        if self.since_up <= 2 * self.quiet {
            self.quiet = (self.quiet * 2).min(QUIET[1]);
        } else if self.level == 0 {
            self.quiet = QUIET[0];
        }
        self.since_up = u32::MAX;
        if self.level + 1 == LADDER.len() {
            let was = std::mem::replace(&mut self.exhausted, true);
            return (!was).then_some(Step::Exhausted(resource));
        }
        self.level += 1;
        match resource {
            Resource::Processors => self.steps.down_processors += 1,
            Resource::Memory => self.steps.down_memory += 1,
        }
        Some(Step::Down(resource))
    }

    fn up(&mut self) -> Option<Step> {
        if self.level == 0 || self.below < self.quiet {
            return None;
        }
        self.level -= 1;
        self.steps.up += 1;
        (self.below, self.since_up) = (0, 0);
        Some(Step::Up)
    }

    fn passed(&self, usage: Usage) -> Option<Resource> {
        let Budget { processors, memory } = self.budget;
        if processors.is_some_and(|budget| usage.processors > budget) {
            return Some(Resource::Processors);
        }
        let memory = memory.is_some_and(|budget| usage.memory > budget);
        memory.then_some(Resource::Memory)
    }

    fn is_well_below(&self, usage: Usage) -> bool {
        let Budget { processors, memory } = self.budget;
        processors.is_none_or(|budget| usage.processors < budget * BELOW)
            && memory.is_none_or(|budget| (usage.memory as f64) < budget as f64 * BELOW)
    }
}

impl Resource {
    /// As logs and metrics call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Processors => "processors",
            Self::Memory => "memory",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processors(used: f64) -> Usage {
        Usage {
            processors: used,
            memory: 0,
        }
    }

    fn governor() -> Governor {
        Governor::new(Budget {
            processors: Some(1.0),
            memory: None,
        })
    }

    /// Steps of as many looks at the same usage.
    fn looks(governor: &mut Governor, used: f64, looks: u32) -> Vec<Step> {
        let look = |_| governor.look(processors(used));
        (0..looks).filter_map(look).collect()
    }

    #[test]
    fn without_a_budget_nothing_is_given_up() {
        let mut governor = Governor::new(Budget::default());
        assert_eq!(looks(&mut governor, 64.0, 100), []);
        assert_eq!(governor.measures(), LADDER[0]);
    }

    #[test]
    fn each_step_gives_up_no_less_than_the_one_before() {
        for pair in LADDER.windows(2) {
            assert!(pair[0].pause <= pair[1].pause);
            assert!(pair[0].spans >= pair[1].spans);
            assert!(pair[0].call_bytes >= pair[1].call_bytes);
            assert_ne!(pair[0], pair[1]);
        }
    }

    #[test]
    fn a_peak_of_a_second_changes_nothing() {
        let mut governor = governor();
        for _ in 0..20 {
            assert_eq!(looks(&mut governor, 3.0, 1), []);
            assert_eq!(looks(&mut governor, 0.5, 1), []);
        }
    }

    #[test]
    fn what_lasts_goes_down_to_the_end_and_that_is_said_once() {
        let mut governor = governor();
        let steps = looks(&mut governor, 2.0, 60);
        let down = LADDER.len() - 1;
        assert_eq!(&steps[..down], vec![Step::Down(Resource::Processors); down]);
        assert_eq!(&steps[down..], [Step::Exhausted(Resource::Processors)]);
        assert!(governor.level().exhausted);
        looks(&mut governor, 0.9, 1);
        assert!(!governor.level().exhausted);
    }

    #[test]
    fn every_step_is_undone_when_the_load_has_gone() {
        let mut governor = governor();
        looks(&mut governor, 2.0, 6);
        assert_eq!(governor.level().level, 3);
        let steps = looks(&mut governor, 0.2, 3 * QUIET[0]);
        assert_eq!(steps, vec![Step::Up; 3]);
        assert_eq!(governor.measures(), LADDER[0]);
        let steps = governor.level().steps;
        assert_eq!((steps.down_processors, steps.up), (3, 3));
    }

    #[test]
    fn just_below_the_budget_nothing_moves() {
        let mut governor = governor();
        looks(&mut governor, 2.0, 4);
        assert_eq!(looks(&mut governor, 0.9, 1_000), []);
    }

    /// A load that is below the budget at level 1 and above it at level 0.
    #[test]
    fn a_load_at_the_edge_makes_it_climb_ever_more_rarely() {
        let mut governor = governor();
        let mut ups = 0;
        for _ in 0..3_000 {
            let used = if governor.level().level == 0 {
                1.4
            } else {
                0.6
            };
            ups += u32::from(governor.look(processors(used)) == Some(Step::Up));
        }
        assert!((2..30).contains(&ups), "{ups}");
    }

    #[test]
    fn memory_counts_as_well() {
        let mut governor = Governor::new(Budget {
            processors: Some(1.0),
            memory: Some(100),
        });
        let usage = Usage {
            processors: 0.1,
            memory: 101,
        };
        assert_eq!(governor.look(usage), None);
        assert_eq!(governor.look(usage), Some(Step::Down(Resource::Memory)));
        let quiet = Usage {
            memory: 90,
            ..usage
        };
        assert!((0..100).all(|_| governor.look(quiet).is_none()));
    }
}
