//! Where to export to, and how: the environment variables that OpenTelemetry has for it.

use std::fmt;
use std::time::Duration;

use wirespan_export::spans::{Head, Options as SpanOptions};

use crate::encode::Resource;

/// What is wrong with a variable or an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// `grpc`
    Grpc,
    /// `http/protobuf`
    HttpProtobuf,
    /// `http/json`
    HttpJson,
}

/// Where one signal goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// With scheme; of HTTP with the signal's path.
    pub endpoint: String,
    /// How OTLP is spoken there.
    pub protocol: Protocol,
    /// Names in lower case, and values; for authentication mostly.
    pub headers: Vec<(String, String)>,
    /// How long a request may take.
    pub timeout: Duration,
}

/// Which signals are exported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// Those that the environment names an endpoint for.
    Configured,
    /// All that the environment does not switch off.
    All,
}

/// Everything that the environment says about exporting.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where spans go.
    pub traces: Option<Target>,
    /// Where metrics go.
    pub metrics: Option<Target>,
    /// What is said of the observed services.
    pub resource: Resource,
    /// How spans are sampled.
    pub spans: SpanOptions,
    /// `OTEL_METRIC_EXPORT_INTERVAL`
    pub metric_interval: Duration,
    /// `OTEL_BSP_SCHEDULE_DELAY`: how long a span waits for its batch to fill.
    pub batch_delay: Duration,
    /// `OTEL_BSP_MAX_QUEUE_SIZE`: spans that may wait.
    pub queue: usize,
    /// `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`: spans in a request.
    pub batch: usize,
    /// Whether metrics have exponential histograms:
    /// `OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION`.
    pub exponential: bool,
    /// How long a batch is tried for.
    pub give_up: Duration,
}

/// A signal of OTLP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Traces => "v1/traces",
            Self::Metrics => "v1/metrics",
        }
    }
}

impl Config {
    /// Reads the environment through `variable`; one that is empty counts as not set. `endpoint`,
    /// where given, stands for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    ///
    /// # Errors
    ///
    /// The variable whose value is none, and what it may be.
    pub fn read(
        variable: &dyn Fn(&str) -> Option<String>,
        endpoint: Option<&str>,
        wanted: Wanted,
    ) -> Result<Self, Error> {
        let env = Environment {
            variable,
            endpoint,
            wanted,
        };
        let queue = env.number("OTEL_BSP_MAX_QUEUE_SIZE", 16_384)?;
        Ok(Self {
            traces: env.target(Signal::Traces)?,
            metrics: env.target(Signal::Metrics)?,
            resource: env.resource()?,
            spans: env.sampler()?,
            metric_interval: env.millis("OTEL_METRIC_EXPORT_INTERVAL", 60_000)?,
            batch_delay: env.millis("OTEL_BSP_SCHEDULE_DELAY", 5_000)?,
            queue: usize::try_from(queue.max(1)).unwrap_or(usize::MAX),
            batch: env
                .number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)?
                .clamp(1, 65_536) as usize,
            exponential: env.exponential()?,
            give_up: Duration::from_secs(300),
        })
    }
}

struct Environment<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    endpoint: Option<&'a str>,
    wanted: Wanted,
}

