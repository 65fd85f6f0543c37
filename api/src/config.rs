//! Configuration from environment variables.

mod auth;
mod console;
mod limits;
mod proxies;
mod server;
mod stripe;

use std::{net::SocketAddr, str::FromStr, time::Duration};

use crate::domain_name::{NamePolicy, normalise};
use anyhow::{Context as _, anyhow, ensure};
use dezky_shared::{
    invoice::InvoicingConfig,
    platform::{
        config::{boolean, list, listen_address, optional},
        http_url::{HttpOrigin, HttpUrl},
        redis::RedisConfig,
        tls::TrustRoots,
    },
    queue::secret_box::EncryptionKeys,
    store::MongoConfig,
};
use http::HeaderValue;

pub use self::{
    auth::{AuthConfig, IssuerConfig},
    console::ConsoleConfig,
    limits::{Limit, LimitsConfig},
    proxies::TrustedProxies,
    server::ServerConfig,
    stripe::StripeConfig,
};

/// Length of a day in seconds.
const DAY: u64 = 24 * 60 * 60;
/// Longest grace period of a deleted tenant or member: ten years.
const MAX_PURGE_AFTER_DAYS: u64 = 3_650;

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
    /// Public base URL of Authentik, without a trailing slash: where users and relying parties reach it.
    pub authentik_public_url: String,
    /// Rate limits.
    pub limits: LimitsConfig,
    /// Limits of the HTTP server.
    pub server: ServerConfig,
    /// Grace period in which a deleted tenant can be restored.
    pub purge_after: Duration,
    /// Grace period in which a removed member can be restored.
    pub member_purge_after: Duration,
    /// Whether a person without a tenant may create one.
    pub self_service_tenants: bool,
    /// Policy for the domain names of tenants.
    pub domain_names: NamePolicy,
    /// Origins that may call the API from a browser.
    pub cors_allowed_origins: Vec<HeaderValue>,
    /// Root certificates trusted in addition to the default ones.
    pub trust_roots: TrustRoots,
    /// Keys that decrypt the secrets of jobs.
    pub encryption_keys: EncryptionKeys,
    /// Configuration of invoices.
    pub invoicing: InvoicingConfig,
    /// Public key and webhooks of Stripe.
    pub stripe: StripeConfig,
    /// The operators' console. `None` if it is off.
    pub console: Option<ConsoleConfig>,
}

impl Config {
    /// Reads the configuration.
    pub fn from_env() -> anyhow::Result<Self> {
        let listen = listen_address("API_LISTEN", ([0, 0, 0, 0], 3001).into())?;
        let metrics_listen = listen_address("API_METRICS_LISTEN", ([127, 0, 0, 1], 9464).into())?;
        ensure!(
            listen != metrics_listen || listen.port() == 0,
            "API_LISTEN and API_METRICS_LISTEN are the same address: choose another port for the metrics"
        );
        let auth = AuthConfig::from_env()?;
        let encryption_keys = EncryptionKeys::from_env()?;
        Ok(Self {
            listen,
            metrics_listen,
            authentik_public_url: authentik_public_url(&auth)?,
            console: ConsoleConfig::from_env(&auth, &encryption_keys)?,
            encryption_keys,
            mongo: MongoConfig::from_env()?,
            redis: RedisConfig::from_env()?,
            auth,
            limits: LimitsConfig::from_env()?,
            server: ServerConfig::from_env()?,
            purge_after: purge_after("TENANT_PURGE_AFTER", 30 * DAY)?,
            member_purge_after: purge_after("MEMBER_PURGE_AFTER", 7 * DAY)?,
            self_service_tenants: boolean("SELF_SERVICE_TENANTS", false)?,
            domain_names: domain_names()?,
            cors_allowed_origins: list("CORS_ALLOWED_ORIGINS")?
                .iter()
                .map(|origin| allowed_origin(origin))
                .collect::<anyhow::Result<_>>()?,
            trust_roots: TrustRoots::from_env()?,
            invoicing: InvoicingConfig::from_env()?,
            stripe: StripeConfig::from_env()?,
        })
    }
}

/// Entry of `CORS_ALLOWED_ORIGINS` for every port of this machine, as development servers choose theirs.
pub const ANY_LOCALHOST: &str = "http://localhost:*";

/// Parses a CORS origin, spelt as browsers send it: the comparison is byte for byte. `*` is rejected, since requests carry
/// credentials.
fn allowed_origin(origin: &str) -> anyhow::Result<HeaderValue> {
    if origin == ANY_LOCALHOST {
        return Ok(HeaderValue::from_static(ANY_LOCALHOST));
    }
    let parsed: HttpOrigin = origin
        .parse()
        .map_err(|error| anyhow!("CORS_ALLOWED_ORIGINS is not valid: {error}"))?;
    let sent = parsed.origin();
    ensure!(
        !sent.contains('*'),
        "CORS_ALLOWED_ORIGINS is not valid: list each origin instead of a pattern"
    );
    ensure!(
        origin == sent,
        "CORS_ALLOWED_ORIGINS is not valid: browsers send {sent}, so {origin} never matches"
    );
    Ok(sent.parse()?)
}

/// Reads `AUTHENTIK_PUBLIC_URL`; by default the part of the first issuer before its path `/application/o/`.
fn authentik_public_url(auth: &AuthConfig) -> anyhow::Result<String> {
    if let Some(url) = optional::<HttpUrl>("AUTHENTIK_PUBLIC_URL")? {
        return Ok(url.base());
    }
    let issuer = auth.issuers.first().map(|issuer| issuer.name.as_str());
    let base = issuer.and_then(|issuer| Some(issuer.split_once("/application/o/")?.0));
    let base = base.context(
        "AUTHENTIK_PUBLIC_URL must be set, because AUTHENTIK_ISSUERS does not contain /application/o/",
    )?;
    Ok(base.to_owned())
}

/// Reads a grace period. `default` is in seconds.
fn purge_after(name: &str, default: u64) -> anyhow::Result<Duration> {
    let Some(HumanDuration(after)) = optional(name)? else {
        return Ok(Duration::from_secs(default));
    };
    ensure!(
        after <= Duration::from_secs(MAX_PURGE_AFTER_DAYS * DAY),
        "{name} is not valid: expected at most {MAX_PURGE_AFTER_DAYS}d"
    );
    Ok(after)
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
            'd' => DAY,
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
    fn an_origin_is_spelt_as_browsers_send_it() {
        for origin in [
            "https://portal.dk",
            "http://localhost:3000",
            "http://[::1]:8080",
            ANY_LOCALHOST,
        ] {
            assert_eq!(allowed_origin(origin).unwrap(), origin);
        }
        for origin in [
            "*",
            "null",
            "portal.dk",
            "https://portal.dk/",
            "https://portal.dk/path",
            "https://Portal.dk",
            "https://portal.dk:443",
            "https://pörtal.dk",
            "https://*.portal.dk",
            "https://localhost:*",
            "https://user:secret@portal.dk",
            "ftp://portal.dk",
        ] {
            let error = allowed_origin(origin).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
