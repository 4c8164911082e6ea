//! TLS towards a backend: who is trusted, and who one is.

use hyper_rustls::ConfigBuilderExt as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::{Error, PemFile, Tls};

/// The configuration of a client.
pub(super) fn client(tls: &Tls) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder();
    let builder = match &tls.certificate {
        Some(file) => builder.with_root_certificates(roots(file)?),
        None => builder
            .with_native_roots()
            .map_err(|error| Error::new(format!("the machine's certificates: {error}")))?,
    };
    let Some([certificate, key]) = &tls.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate)?;
    let text = key.read()?;
    let secret = PrivateKeyDer::from_pem_slice(&text).map_err(|error| wrong(key, &error))?;
    let config = builder.with_client_auth_cert(chain, secret);
    config.map_err(|error| wrong(key, &error))
}

fn roots(file: &PemFile) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots
            .add(certificate)
            .map_err(|error| wrong(file, &error))?;
    }
    Ok(roots)
}

/// The certificates of a file, of which there must be some.
fn certificates(file: &PemFile) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = file.read()?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| wrong(file, &error))?;
    match found.is_empty() {
        true => Err(wrong(file, &"it has no certificate in PEM")),
        false => Ok(found),
    }
}

fn wrong(file: &PemFile, error: &dyn std::fmt::Display) -> Error {
    let PemFile { variable, path } = file;
    Error::new(format!("{variable}: {}: {error}", path.display()))
}
