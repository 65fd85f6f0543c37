//! Stripe, as far as the API knows it: the publishable key and the secrets of its webhooks. It holds no key that may call
//! Stripe.

use anyhow::{bail, ensure};
use aws_lc_rs::hmac;
use dezky_shared::platform::config::{list, optional};

/// Prefix of the secrets that Stripe signs webhooks with.
const SECRET_PREFIX: &str = "whsec_";

/// Publishable key and webhook secrets. Both may be missing.
#[derive(Debug, Clone, Default)]
pub struct StripeConfig {
    /// Publishable key, which the portals show Stripe's card form with.
    pub publishable_key: Option<String>,
    /// Whether the key, and so every event, is of the live mode.
    pub is_live: bool,
    /// Keys of webhook signatures: the current one, and the previous one while it is being replaced.
    pub webhook_keys: Vec<hmac::Key>,
}

impl StripeConfig {
    /// Reads `STRIPE_PUBLISHABLE_KEY` and `STRIPE_WEBHOOK_SECRETS`.
    pub fn from_env() -> anyhow::Result<Self> {
        Self::new(
            optional("STRIPE_PUBLISHABLE_KEY")?,
            &list("STRIPE_WEBHOOK_SECRETS")?,
        )
    }

    /// The configuration with these values of the variables.
    pub fn new(publishable_key: Option<String>, secrets: &[String]) -> anyhow::Result<Self> {
        let is_live = match publishable_key.as_deref() {
            Some(key) if key.starts_with("pk_live_") => true,
            Some(key) if key.starts_with("pk_test_") => false,
            Some(_) => bail!(
                "STRIPE_PUBLISHABLE_KEY is not valid: expected a key that begins with pk_test_ or pk_live_"
            ),
            None => {
                ensure!(
                    secrets.is_empty(),
                    "STRIPE_PUBLISHABLE_KEY must be set, because STRIPE_WEBHOOK_SECRETS is: it tells the mode of events"
                );
                false
            }
        };
        let is_secret = |secret: &String| {
            let rest = secret.strip_prefix(SECRET_PREFIX).unwrap_or_default();
            !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic())
        };
        ensure!(
            secrets.iter().all(is_secret),
            "STRIPE_WEBHOOK_SECRETS is not valid: expected secrets that begin with {SECRET_PREFIX}, separated by commas"
        );
        let key = |secret: &String| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Ok(Self {
            publishable_key,
            is_live,
            webhook_keys: secrets.iter().map(key).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_key_is_refused_and_no_error_shows_a_secret() {
        let new = |key: Option<&str>, secrets: &[&str]| {
            let secrets: Vec<String> = secrets.iter().map(|it| (*it).to_owned()).collect();
            StripeConfig::new(key.map(str::to_owned), &secrets)
        };

        assert!(
            new(Some("pk_live_1"), &["whsec_1", "whsec_2"])
                .unwrap()
                .is_live
        );
        assert!(!new(Some("pk_test_1"), &["whsec_1"]).unwrap().is_live);
        assert!(new(None, &[]).unwrap().webhook_keys.is_empty());
        let wrong: [(Option<&str>, &[&str]); 5] = [
            (Some("sk_test_hidden"), &[]),
            (None, &["whsec_hidden"]),
            (Some("pk_test_1"), &["hidden"]),
            (Some("pk_test_1"), &["whsec_"]),
            (Some("pk_test_1"), &["whsec_1", "whsec_a b"]),
        ];
        for (key, secrets) in wrong {
            let error = new(key, secrets).unwrap_err().to_string();
            assert!(!error.contains("hidden"), "{error}");
        }
    }
}
