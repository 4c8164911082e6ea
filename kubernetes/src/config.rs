//! Whom to ask, and for what.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Uri;

/// Where Kubernetes puts what a pod needs to ask the API server.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What is wrong with a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Whom to ask, and for the pods of which node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    pub(crate) url: String,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) node: String,
    pub(crate) pace: Pace,
}

/// How fast things go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    /// The first wait after something failed, which doubles.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
    /// How long an answer may take as a whole, and a watch to begin.
    pub patience: Duration,
    /// How long a watch goes on before it is begun anew.
    pub watch: Duration,
    /// Nothing was heard for so long: who has which address is not known any more.
    pub old: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(30),
            patience: Duration::from_secs(15),
            watch: Duration::from_secs(300),
            old: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// The API server of the cluster that this program runs in, by its variables; `None` outside of
    /// one.
    #[must_use]
    pub fn in_cluster(variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
        let of = |name: &str| variable(name).filter(|value| !value.is_empty());
        let host = of("KUBERNETES_SERVICE_HOST")?;
        let port = of("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
        let is_v6 = host.contains(':') && !host.starts_with('[');
        Some(match is_v6 {
            true => format!("https://[{host}]:{port}"),
            false => format!("https://{host}:{port}"),
        })
    }

    /// The pods of `node`, of the API server at `url`. Without `files`, over TLS the service account's.
    ///
    /// # Errors
    ///
    /// A URL or a name that is none; a token that everybody could read on its way.
    pub fn new(
        url: &str,
        node: &str,
        (token_file, ca_file): (Option<&Path>, Option<&Path>),
    ) -> Result<Self, Error> {
        let uri = url.parse::<Uri>().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        let scheme = uri.as_ref().and_then(Uri::scheme_str).unwrap_or_default();
        let is_plain = uri.as_ref().is_some_and(|uri| {
            uri.query().is_none() && uri.authority().is_some_and(|of| !of.as_str().contains('@'))
        });
        if host.is_empty() || !is_plain || !matches!(scheme, "http" | "https") {
            return Err(Error(format!(
                "{url}: expected a URL such as https://10.0.0.1:6443"
            )));
        }
        if !is_name(node) {
            return Err(Error(format!(
                "{node:?} is no name of a node; set kubernetes.node or NODE_NAME"
            )));
        }
        let with_tls = scheme == "https";
        let account = |name: &str| with_tls.then(|| Path::new(ACCOUNT).join(name));
        let said = |file: Option<&Path>| file.map(Path::to_path_buf);
        if token_file.is_some() && !with_tls && !is_loopback(host) {
            return Err(Error(format!(
                "{url}: a token is only sent with https, or within this machine"
            )));
        }
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            token_file: said(token_file).or_else(|| account("token")),
            ca_file: said(ca_file).or_else(|| account("ca.crt")),
            node: node.to_owned(),
            pace: Pace::default(),
        })
    }

    /// The same at another pace.
    #[must_use]
    pub fn at_pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// Whose pods are asked for.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Who is asked.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    address == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A DNS subdomain, as names of objects are.
pub(crate) fn is_name(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(legal) && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_server_of_a_cluster_is_known_by_its_variables() {
        let of = |host: &str, port: &str| {
            let found = |name: &str| match name {
                "KUBERNETES_SERVICE_HOST" => Some(host.to_owned()),
                "KUBERNETES_SERVICE_PORT" => Some(port.to_owned()),
                _ => None,
            };
            Config::in_cluster(&found)
        };
        assert_eq!(
            of("10.96.0.1", "443").as_deref(),
            Some("https://10.96.0.1:443")
        );
        assert_eq!(
            of("fd00::1", "6443").as_deref(),
            Some("https://[fd00::1]:6443")
        );
        assert_eq!(
            of("api.example", "").as_deref(),
            Some("https://api.example:443")
        );
        assert_eq!(of("", "443"), None);
    }

    #[test]
    fn over_tls_the_service_accounts_files_are_used_unless_others_are_named() {
        let own = (Some(Path::new("/t")), None);
        let config = Config::new("https://10.0.0.1/", "node-1", own).expect("right");
        assert_eq!(config.url(), "https://10.0.0.1");
        assert_eq!(config.token_file.as_deref(), Some(Path::new("/t")));
        let ca = config.ca_file.expect("a file");
        assert_eq!(ca, Path::new(ACCOUNT).join("ca.crt"));
        let config = Config::new("http://10.0.0.1:8001", "node-1", (None, None)).expect("right");
        assert_eq!((config.token_file, config.ca_file), (None, None));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (url, node) in [
            ("10.0.0.1:6443", "n"),
            ("ftp://10.0.0.1", "n"),
            ("https://", "n"),
            ("https://me:secret@10.0.0.1", "n"),
            ("https://10.0.0.1?x=1", "n"),
            ("https://10.0.0.1", ""),
            ("https://10.0.0.1", "Node"),
            ("https://10.0.0.1", "n&watch=0"),
            ("https://10.0.0.1", "../n"),
        ] {
            assert!(
                Config::new(url, node, (None, None)).is_err(),
                "{url} {node}"
            );
        }
        let token = (Some(Path::new("/t")), None);
        assert!(Config::new("http://10.0.0.1", "n", token).is_err());
        for host in ["localhost", "127.0.0.1:80", "[::1]:80"] {
            assert!(
                Config::new(&format!("http://{host}"), "n", token).is_ok(),
                "{host}"
            );
        }
    }
}