impl Environment<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.trim().is_empty())
    }

    /// `OTEL_EXPORTER_OTLP_{SIGNAL}_{what}`, else `OTEL_EXPORTER_OTLP_{what}`; with its name.
    fn otlp(&self, signal: Signal, what: &str) -> Option<(String, String)> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.name());
        let all = format!("OTEL_EXPORTER_OTLP_{what}");
        [own, all]
            .into_iter()
            .find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    fn number(&self, name: &str, default: u64) -> Result<u64, Error> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        let number = value.trim().parse();
        number.map_err(|_| Error(format!("{name}: expected a whole number, found {value:?}")))
    }

    fn millis(&self, name: &str, default: u64) -> Result<Duration, Error> {
        Ok(Duration::from_millis(self.number(name, default)?.max(1)))
    }

    fn target(&self, signal: Signal) -> Result<Option<Target>, Error> {
        if self
            .get("OTEL_SDK_DISABLED")
            .is_some_and(|v| v.eq_ignore_ascii_case("true"))
        {
            return Ok(None);
        }
        let exporter = format!("OTEL_{}_EXPORTER", signal.name());
        let exporters = self.get(&exporter).unwrap_or_else(|| "otlp".into());
        if !exporters.split(',').any(|name| name.trim() == "otlp") {
            return Ok(None);
        }
        let own = self.get(&format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.name()));
        let base = self.endpoint.map(str::to_owned);
        let base = base.or_else(|| self.get("OTEL_EXPORTER_OTLP_ENDPOINT"));
        if own.is_none() && base.is_none() && self.wanted == Wanted::Configured {
            return Ok(None);
        }
        // A flag of the command line is nearer than any variable.
        let own = own.filter(|_| self.endpoint.is_none());
        let protocol = self.protocol(signal, own.as_deref().or(base.as_deref()))?;
        let endpoint = match (own, protocol) {
            (Some(own), _) => own,
            (None, Protocol::Grpc) => base.unwrap_or_else(|| "http://localhost:4317".into()),
            (None, _) => {
                let base = base.unwrap_or_else(|| "http://localhost:4318".into());
                format!("{}/{}", base.trim_end_matches('/'), signal.path())
            }
        };
        check_scheme(&endpoint)?;
        if let Some((name, value)) = self.otlp(signal, "COMPRESSION")
            && value != "none"
        {
            return Err(Error(format!(
                "{name}: only none is supported, found {value:?}"
            )));
        }
        if let Some((name, _)) = self.otlp(signal, "CERTIFICATE") {
            let message = "is not supported; certificates are those that the machine trusts";
            return Err(Error(format!("{name} {message}")));
        }
        Ok(Some(Target {
            endpoint,
            protocol,
            headers: self.headers(signal)?,
            timeout: self.timeout(signal)?,
        }))
    }

    /// The specification's default is `http/protobuf`. An endpoint at the port that is registered
    /// for gRPC is taken at its word.
    fn protocol(&self, signal: Signal, endpoint: Option<&str>) -> Result<Protocol, Error> {
        let Some((name, value)) = self.otlp(signal, "PROTOCOL") else {
            let authority = endpoint.and_then(|endpoint| endpoint.split("://").nth(1));
            let authority = authority.and_then(|rest| rest.split('/').next());
            return Ok(match authority {
                Some(authority) if authority.ends_with(":4317") => Protocol::Grpc,
                _ => Protocol::HttpProtobuf,
            });
        };
        match value.trim() {
            "grpc" => Ok(Protocol::Grpc),
            "http/protobuf" => Ok(Protocol::HttpProtobuf),
            "http/json" => Ok(Protocol::HttpJson),
            _ => Err(Error(format!(
                "{name}: expected grpc, http/protobuf or http/json, found {value:?}"
            ))),
        }
    }

    fn headers(&self, signal: Signal) -> Result<Vec<(String, String)>, Error> {
        let Some((name, list)) = self.otlp(signal, "HEADERS") else {
            return Ok(Vec::new());
        };
        // The values are credentials: they are not shown.
        read_pairs(&list).ok_or_else(|| Error(format!("{name}: expected key=value,key=value")))
    }

    fn timeout(&self, signal: Signal) -> Result<Duration, Error> {
        match self.otlp(signal, "TIMEOUT") {
            Some((name, _)) => self.millis(&name, 10_000),
            None => Ok(Duration::from_secs(10)),
        }
    }

    fn resource(&self) -> Result<Resource, Error> {
        let name = "OTEL_RESOURCE_ATTRIBUTES";
        let mut resource = Resource::default();
        if let Some(list) = self.get(name) {
            let attributes = read_pairs(&list);
            let expected = || Error(format!("{name}: expected key=value,key=value"));
            resource.attributes = attributes.ok_or_else(expected)?;
        }
        let is_name = |(key, _): &(String, String)| key == "service.name";
        let named = resource.attributes.iter().position(is_name);
        let named = named.map(|at| resource.attributes.remove(at).1);
        resource.service_name = self.get("OTEL_SERVICE_NAME").or(named);
        Ok(resource)
    }

    fn sampler(&self) -> Result<SpanOptions, Error> {
        let name = "OTEL_TRACES_SAMPLER";
        let sampler = self
            .get(name)
            .unwrap_or_else(|| "parentbased_always_on".into());
        let (parent_based, root) = match sampler.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, &*sampler),
        };
        let ratio = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => self.ratio()?,
            _ => {
                return Err(Error(format!(
                    "{name}: expected always_on, always_off or traceidratio, or one of these \
                     behind parentbased_, found {sampler:?}"
                )));
            }
        };
        let head = Head {
            parent_based,
            ratio,
        };
        Ok(SpanOptions {
            head,
            ..SpanOptions::default()
        })
    }

    fn ratio(&self) -> Result<f64, Error> {
        let name = "OTEL_TRACES_SAMPLER_ARG";
        let value = self.get(name).unwrap_or_else(|| "1".into());
        let ratio = value.trim().parse::<f64>().ok();
        let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.ok_or_else(|| Error(format!("{name}: expected 0 to 1, found {value:?}")))
    }

    fn exponential(&self) -> Result<bool, Error> {
        let name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        if let Some(value) = self.get(name)
            && !value.eq_ignore_ascii_case("cumulative")
        {
            return Err(Error(format!(
                "{name}: only cumulative is supported, found {value:?}"
            )));
        }
        let name = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
        match self.get(name).as_deref() {
            None | Some("explicit_bucket_histogram") => Ok(false),
            Some("base2_exponential_bucket_histogram") => Ok(true),
            Some(value) => Err(Error(format!(
                "{name}: expected explicit_bucket_histogram or \
                 base2_exponential_bucket_histogram, found {value:?}"
            ))),
        }
    }
}

