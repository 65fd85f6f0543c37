//! Configuration of invoices, which both processes issue.

use std::{str::FromStr, time::Duration};

use anyhow::ensure;

use crate::platform::config::{number, optional};

/// Length of a day in seconds.
const DAY: u64 = 24 * 60 * 60;
/// Maximum length of the legal entity's name in numbers.
const MAX_ENTITY: usize = 20;

/// Charge of the time between a sale by card and the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeforeFirstCard {
    /// None: the first period begins with the card.
    Free,
    /// With the first invoice, in proportion.
    Backdate,
}

impl FromStr for BeforeFirstCard {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "free" => Ok(Self::Free),
            "backdate" => Ok(Self::Backdate),
            _ => Err("expected free or backdate"),
        }
    }
}

/// Time from which a subscription over nothing is paid for after it got a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreeToPaid {
    /// The period after the one in progress.
    NextPeriod,
    /// This second: the period in progress ends.
    Now,
}

impl FromStr for FreeToPaid {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "next_period" => Ok(Self::NextPeriod),
            "now" => Ok(Self::Now),
            _ => Err("expected next_period or now"),
        }
    }
}

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
    /// Charge of the time before the first card. `BILLING_BEFORE_FIRST_CARD`, `free` or `backdate`, default `free`.
    pub before_first_card: BeforeFirstCard,
    /// Time from which a new price counts where there was none. `BILLING_FREE_TO_PAID`, `next_period` or `now`, default
    /// `next_period`.
    pub free_to_paid: FreeToPaid,
}

impl Default for InvoicingConfig {
    fn default() -> Self {
        Self {
            legal_entity: "DEZKY".to_owned(),
            legal_country: "DK".to_owned(),
            time_to_pay: Duration::from_secs(14 * DAY),
            past_due_grace: Duration::ZERO,
            before_first_card: BeforeFirstCard::Free,
            free_to_paid: FreeToPaid::NextPeriod,
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
        let before_first_card = optional("BILLING_BEFORE_FIRST_CARD")?;
        let free_to_paid = optional("BILLING_FREE_TO_PAID")?;
        Ok(Self {
            before_first_card: before_first_card.unwrap_or(default.before_first_card),
            free_to_paid: free_to_paid.unwrap_or(default.free_to_paid),
            legal_entity,
            legal_country,
            time_to_pay: Duration::from_secs(net_days * DAY),
            past_due_grace: Duration::from_secs(grace_days * DAY),
        })
    }
}
