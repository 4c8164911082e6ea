//! What a configuration means on this machine: names become numbers, texts become conditions.

use std::sync::Arc;

use wirespan_capture::Filters;
use wirespan_engine::Registry;
use wirespan_engine::api::Policy;
use wirespan_export::metrics;
use wirespan_export::semconv::Routes;
use wirespan_export::spans;
use wirespan_telemetry::{Config as Exporting, Temporality, Wanted};

use super::keys::Key;
use super::layers;
use super::load::{Effective, Fault, Sources};
use super::tree::Config;
use super::values::Level;
use crate::cli;
use crate::filter::{self, Filter, Network};
use crate::node::Budget;
use crate::pods;
use crate::signals::Signals;
use crate::units::Duration;

/// What can change while the agent runs.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    /// What is observed.
    pub(crate) filters: Filters,
    /// How much of a call is copied.
    pub(crate) call_bytes: u32,
    /// What of it is counted.
    pub(crate) filter: Filter,
    /// What may be shown as text.
    pub(crate) policy: Policy,
    pub(crate) routes: Arc<Routes>,
    pub(crate) spans: spans::Options,
    pub(crate) level: Level,
    pub(crate) budget: Budget,
}

/// What cannot be seen from one key alone.
///
/// # Errors
///
/// The key, and what it may be.
pub(crate) fn check(config: &Config, registry: &Registry) -> Result<(), Fault> {
    let buffer = config.observe.buffer;
    if !buffer.is_power_of_two() || buffer > 1024 {
        let message =
            format!("observe.buffer: expected a power of two from 1 to 1024, found {buffer}");
        return Err(Fault::new(message));
    }
    if config.records.rotate == 0 {
        return Err(Fault::new("records.rotate: expected at least 1"));
    }
    pods::check(&config.kubernetes).map_err(Fault::new)?;
    for (key, duration) in [
        ("metrics.series_ttl", config.metrics.series_ttl),
        ("metrics.interval", config.metrics.interval),
        ("stop.flush", config.stop.flush),
    ] {
        if duration == Duration(0) {
            return Err(Fault::new(format!(
                "{key}: expected more than no time, such as 10s"
            )));
        }
    }
    match filter::unknown(&config.filter.protocols, registry) {
        Some((name, known)) => Err(Fault::new(format!(
            "filter.protocols: there is no protocol {name}; known are {known}"
        ))),
        None => Ok(()),
    }
}

impl Running {
    /// Looks up what the configuration names.
    ///
    /// # Errors
    ///
    /// What is not there, and which key names it.
    pub(crate) fn of(
        sources: &Sources,
        effective: &Effective,
        registry: &Registry,
    ) -> Result<Self, Fault> {
        let config = &effective.config;
        check(config, registry)?;
        let exporting = exporting(sources, effective)?;
        Ok(Self {
            filters: filters(config)?,
            call_bytes: config.observe.call_bytes,
            filter: Filter::of_config(&config.filter, ports_and_networks(config)?),
            policy: cli::policy(config.redaction.text, &config.redaction.secret_keys),
            routes: routes(config, &exporting),
            spans: span_options(config, &exporting),
            level: config.log.level,
            budget: Budget {
                processors: config.budget.processors,
                memory: config.budget.memory.map(|mib| u64::from(mib) << 20),
            },
        })
    }
}

fn ports_and_networks(config: &Config) -> Result<(Vec<u16>, Vec<Network>), Fault> {
    let networks = config.observe.networks.iter().map(|text| text.parse());
    let networks: Result<Vec<Network>, _> = networks.collect();
    let networks = networks.map_err(|error| Fault::new(format!("observe.networks: {error}")))?;
    Ok((config.observe.ports.clone(), networks))
}

fn filters(config: &Config) -> Result<Filters, Fault> {
    let observe = &config.observe;
    let named = |key: &str, name: &str, error: String| {
        Fault::new(format!("observe.{key}: {name}: {error}"))
    };
    let mut filters = Filters::default();
    filters.pids.clone_from(&observe.pids);
    filters.names.clone_from(&observe.processes);
    // They have been parsed when they were read.
    let executables = observe.executables.iter();
    filters.executables = executables.filter_map(|text| text.parse().ok()).collect();
    for folder in &observe.cgroups {
        let id = cli::cgroup(folder).map_err(|error| named("cgroups", folder, error))?;
        filters.cgroups.push(id);
    }
    for of in &observe.namespaces {
        let id = cli::namespace(of).map_err(|error| named("namespaces", of, error))?;
        filters.namespaces.push(id);
    }
    let (ports, networks) = ports_and_networks(config)?;
    filters.ports = ports;
    filters.networks = networks.iter().map(Network::parts).collect();
    filters.external_only = observe.external;
    filters.protocols.clone_from(&config.filter.protocols);
    Ok(filters)
}

fn routes(config: &Config, exporting: &Exporting) -> Arc<Routes> {
    // They have been parsed when they were read.
    let patterns = config.routes.patterns.iter();
    let patterns = patterns.filter_map(|text| text.parse().ok());
    Arc::new(Routes {
        patterns: patterns.collect(),
        heuristic: config.routes.heuristic,
        methods: exporting.known_methods.clone(),
    })
}

/// How spans are made: what the sampler of the environment says, and the keys beside it.
fn span_options(config: &Config, exporting: &Exporting) -> spans::Options {
    let mut spans = exporting.spans;
    spans.tail.rate = config.spans.keep;
    spans.suppress_instrumented = !config.spans.duplicate;
    spans.adopt_sent_ids = !config.spans.own_client_ids;
    spans
}

/// Where to export to: the keys of OpenTelemetry, which its variables stand for.
///
/// # Errors
///
/// What is none, by the variable's name.
pub(crate) fn exporting(sources: &Sources, effective: &Effective) -> Result<Exporting, Fault> {
    let keys = &sources.keys;
    let of = |name: &str| keys.iter().find(|key| key.variable == name);
    let text = |key: &Key| layers::text(key.kind, effective.value(key));
    let variable = |name: &str| match of(name) {
        Some(key) => text(key),
        None => std::env::var(name).ok(),
    };
    // A flag is nearer than the variable of one signal, any other word for all signals is not.
    let endpoint = of("OTEL_EXPORTER_OTLP_ENDPOINT").filter(|key| sources.is_flag(key));
    let endpoint = endpoint.and_then(text);
    let config = Exporting::read(&variable, endpoint.as_deref(), Wanted::Configured);
    config.map_err(|error| Fault::new(error.to_string()))
}

/// How long a series is kept that nothing is counted in. Differences are taken of what is kept: at
/// least until it was collected.
fn ttl(config: &Config, exporting: &Exporting) -> u64 {
    let least = match exporting.temporality {
        Temporality::Cumulative => Duration(0),
        // An export may take as long as an interval, before the next begins.
        Temporality::Delta | Temporality::LowMemory => {
            Duration(config.metrics.interval.0.saturating_mul(3))
        }
    };
    config.metrics.series_ttl.0.max(least.0)
}

/// How metrics and spans are made.
pub(crate) fn signals(config: &Config, exporting: &Exporting, running: &Running) -> Signals {
    Signals {
        metrics: metrics::Options {
            max_series: config.metrics.max_series,
            exponential: exporting.exponential,
            sizes: config.metrics.body_sizes,
            ttl: ttl(config, exporting),
            ..metrics::Options::default()
        },
        routes: Arc::clone(&running.routes),
        spans: running.spans,
        resource: exporting.resource.clone(),
    }
}
