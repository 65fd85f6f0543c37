//! Resolver health checks.

use super::{
    Nameserver, Verifier,
    resolver::{Failure, RecordType, Resolver as _},
};

/// A name that every resolver answers for. Whether it exists does not matter.
const KNOWN_NAME: &str = "example.com";

impl Verifier {
    /// The configured names of the resolvers.
    pub fn resolvers(&self) -> impl Iterator<Item = &str> {
        self.nameservers.iter().map(Nameserver::name)
    }

    /// Sends a harmless query to the resolver of this name.
    pub async fn probe(&self, resolver: &str) -> Result<(), String> {
        let mut nameservers = self.nameservers.iter();
        let nameserver = nameservers
            .find(|nameserver| nameserver.name() == resolver)
            .ok_or("not configured")?;
        let answer = nameserver.lookup(KNOWN_NAME, RecordType::A).await;
        answer.map(drop).map_err(|failure| text(failure).to_owned())
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
