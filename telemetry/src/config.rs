//! Where to export to, and how: the environment variables that OpenTelemetry has for it.

mod pairs;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use wirespan_export::spans::{Head, Options as SpanOptions};

use crate::delta::Temporality;
use crate::encode::Resource;
pub use pairs::{read_pairs, write_pairs};

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
    /// Whether requests are compressed with gzip.
    pub gzip: bool,
    /// Who is trusted, and who one is, where the endpoint is `https`.
    pub tls: Tls,
}

/// Files in PEM that TLS is spoken with; without them, with the certificates that the machine trusts,
/// and anonymously.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tls {
    /// The certificates that are trusted.
    pub certificate: Option<PemFile>,
    /// The client's certificate, and its key.
    pub client: Option<[PemFile; 2]>,
}

/// A file, and which variable names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PemFile {
    /// The variable.
    pub variable: String,
    /// The file.
    pub path: PathBuf,
}

impl PemFile {
    /// What is in it.
    ///
    /// # Errors
    ///
    /// Why it cannot be read, with the variable's name.
    #[cfg(feature = "tls")]
    pub(crate) fn read(&self) -> Result<Vec<u8>, Error> {
        let Self { variable, path } = self;
        let wrong = |error| Error(format!("{variable}: {}: {error}", path.display()));
        std::fs::read(path).map_err(wrong)
    }
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
    /// Which metrics are sent as what was counted since they were sent last:
    /// `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`.
    pub temporality: Temporality,
    /// The HTTP methods that are told apart, in place of those that the conventions know:
    /// `OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS`.
    pub known_methods: Option<Vec<Box<str>>>,
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
            temporality: env.temporality()?,
            known_methods: env.known_methods(),
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
        Ok(Some(Target {
            endpoint,
            protocol,
            headers: self.headers(signal)?,
            timeout: self.timeout(signal)?,
            gzip: self.gzip(signal)?,
            tls: self.tls(signal)?,
        }))
    }

    fn gzip(&self, signal: Signal) -> Result<bool, Error> {
        match self.otlp(signal, "COMPRESSION") {
            None => Ok(false),
            Some((name, value)) => match value.trim() {
                "gzip" => Ok(true),
                "none" => Ok(false),
                _ => Err(Error(format!(
                    "{name}: expected gzip or none, found {value:?}"
                ))),
            },
        }
    }

    fn tls(&self, signal: Signal) -> Result<Tls, Error> {
        let file = |what: &str| {
            let (variable, path) = self.otlp(signal, what)?;
            let path = path.trim().into();
            Some(PemFile { variable, path })
        };
        let client = match (file("CLIENT_CERTIFICATE"), file("CLIENT_KEY")) {
            (Some(certificate), Some(key)) => Some([certificate, key]),
            (None, None) => None,
            (Some(PemFile { variable, .. }), None) => {
                return Err(Error(format!(
                    "{variable}: give its key too, by …_CLIENT_KEY"
                )));
            }
            (None, Some(PemFile { variable, .. })) => {
                let message = "give its certificate too, by …_CLIENT_CERTIFICATE";
                return Err(Error(format!("{variable}: {message}")));
            }
        };
        Ok(Tls {
            certificate: file("CERTIFICATE"),
            client,
        })
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

    fn known_methods(&self) -> Option<Vec<Box<str>>> {
        let list = self.get("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS")?;
        let methods = list.split(',').map(str::trim);
        let methods = methods.filter(|method| !method.is_empty());
        Some(methods.map(Into::into).collect())
    }

    fn temporality(&self) -> Result<Temporality, Error> {
        let name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        let value = self.get(name).unwrap_or_else(|| "cumulative".into());
        match value.trim().to_ascii_lowercase().as_str() {
            "cumulative" => Ok(Temporality::Cumulative),
            "delta" => Ok(Temporality::Delta),
            "lowmemory" => Ok(Temporality::LowMemory),
            _ => Err(Error(format!(
                "{name}: expected cumulative, delta or lowmemory, found {value:?}"
            ))),
        }
    }

    fn exponential(&self) -> Result<bool, Error> {
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
