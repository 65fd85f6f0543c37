//! Credentials of the simulators. They are public, so no other upstream may accept them.

use anyhow::ensure;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

/// Authentik's API token.
pub const AUTHENTIK_TOKEN: &str = "sim-authentik-token";
/// Stalwart's API key.
pub const STALWART_TOKEN: &str = "API_sim-stalwart";
/// Password of Stalwart's administrator.
pub const STALWART_PASSWORD: &str = "sim-stalwart-administrator";
/// App token of oCIS's service account.
pub const OCIS_PASSWORD: &str = "sim-ocis-app-token";
/// App password of that account at oCIS's identity provider.
pub const OCIS_OIDC_PASSWORD: &str = "sim-idp-app-password";

/// Secret key of Stripe.
pub const STRIPE_SECRET_KEY: &str = "sk_test_sim_dezky";
/// Publishable key of Stripe. It opens nothing.
pub const STRIPE_PUBLISHABLE_KEY: &str = "pk_test_sim_dezky";
/// Secret with which the simulated Stripe signs webhooks.
pub const STRIPE_WEBHOOK_SECRET: &str = "whsec_sim_dezky";

const ALL: [&str; 6] = [
    AUTHENTIK_TOKEN,
    STALWART_TOKEN,
    STALWART_PASSWORD,
    OCIS_PASSWORD,
    OCIS_OIDC_PASSWORD,
    STRIPE_SECRET_KEY,
];

/// Host name of the simulators in `docker-compose.yml`.
const HOST: &str = "sim";

/// Fails if `secret`, the value of `variable`, opens a simulator and `url` is none: an upstream set up with it would be
/// open to everyone. Simulators are at the host `sim` or on this machine.
pub(super) fn refuse(variable: &str, secret: &SecretString, url: &Url) -> anyhow::Result<()> {
    let is_known = ALL.contains(&secret.expose_secret());
    ensure!(
        !is_known || is_simulator(url),
        "{variable} is the public value that opens a simulator: create a secret one for {}, and replace it there if it is in use",
        url.origin().ascii_serialization()
    );
    Ok(())
}

fn is_simulator(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == HOST || host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_credentials_are_accepted_at_simulators_only() {
        let refuse = |secret: &str, url: &str| {
            let secret = SecretString::from(secret.to_owned());
            refuse("A_TOKEN", &secret, &url.parse().unwrap())
        };
        for secret in ALL {
            for url in [
                "http://sim:3902/api/v3",
                "http://127.0.0.1:3902",
                "http://[::1]:3902",
                "http://localhost:3902",
            ] {
                assert!(refuse(secret, url).is_ok(), "{secret} {url}");
            }
            for url in [
                "http://authentik:9000/api/v3",
                "https://sim.example.com",
                "https://127.0.0.1.example.com",
                "http://192.0.2.1",
            ] {
                assert!(refuse(secret, url).is_err(), "{secret} {url}");
            }
        }
        assert!(refuse("another", "http://authentik:9000/api/v3").is_ok());
    }
}
