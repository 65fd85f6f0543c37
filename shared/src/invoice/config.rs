//! Configuration of invoices, which both processes issue.

use std::time::Duration;

use anyhow::ensure;

use crate::platform::config::{number, optional};

/// Length of a day in seconds.
const DAY: u64 = 24 * 60 * 60;
/// Maximum length of the legal entity's name in numbers.
const MAX_ENTITY: usize = 20;

/// Configuration of invoices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoicingConfig {
    /// Legal entity that issues the invoices, as their numbers begin. `BILLING_LEGAL_ENTITY`, default `DEZKY`.
    pub legal_entity: String,
    /// Its country, ISO 3166-1 alpha-2. `BILLING_LEGAL_COUNTRY`, default `DK`.
    pub legal_country: String,
    /// Time from issue until an invoice is due. `BILLING_NET_DAYS`, 0 to 365, default 14.
    pub time_to_pay: Duration,
    /// Time after which a due invoice makes its subscription past due. `BILLING_PAST_DUE_GRACE_DAYS`, 0 to 365, default
    /// 0.
    pub past_due_grace: Duration,
}

impl Default for InvoicingConfig {
    fn default() -> Self {
        Self {
            legal_entity: "DEZKY".to_owned(),
            legal_country: "DK".to_owned(),
            time_to_pay: Duration::from_secs(14 * DAY),
            past_due_grace: Duration::ZERO,
        }
    }
}

impl InvoicingConfig {
    /// Reads the configuration from the environment.
    pub fn from_env() -> anyhow::Result<Self> {
        let default = Self::default();
        let legal_entity = optional("BILLING_LEGAL_ENTITY")?.unwrap_or(default.legal_entity);
        let is_plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        ensure!(
            legal_entity.len() <= MAX_ENTITY && legal_entity.bytes().all(is_plain),
            "BILLING_LEGAL_ENTITY is not valid: expected at most {MAX_ENTITY} capital letters and digits"
        );
        let legal_country: String =
            optional("BILLING_LEGAL_COUNTRY")?.unwrap_or(default.legal_country);
        ensure!(
            legal_country.len() == 2 && legal_country.bytes().all(|b| b.is_ascii_uppercase()),
            "BILLING_LEGAL_COUNTRY is not valid: expected two capital letters, such as DK"
        );
        let net_days = number(
            "BILLING_NET_DAYS",
            default.time_to_pay.as_secs() / DAY,
            0..=365,
        )?;
        let grace_days = number("BILLING_PAST_DUE_GRACE_DAYS", 0, 0..=365)?;
        Ok(Self {
            legal_entity,
            legal_country,
            time_to_pay: Duration::from_secs(net_days * DAY),
            past_due_grace: Duration::from_secs(grace_days * DAY),
        })
    }
}
