//! The API server of tests over TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::fake::{Accepted, Io};

pub(crate) fn certificates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates")
}

/// What goes over a socket in TLS; nothing with clients that do not trust the server.
pub(crate) fn accept(stream: TcpStream) -> Accepted {
    Box::pin(async move {
        let stream = acceptor().accept(stream).await.ok()?;
        Some(Box::new(stream) as Box<dyn Io>)
    })
}

fn acceptor() -> TlsAcceptor {
    let file = |name: &str| certificates().join(name);
    let chain = CertificateDer::pem_file_iter(file("server.pem")).expect("a certificate");
    let chain = chain
        .map(|certificate| certificate.expect("a certificate"))
        .collect();
    let key = PrivateKeyDer::from_pem_file(file("server.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config
        .with_safe_default_protocol_versions()
        .expect("versions");
    let config = config.with_no_client_auth().with_single_cert(chain, key);
    TlsAcceptor::from(Arc::new(config.expect("a pair")))
}
