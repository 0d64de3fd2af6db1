//! TLS of the connections that this server opens, and the authorities that vouch for their other ends.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::error::ConfigError;

/// TLS with servers that the authorities in a file vouch for, or those of this machine.
///
/// # Errors
/// Names the file that cannot be used.
pub(super) fn client_tls(file: Option<&Path>) -> Result<Arc<ClientConfig>, ConfigError> {
    let roots = file.map_or_else(|| Ok(of_this_machine()), read)?;
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError(format!("TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(tls))
}

fn read(file: &Path) -> Result<RootCertStore, ConfigError> {
    let refuse = |error: &dyn std::fmt::Display| {
        ConfigError(format!("{} cannot be used: {error}", file.display()))
    };
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(file).map_err(|error| refuse(&error))? {
        let authority = authority.map_err(|error| refuse(&error))?;
        roots.add(authority).map_err(|error| refuse(&error))?;
    }
    if roots.is_empty() {
        return Err(refuse(&"it has no certificate (PEM)"));
    }
    Ok(roots)
}

fn of_this_machine() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        tracing::warn!(
            ignored,
            "this machine has no root certificates, so no server can be called over https"
        );
    }
    roots
}
