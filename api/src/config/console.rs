//! Operators' console: off unless its address is configured.

use anyhow::{Context as _, anyhow, ensure};
use dezky_shared::{
    platform::{
        config::{bearer_token, optional},
        http_url::HttpOrigin,
    },
    queue::secret_box::EncryptionKeys,
};
use secrecy::SecretString;

use super::AuthConfig;
use crate::auth::OPERATOR_AUDIENCE;

/// Hosts on which a browser trusts plain HTTP.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The operators' console.
#[derive(Debug, Clone)]
pub struct ConsoleConfig {
    /// Scheme, host and port under which browsers reach the api.
    pub origin: String,
    /// Whether browsers reach it by HTTPS, as everywhere but on the developer's machine.
    pub is_secure: bool,
    /// Issuer that operators sign in at.
    pub issuer: String,
    /// Secret of the client at the issuer. `None` for a public client.
    pub client_secret: Option<SecretString>,
}

impl ConsoleConfig {
    /// Reads `CONSOLE_URL` and `CONSOLE_CLIENT_SECRET`. `None` without an address: the console is off.
    pub fn from_env(auth: &AuthConfig, keys: &EncryptionKeys) -> anyhow::Result<Option<Self>> {
        let client_secret = bearer_token("CONSOLE_CLIENT_SECRET")?;
        let Some(url) = optional::<String>("CONSOLE_URL")? else {
            ensure!(
                client_secret.is_none(),
                "CONSOLE_URL must be set, because CONSOLE_CLIENT_SECRET is"
            );
            return Ok(None);
        };
        Self::new(&url, client_secret, auth, keys).map(Some)
    }

    /// The console at this address. Operators sign in at the issuer that may issue operator tokens.
    pub fn new(
        url: &str,
        client_secret: Option<SecretString>,
        auth: &AuthConfig,
        keys: &EncryptionKeys,
    ) -> anyhow::Result<Self> {
        let address: HttpOrigin = url
            .parse()
            .map_err(|error| anyhow!("CONSOLE_URL is not valid: {error}"))?;
        let is_secure = address.url().scheme() == "https";
        let host = address.url().host_str().unwrap_or_default();
        ensure!(
            is_secure || LOOPBACK.contains(&host),
            "CONSOLE_URL is not valid: expected https://, or http:// on localhost"
        );
        ensure!(
            keys.can_encrypt(),
            "SEALING_KEYS must be set, because CONSOLE_URL is: sessions hold encrypted tokens"
        );
        let of_operators = auth.issuers.iter().find(|issuer| {
            let mut audiences = issuer.audiences.iter();
            audiences.any(|audience| audience == OPERATOR_AUDIENCE)
        });
        let issuer = of_operators.context(
            "CONSOLE_URL is set, and no issuer of AUTHENTIK_ISSUERS may issue tokens for dezky-operator",
        )?;
        Ok(Self {
            origin: address.origin(),
            is_secure,
            issuer: issuer.name.clone(),
            client_secret,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::IssuerConfig;

    #[test]
    fn the_console_needs_https_keys_and_an_issuer_of_operators() {
        let auth = |audience: &str| AuthConfig {
            issuers: vec![IssuerConfig {
                name: "https://auth.example.com/application/o/dezky-operator/".to_owned(),
                jwks_url: None,
                audiences: vec![audience.to_owned()],
            }],
            admin_groups: vec![],
        };
        let keys =
            EncryptionKeys::parse(["k:QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="]).unwrap();
        let new = |url: &str, keys: &EncryptionKeys, audience: &str| {
            let config = ConsoleConfig::new(url, None, &auth(audience), keys);
            config.map_err(|error| error.to_string())
        };

        let secure = new("https://api.example.com", &keys, OPERATOR_AUDIENCE).unwrap();
        let local = new("http://localhost:3001", &keys, OPERATOR_AUDIENCE).unwrap();

        assert!(secure.is_secure && !local.is_secure);
        assert_eq!(secure.origin, "https://api.example.com");
        for (url, keys, audience) in [
            ("http://api.example.com", &keys, OPERATOR_AUDIENCE),
            ("https://api.example.com/console", &keys, OPERATOR_AUDIENCE),
            (
                "https://api.example.com",
                &EncryptionKeys::default(),
                OPERATOR_AUDIENCE,
            ),
            ("https://api.example.com", &keys, "dezky-portal"),
        ] {
            assert!(
                new(url, keys, audience)
                    .unwrap_err()
                    .contains("CONSOLE_URL")
            );
        }
    }
}
