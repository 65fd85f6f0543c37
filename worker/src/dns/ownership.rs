//! The token that proves whose a domain is: TXT `dezky-verification=<token>` at `_dezky.<domain>`, or at the domain
//! itself for those whose provider allows no name with an underscore.

use dezky_shared::domain::check::{CheckKind, Record};

use super::{
    code::Code,
    finding::{Finding, Seen},
    resolver::{RecordType, Resolver},
};

const PREFIX: &str = "dezky-verification=";

/// The record that a customer is asked for.
pub(super) fn expected(domain: &str, token: &str) -> Record {
    Record {
        name: format!("_dezky.{domain}"),
        kind: "TXT".to_owned(),
        value: format!("{PREFIX}{token}"),
        check: Some(CheckKind::Ownership),
    }
}

pub(super) async fn check(resolver: &impl Resolver, domain: &str, token: &str) -> Finding {
    let mut seen = Seen::default();
    let mut failed = None;
    let mut others = false;
    for name in [format!("_dezky.{domain}"), domain.to_owned()] {
        let answer = match resolver.lookup(&name, RecordType::TXT).await {
            Ok(answer) => answer,
            Err(failure) => {
                failed = failed.or(Some(failure));
                continue;
            }
        };
        seen.add_texts(&name, &answer, |text| token_of(text).is_some());
        // Several tenants may claim a domain, each with a token of its own.
        if answer.texts().any(|text| token_of(text) == Some(token)) {
            return seen.says(Code::OwnershipOk);
        }
        others |= answer.texts().any(|text| token_of(text).is_some());
    }
    match failed {
        Some(failure) => seen.fails(failure),
        None if others => seen.says(Code::OwnershipOtherToken),
        None => seen.says(Code::OwnershipMissing),
    }
}

fn token_of(text: &str) -> Option<&str> {
    text.trim().strip_prefix(PREFIX).map(str::trim)
}
