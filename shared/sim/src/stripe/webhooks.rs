//! Webhooks: signed deliveries of events, which may be lost, repeated and in any order.

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use dezky_shared::platform::clock;
use serde::{Deserialize, Serialize};

/// Target of the deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookTarget {
    /// Address.
    pub url: String,
    /// Signing secrets: two while one is being replaced.
    pub secrets: Vec<String>,
}

/// Order and repetition in which the waiting events are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Each event once, in order.
    #[default]
    Once,
    /// Each event twice.
    Twice,
    /// Each event once, the last one first.
    Reversed,
    /// No event: they are lost.
    Lost,
}

impl Delivery {
    /// Arranges the deliveries.
    pub(super) fn arrange<T: Clone>(self, mut events: Vec<T>) -> Vec<T> {
        match self {
            Self::Once => events,
            Self::Twice => {
                events.extend_from_within(..);
                events
            }
            Self::Reversed => {
                events.reverse();
                events
            }
            Self::Lost => Vec::new(),
        }
    }
}

/// Value of the header `Stripe-Signature` of a delivery now.
pub fn sign(payload: &str, secrets: &[String]) -> String {
    sign_at(payload, secrets, clock::now().timestamp_millis() / 1_000)
}

/// Value of the header `Stripe-Signature` of a delivery at a time in seconds.
pub fn sign_at(payload: &str, secrets: &[String], seconds: i64) -> String {
    let mut header = format!("t={seconds}");
    for secret in secrets {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, format!("{seconds}.{payload}").as_bytes());
        header.push_str(",v1=");
        for byte in tag.as_ref() {
            // Writing to a string cannot fail.
            let _ = write!(header, "{byte:02x}");
        }
    }
    header
}
