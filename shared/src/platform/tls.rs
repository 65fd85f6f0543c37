//! TLS trust roots, and the only constructor of HTTP clients.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::config;

/// Connect timeout.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Additional trusted certificates: `EXTRA_CA_CERTS`, a path to a PEM file.
#[derive(Debug, Clone, Default)]
pub struct TrustRoots(Vec<reqwest::Certificate>);

impl TrustRoots {
    /// Reads the file named by `EXTRA_CA_CERTS`, if set.
    pub fn from_env() -> anyhow::Result<Self> {
        let Some(path) = config::optional::<String>("EXTRA_CA_CERTS")? else {
            return Ok(Self::default());
        };
        let pem = std::fs::read(&path)
            .with_context(|| format!("EXTRA_CA_CERTS: {path} cannot be read"))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .with_context(|| format!("EXTRA_CA_CERTS: {path} is not a PEM bundle"))?;
        ensure!(
            !certificates.is_empty(),
            "EXTRA_CA_CERTS: {path} contains no certificate"
        );
        let roots = Self(certificates);
        roots
            .client_builder()
            .build()
            .with_context(|| format!("EXTRA_CA_CERTS: {path} contains an invalid certificate"))?;
        Ok(roots)
    }

    /// A builder of HTTP clients that also trust these certificates.
    #[expect(
        clippy::disallowed_methods,
        reason = "the only place that builds HTTP clients"
    )]
    pub fn client_builder(&self) -> reqwest::ClientBuilder {
        let builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        self.0
            .iter()
            .cloned()
            .fold(builder, reqwest::ClientBuilder::add_root_certificate)
    }
}