fn check_scheme(endpoint: &str) -> Result<(), Error> {
    let tls = cfg!(feature = "tls");
    match endpoint.split_once("://") {
        Some(("http", rest)) if !rest.is_empty() => Ok(()),
        Some(("https", rest)) if !rest.is_empty() && tls => Ok(()),
        Some(("https", _)) => Err(Error(format!(
            "{endpoint}: this program was built without TLS (feature tls); send to a collector on \
             this machine, which forwards"
        ))),
        _ => Err(Error(format!(
            "{endpoint}: expected a URL such as http://localhost:4317"
        ))),
    }
}

/// Reads `key=value,key=value`, values percent-encoded (W3C Baggage, without properties), as the
/// variables of OpenTelemetry have it; `None` where it is none.
#[must_use]
pub fn read_pairs(list: &str) -> Option<Vec<(String, String)>> {
    let items = list
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    let pair = |item: &str| {
        let (key, value) = item.split_once('=')?;
        let key = key.trim();
        let legal = !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic());
        legal.then_some(())?;
        Some((key.to_ascii_lowercase(), percent_decoded(value.trim())?))
    };
    items.map(pair).collect()
}

/// Writes what [`read_pairs`] reads.
#[must_use]
pub fn write_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut list = String::new();
    for (key, value) in pairs {
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(key);
        list.push('=');
        for byte in value.bytes() {
            match byte {
                b'%' | b',' | b';' | b'"' | b'\\' => list.push_str(&format!("%{byte:02X}")),
                0x21..=0x7e => list.push(char::from(byte)),
                _ => list.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    list
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |b: &u8| char::from(*b).to_digit(16);
                bytes.push((digit(high)? * 16 + digit(low)?) as u8);
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], endpoint: Option<&str>) -> Result<Config, Error> {
        let find = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Config::read(&find, endpoint, Wanted::Configured)
    }

    fn targets(variables: &[(&str, &str)], endpoint: Option<&str>) -> [Option<String>; 2] {
        let config = read(variables, endpoint).expect("valid");
        [config.traces, config.metrics]
            .map(|target| target.map(|t| format!("{:?} {}", t.protocol, t.endpoint)))
    }

    #[test]
    fn without_an_endpoint_nothing_is_exported() {
        assert_eq!(targets(&[], None), [None, None]);
    }

    #[test]
    fn an_endpoint_for_all_signals_gets_the_signals_path() {
        let both = targets(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/x/")], None);
        let expected = |path| Some(format!("HttpProtobuf http://c:4318/x/v1/{path}"));
        assert_eq!(both, [expected("traces"), expected("metrics")]);
    }

    #[test]
    fn the_endpoint_of_a_signal_is_used_as_it_is_and_wins() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:9/own"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ];
        let [traces, metrics] = targets(&variables, None);
        assert_eq!(traces.as_deref(), Some("HttpJson http://t:9/own"));
        assert_eq!(metrics.as_deref(), Some("Grpc http://c:4317"));
        let [traces, _] = targets(&variables, Some("http://flag:4318"));
        assert_eq!(
            traces.as_deref(),
            Some("HttpJson http://flag:4318/v1/traces")
        );
    }

    #[test]
    fn a_signal_may_be_switched_off() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
            ("OTEL_METRICS_EXPORTER", "none"),
        ];
        assert_eq!(targets(&variables, None)[1], None);
        let all_off = [variables[0], ("OTEL_SDK_DISABLED", "true")];
        assert_eq!(targets(&all_off, None), [None, None]);
    }

    #[test]
    fn headers_and_resource_attributes_are_percent_decoded() {
        let config = read(
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
                (
                    "OTEL_EXPORTER_OTLP_HEADERS",
                    "Authorization=Basic%20YQ==, x = 1",
                ),
                (
                    "OTEL_RESOURCE_ATTRIBUTES",
                    "service.name=shop,deployment.environment.name=a%2Cb",
                ),
            ],
            None,
        );
        let config = config.expect("valid");
        let headers = config.traces.expect("a target").headers;
        let expected = [("authorization", "Basic YQ=="), ("x", "1")];
        assert_eq!(headers, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(config.resource.service_name.as_deref(), Some("shop"));
        let attribute = ("deployment.environment.name".to_owned(), "a,b".to_owned());
        assert_eq!(config.resource.attributes, [attribute]);
    }

    #[test]
    fn samplers_are_those_of_the_specification() {
        let sampler = |name: &str, arg: &str| {
            let variables = [
                ("OTEL_TRACES_SAMPLER", name),
                ("OTEL_TRACES_SAMPLER_ARG", arg),
            ];
            read(&variables, None).map(|c| (c.spans.head.parent_based, c.spans.head.ratio))
        };
        assert_eq!(sampler("", ""), Ok((true, 1.0)));
        assert_eq!(sampler("always_off", ""), Ok((false, 0.0)));
        assert_eq!(
            sampler("parentbased_traceidratio", "0.25"),
            Ok((true, 0.25))
        );
        assert!(sampler("traceidratio", "2").is_err());
        assert!(sampler("sometimes", "").is_err());
    }

    #[test]
    fn pairs_are_read_as_they_were_written() {
        let pairs = [("a", "1, 2;\"3\" = 100%"), ("b", ""), ("ü", "größer\\ \n")];
        let read = read_pairs(&write_pairs(pairs[..2].iter().copied()));
        let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        assert_eq!(read, Some(pairs[..2].iter().map(owned).collect()));
        let values = [("a", pairs[2].1)];
        let read = read_pairs(&write_pairs(values.into_iter()));
        assert_eq!(read, Some(values.iter().map(owned).collect()));
    }

    #[test]
    fn what_cannot_be_done_is_said_with_the_name_of_the_variable() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1s"),
        ] {
            let error = read(&[base, (name, value)], None).expect_err(name);
            assert!(error.to_string().starts_with(name), "{error}");
        }
        assert!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317")], None).is_err());
    }
}
