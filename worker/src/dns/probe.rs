//! Resolver health checks.

use super::{
    Code, Nameserver, Verifier,
    resolver::{Failure, RecordType, Resolver as _},
    spf,
};

/// A name that every resolver answers for. Whether it exists does not matter.
const KNOWN_NAME: &str = "example.com";
/// A name that does not exist (RFC 6761, section 6.4). A resolver with an address for it has one for every missing name, and
/// a missing record then looks like a record that points elsewhere.
const MISSING_NAME: &str = "missing.invalid";

impl Verifier {
    /// The configured names of the resolvers.
    pub fn resolvers(&self) -> impl Iterator<Item = &str> {
        self.nameservers.iter().map(Nameserver::name)
    }

    /// Sends harmless queries to the resolver of this name.
    pub async fn probe(&self, resolver: &str) -> Result<(), String> {
        let nameserver = self.nameserver(resolver).ok_or("not configured")?;
        let known = nameserver.lookup(KNOWN_NAME, RecordType::A).await;
        known.map_err(|failure| text(failure).to_owned())?;
        let missing = nameserver.lookup(MISSING_NAME, RecordType::A).await;
        if missing.is_ok_and(|answer| !answer.values.is_empty()) {
            return Err("has addresses for names that do not exist".to_owned());
        }
        Ok(())
    }

    /// Checks with the resolver of this name that the SPF record of `include` authorises an address. Without one, every
    /// customer who includes it has an invalid record.
    pub async fn probe_spf_include(&self, resolver: &str, include: &str) -> Result<(), Code> {
        let nameserver = self.nameserver(resolver).ok_or(Code::Unreachable)?;
        spf::check_include(nameserver, include).await
    }

    fn nameserver(&self, name: &str) -> Option<&Nameserver> {
        let mut nameservers = self.nameservers.iter();
        nameservers.find(|nameserver| nameserver.name() == name)
    }
}

fn text(failure: Failure) -> &'static str {
    match failure {
        Failure::Timeout => "timed out",
        Failure::Unreachable => "unreachable",
        Failure::ServFail | Failure::Bogus => "answered SERVFAIL",
        Failure::Refused => "answered REFUSED",
        Failure::Truncated => "the answer is truncated",
        Failure::Malformed => "answered with an error",
        Failure::Lame => "does not offer recursion",
        Failure::AliasLoop => "the answer is a CNAME loop",
    }
}
