//! Metrics that are read rather than aggregated: what a program says of itself.

/// A metric with its points.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Name, with dots: `wirespan.capture.events`.
    pub name: &'static str,
    /// Unit as OpenTelemetry has it: `By`, `s`, `{event}`, `1`.
    pub unit: &'static str,
    /// What it is, one sentence.
    pub description: &'static str,
    /// What may be done with its values.
    pub kind: ReadingKind,
    /// Attributes and value of each point.
    pub points: Vec<(Vec<(&'static str, String)>, f64)>,
}

/// What may be done with the values of a [`Reading`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReadingKind {
    /// It only rises, since the program began.
    Counter,
    /// It rises and falls.
    Gauge,
}

impl Reading {
    /// A counter without points.
    #[must_use]
    pub const fn counter(
        name: &'static str,
        unit: &'static str,
        description: &'static str,
    ) -> Self {
        Self {
            name,
            unit,
            description,
            kind: ReadingKind::Counter,
            points: Vec::new(),
        }
    }

    /// A gauge without points.
    #[must_use]
    pub fn gauge(name: &'static str, unit: &'static str, description: &'static str) -> Self {
        let mut gauge = Self::counter(name, unit, description);
        gauge.kind = ReadingKind::Gauge;
        gauge
    }

    /// With one point more, without attributes.
    #[must_use]
    pub fn value(mut self, value: f64) -> Self {
        self.points.push((Vec::new(), value));
        self
    }

    /// With one point more, with one attribute.
    #[must_use]
    pub fn with(mut self, key: &'static str, text: impl Into<String>, value: f64) -> Self {
        self.points.push((vec![(key, text.into())], value));
        self
    }
}
