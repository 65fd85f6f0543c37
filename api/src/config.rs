//! Configuration from environment variables.

mod limits;
mod proxies;

use std::{net::SocketAddr, str::FromStr, time::Duration};

use crate::domain_name::{NamePolicy, normalise};
use anyhow::{Context as _, bail, ensure};
use dezky_shared::{
    platform::{
        config::{boolean, list, optional},
        redis::RedisConfig,
        tls::TrustRoots,
    },
    queue::secret_box::EncryptionKeys,
    store::MongoConfig,
};
use http::{HeaderValue, Uri};

pub use self::{
    limits::{Limit, LimitsConfig},
    proxies::TrustedProxies,
};

/// Configuration of the process.
#[derive(Debug, Clone)]
pub struct Config {
    /// Listen address of the API.
    pub listen: SocketAddr,
    /// Listen address of the metrics endpoint.
    pub metrics_listen: SocketAddr,
    /// MongoDB.
    pub mongo: MongoConfig,
    /// Redis.
    pub redis: RedisConfig,
    /// Accepted tokens.
    pub auth: AuthConfig,
    /// Rate limits.
    pub limits: LimitsConfig,
    /// Grace period in which a deleted tenant can be restored.
    pub purge_after: Duration,
    /// Policy for the domain names of tenants.
    pub domain_names: NamePolicy,
    /// Origins that may call the API from a browser.
    pub cors_allowed_origins: Vec<HeaderValue>,
    /// Trusted reverse proxies.
    pub trusted_proxies: TrustedProxies,
    /// Root certificates trusted in addition to the default ones.
    pub trust_roots: TrustRoots,
    /// Keys that decrypt the secrets of jobs.
    pub sealing_keys: EncryptionKeys,
}

/// Accepted tokens, and the meaning of their groups.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// Trusted issuers.
    pub issuers: Vec<IssuerConfig>,
    /// Accepted audiences. `aud` must contain one of them.
    pub audiences: Vec<String>,
    /// Groups that grant operator access. They never stand for a tenant.
    pub admin_groups: Vec<String>,
}

/// An issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerConfig {
    /// The `iss` claim of its tokens.
    pub name: String,
    /// URL of its keys. `None` uses its discovery document.
    pub jwks_url: Option<String>,
}

impl Config {
    /// Reads the configuration.
    pub fn from_env() -> anyhow::Result<Self> {
        Ok(Self {
            listen: optional("API_LISTEN")?.unwrap_or(([0, 0, 0, 0], 3001).into()),
            metrics_listen: optional("API_METRICS_LISTEN")?
                .unwrap_or(([127, 0, 0, 1], 9464).into()),
            mongo: MongoConfig::from_env()?,
            redis: RedisConfig::from_env()?,
            auth: AuthConfig::from_env()?,
            limits: LimitsConfig::from_env()?,
            purge_after: optional::<HumanDuration>("TENANT_PURGE_AFTER")?
                .map_or(Duration::from_hours(30 * 24), |HumanDuration(after)| after),
            domain_names: domain_names()?,
            cors_allowed_origins: list("CORS_ALLOWED_ORIGINS")?
                .iter()
                .map(|origin| allowed_origin(origin))
                .collect::<anyhow::Result<_>>()?,
            trusted_proxies: TrustedProxies::from_env()?,
            trust_roots: TrustRoots::from_env()?,
            sealing_keys: EncryptionKeys::from_env()?,
        })
    }
}

/// Parses a CORS origin. `*` is rejected, since requests carry credentials.
fn allowed_origin(origin: &str) -> anyhow::Result<HeaderValue> {
    ensure!(
        is_http_url(origin),
        "CORS_ALLOWED_ORIGINS is not valid: expected https://host, found {origin:?}"
    );
    Ok(origin.parse()?)
}

fn is_http_url(text: &str) -> bool {
    let uri: Option<Uri> = text.parse().ok();
    uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
    })
}

