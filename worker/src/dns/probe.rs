//! Whether a resolver answers at all.

use super::{
    Nameserver, Verifier,
    resolver::{Failure, RecordType, Resolver as _},
};

/// A name that everybody knows, or knows not to be there: which of the two does not matter.
const KNOWN_NAME: &str = "example.com";

impl Verifier {
    /// The names of the resolvers, as they were configured.
    pub fn resolvers(&self) -> impl Iterator<Item = &str> {
        self.nameservers.iter().map(Nameserver::name)
    }

    /// Asks the resolver of this name something harmless.
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
        Failure::Timeout => "no answer in time",
        Failure::Unreachable => "unreachable",
        Failure::ServFail | Failure::Bogus => "answered SERVFAIL",
        Failure::Refused => "answered REFUSED",
        Failure::Truncated | Failure::Malformed => "the answer cannot be read",
        Failure::Lame => "it asks nobody for us",
        Failure::AliasLoop => "the answer leads in a circle",
    }
}
