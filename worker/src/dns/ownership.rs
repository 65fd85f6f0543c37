//! Ownership check: the token that proves control of a domain, in a TXT record `dezky-verification=<token>` at
//! `_dezky.<domain>`. Some DNS providers do not support names with an underscore, so the domain itself is accepted too.

use dezky_shared::domain::check::{CheckKind, Record};

use super::{
    code::Code,
    evidence::{Evidence, Finding},
    near_miss::Format,
    resolver::{Answer, RecordType, Resolver},
};

const PREFIX: &str = "dezky-verification=";

const FORMAT: Format = Format {
    beginning: PREFIX,
    accepts: |text| token_of(text).is_some(),
};

/// The record that the customer has to publish.
pub(super) fn expected(domain: &str, token: &str) -> Record {
    Record {
        name: format!("_dezky.{domain}"),
        kind: "TXT".to_owned(),
        value: format!("{PREFIX}{token}"),
        check: Some(CheckKind::Ownership),
    }
}

pub(super) async fn check(resolver: &impl Resolver, domain: &str, token: &str) -> Finding {
    let mut evidence = Evidence::default();
    let mut failed = None;
    let mut has_other_token = false;
    let names = [format!("_dezky.{domain}"), domain.to_owned()];
    let mut all = Answer::default();
    for name in &names {
        let answer = match resolver.lookup(name, RecordType::TXT).await {
            Ok(answer) => answer,
            Err(failure) => {
                failed = failed.or(Some(failure));
                continue;
            }
        };
        evidence.add_texts(name, &answer, |text| FORMAT.resembles(text));
        // Several tenants may claim a domain, each with its own token.
        if answer.texts().any(|text| token_of(text) == Some(token)) {
            return evidence.conclude(Code::OwnershipOk);
        }
        has_other_token |= answer.texts().any(|text| token_of(text).is_some());
        all.values.extend(answer.values);
    }
    match failed {
        Some(failure) => evidence.conclude_failure(failure),
        None if has_other_token => evidence.conclude(Code::OwnershipOtherToken),
        None => {
            let place = (names[0].as_str(), domain);
            FORMAT
                .explain_missing(resolver, place, &all, &mut evidence)
                .await;
            evidence.conclude(Code::OwnershipMissing)
        }
    }
}

fn token_of(text: &str) -> Option<&str> {
    text.trim().strip_prefix(PREFIX).map(str::trim)
}