/// Reads `DOMAINS_OWN` and `DOMAINS_ALLOW_SPECIAL_USE`.
fn domain_names() -> anyhow::Result<NamePolicy> {
    let own_domains = list("DOMAINS_OWN")?
        .iter()
        .map(|text| normalise(text).with_context(|| format!("DOMAINS_OWN is not valid: {text:?}")))
        .collect::<anyhow::Result<_>>()?;
    Ok(NamePolicy {
        allow_special_use: boolean("DOMAINS_ALLOW_SPECIAL_USE", false)?,
        own_domains,
    })
}

impl AuthConfig {
    /// Reads `AUTHENTIK_ISSUERS`, `AUTHENTIK_JWKS_URLS`, `AUTHENTIK_AUDIENCE` and `AUTHENTIK_ADMIN_GROUPS`.
    pub fn from_env() -> anyhow::Result<Self> {
        let issuers = list("AUTHENTIK_ISSUERS")?;
        let jwks_urls = list("AUTHENTIK_JWKS_URLS")?;
        let or_default = |names: Vec<String>, default: [&str; 2]| {
            if names.is_empty() {
                default.map(str::to_owned).to_vec()
            } else {
                names
            }
        };
        ensure!(!issuers.is_empty(), "AUTHENTIK_ISSUERS must be set");
        for (name, urls) in [
            ("AUTHENTIK_ISSUERS", &issuers),
            ("AUTHENTIK_JWKS_URLS", &jwks_urls),
        ] {
            if let Some(invalid) = urls.iter().find(|url| !is_http_url(url)) {
                bail!("{name} is not valid: expected http or https URLs, found {invalid:?}");
            }
        }
        Ok(Self {
            issuers: pair(issuers, jwks_urls)?,
            audiences: or_default(
                list("AUTHENTIK_AUDIENCE")?,
                ["dezky-portal", "dezky-operator"],
            ),
            admin_groups: or_default(
                list("AUTHENTIK_ADMIN_GROUPS")?,
                ["dezky-platform-admins", "authentik Admins"],
            ),
        })
    }
}

fn pair(issuers: Vec<String>, jwks_urls: Vec<String>) -> anyhow::Result<Vec<IssuerConfig>> {
    if !jwks_urls.is_empty() && jwks_urls.len() != issuers.len() {
        bail!(
            "AUTHENTIK_JWKS_URLS must be empty or have as many entries as AUTHENTIK_ISSUERS, in the same order"
        );
    }
    let mut jwks_urls = jwks_urls.into_iter();
    Ok(issuers
        .into_iter()
        .map(|name| IssuerConfig {
            name,
            jwks_url: jwks_urls.next(),
        })
        .collect())
}

/// A duration with a unit: `0s`, `90s`, `15m`, `12h`, `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HumanDuration(Duration);

impl FromStr for HumanDuration {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a number with a unit, such as 90s, 15m, 12h or 30d";
        let unit = text.chars().last().ok_or(EXPECTED)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 60 * 60,
            'd' => 24 * 60 * 60,
            _ => return Err(EXPECTED),
        };
        let number: u32 = text
            .strip_suffix(unit)
            .and_then(|number| number.parse().ok())
            .ok_or(EXPECTED)?;
        Ok(Self(Duration::from_secs(u64::from(number) * seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_with_their_unit() {
        let read = |text: &str| {
            text.parse()
                .map(|HumanDuration(duration)| duration.as_secs())
        };

        assert_eq!(read("0s"), Ok(0));
        assert_eq!(read("90s"), Ok(90));
        assert_eq!(read("15m"), Ok(900));
        assert_eq!(read("12h"), Ok(43_200));
        assert_eq!(read("30d"), Ok(2_592_000));
        for wrong in ["", "s", "30", "-1d", "1.5h", "1 d", "1ö"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn jwks_urls_are_empty_or_as_many_as_issuers() {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };

        let without = pair(names(&["a", "b"]), vec![]).unwrap();
        let with = pair(names(&["a", "b"]), names(&["x", "y"])).unwrap();

        assert!(without.iter().all(|issuer| issuer.jwks_url.is_none()));
        assert_eq!(with[1].jwks_url.as_deref(), Some("y"));
        assert!(pair(names(&["a", "b"]), names(&["x"])).is_err());
    }
}
