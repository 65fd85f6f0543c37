//! DMARC check: the policy that receivers apply to mail that fails authentication (RFC 9989, and RFC 7489 before it).
//!
//! A domain without a record inherits the policy of its organizational domain, which receivers find by a tree walk (RFC
//! 9989) or in the public suffix list (RFC 7489). The weaker of the two policies counts.

mod record;

use dezky_shared::domain::{Dmarc, DmarcPolicy};

use self::record::{DmarcRecord, InvalidPolicy};
use super::{
    code::Code,
    evidence::{Evidence, Finding},
    near_miss::Format,
    report_uri::Mailbox,
    resolver::{Answer, Failure, RecordType, Resolver},
};

/// A tree walk shortens longer names to this many labels, which limits its cost (RFC 9989, section 4.10).
const MAX_LABELS: usize = 7;
/// The most report addresses that are examined.
const MAX_REPORT_URIS: usize = 5;

const FORMAT: Format = Format {
    beginning: "v=DMARC1;",
    accepts: DmarcRecord::is_one,
};

pub(super) async fn check(resolver: &impl Resolver, domain: &str, expected: &Dmarc) -> Finding {
    let mut evidence = Evidence::default();
    match evaluate(resolver, domain, expected, &mut evidence).await {
        Ok((code, Some(subject))) => evidence.conclude_about(code, subject),
        Ok((code, None)) => evidence.conclude(code),
        Err(failure) => evidence.conclude_failure(failure),
    }
}

/// A code, and its subject.
type Conclusion = (Code, Option<String>);

async fn evaluate(
    resolver: &impl Resolver,
    domain: &str,
    expected: &Dmarc,
    evidence: &mut Evidence,
) -> Result<Conclusion, Failure> {
    let name = name_of(domain);
    let answer = resolver.lookup(&name, RecordType::TXT).await?;
    evidence.add_texts(&name, &answer, DmarcRecord::is_one);
    let mut texts = records(&answer);
    let own = match (texts.next(), texts.next()) {
        (None, _) => {
            let conclusion = inherited(resolver, domain, expected, evidence).await?;
            if conclusion.0 == Code::DmarcMissing {
                let place = (name.as_str(), domain);
                FORMAT
                    .explain_missing(resolver, place, &answer, evidence)
                    .await;
            }
            return Ok(conclusion);
        }
        (Some(text), None) => DmarcRecord::parse(text),
        (Some(_), Some(_)) => return Ok((Code::DmarcMultiple, None)),
    };
    let own = match own {
        Ok(own) => own,
        Err(InvalidPolicy(tag)) => return Ok((Code::DmarcPolicyInvalid, Some(tag))),
    };
    if effective(&own, own.policy) < expected.policy {
        return Ok((Code::DmarcWeakerPolicy, own.invalid_tag));
    }
    let weakest = [own.subdomains, own.non_existent];
    if weakest
        .into_iter()
        .flatten()
        .any(|policy| policy < expected.policy)
    {
        return Ok((Code::DmarcWeakerSubdomains, None));
    }
    if own.policy != DmarcPolicy::None && own.partial {
        return Ok((Code::DmarcPartial, None));
    }
    if own.policy != DmarcPolicy::None && own.testing {
        return Ok((Code::DmarcTesting, None));
    }
    let reports = reports(resolver, domain, &own, expected).await?;
    Ok(reports.unwrap_or((Code::DmarcOk, None)))
}

/// The policy that receivers apply: the next weaker one in test mode.
fn effective(record: &DmarcRecord, policy: DmarcPolicy) -> DmarcPolicy {
    match policy {
        DmarcPolicy::Reject if record.testing => DmarcPolicy::Quarantine,
        DmarcPolicy::Quarantine if record.testing => DmarcPolicy::None,
        policy => policy,
    }
}

/// The policy that the domain inherits.
async fn inherited(
    resolver: &impl Resolver,
    domain: &str,
    expected: &Dmarc,
    evidence: &mut Evidence,
) -> Result<Conclusion, Failure> {
    let walked = tree_walk(resolver, domain, evidence).await?;
    let organizational = psl::domain_str(domain).filter(|name| *name != domain);
    let listed = match organizational {
        Some(name) => record_at(resolver, name, evidence).await?,
        None => None,
    };
    let exists = resolver.lookup(domain, RecordType::MX).await?.name_exists;
    let applied = |record: &DmarcRecord| {
        let for_subdomains = record.subdomains.unwrap_or(record.policy);
        match record.non_existent {
            Some(policy) if !exists => policy,
            _ => for_subdomains,
        }
    };
    let records = || walked.iter().chain(&listed);
    let weakest = records().min_by_key(|record| effective(record, applied(record)));
    let Some(weakest) = weakest else {
        return Ok((Code::DmarcMissing, None));
    };
    if effective(weakest, applied(weakest)) < expected.policy {
        return Ok((Code::DmarcWeakerPolicy, weakest.invalid_tag.clone()));
    }
    let enforced = || records().filter(|record| applied(record) != DmarcPolicy::None);
    if enforced().any(|record| record.partial) {
        return Ok((Code::DmarcPartial, None));
    }
    if enforced().any(|record| record.testing) {
        return Ok((Code::DmarcTesting, None));
    }
    Ok((Code::DmarcInherited, None))
}

/// The record of the organizational domain, or of the public suffix above it (RFC 9989, section 4.10.1).
async fn tree_walk(
    resolver: &impl Resolver,
    domain: &str,
    evidence: &mut Evidence,
) -> Result<Option<DmarcRecord>, Failure> {
    let mut nearest_to_root: Option<(&str, DmarcRecord)> = None;
    for ancestor in ancestors(domain) {
        let Some(record) = record_at(resolver, ancestor, evidence).await? else {
            continue;
        };
        match record.public_suffix {
            Some(false) => return Ok(Some(record)),
            // The organizational domain is one label below. Without a record there, this one applies.
            Some(true) => {
                let below = nearest_to_root.filter(|(name, _)| is_child(name, ancestor));
                return Ok(below.map(|(_, record)| record).or(Some(record)));
            }
            None => nearest_to_root = Some((ancestor, record)),
        }
    }
    Ok(nearest_to_root.map(|(_, record)| record))
}

/// The names above `domain`, longest first.
fn ancestors(domain: &str) -> impl Iterator<Item = &str> {
    let parent = |name: &str| name.find('.').map(|dot| dot + 1);
    let mut first = parent(domain).map(|at| &domain[at..]);
    if domain.split('.').count() > MAX_LABELS + 1 {
        let dots = domain.rmatch_indices('.').nth(MAX_LABELS - 1);
        first = dots.map(|(dot, _)| &domain[dot + 1..]);
    }
    std::iter::successors(first, move |name| parent(name).map(|at| &name[at..]))
}

fn is_child(name: &str, parent: &str) -> bool {
    name.split_once('.').is_some_and(|(_, rest)| rest == parent)
}

/// The record of a domain that receivers apply. Several records count as none.
async fn record_at(
    resolver: &impl Resolver,
    domain: &str,
    evidence: &mut Evidence,
) -> Result<Option<DmarcRecord>, Failure> {
    let answer = resolver.lookup(&name_of(domain), RecordType::TXT).await?;
    evidence.add_texts(&name_of(domain), &answer, DmarcRecord::is_one);
    let mut texts = records(&answer);
    Ok(match (texts.next(), texts.next()) {
        (Some(text), None) => DmarcRecord::parse(text).ok(),
        _ => None,
    })
}

/// Problems of the report addresses, if any.
async fn reports(
    resolver: &impl Resolver,
    domain: &str,
    record: &DmarcRecord,
    expected: &Dmarc,
) -> Result<Option<Conclusion>, Failure> {
    let mut mailboxes = Vec::new();
    for uri in record.rua.iter().take(MAX_REPORT_URIS) {
        match Mailbox::of_uri(uri) {
            Some(mailbox) => mailboxes.push(mailbox),
            None => return Ok(Some((Code::DmarcRuaInvalid, Some(uri.clone())))),
        }
    }
    if let Some(rua) = &expected.rua {
        let rua = rua
            .strip_prefix("mailto:")
            .unwrap_or(rua)
            .to_ascii_lowercase();
        if !mailboxes.iter().any(|mailbox| mailbox.address == rua) {
            return Ok(Some((Code::DmarcRuaMissing, Some(rua))));
        }
    }
    for Mailbox {
        domain: destination,
        ..
    } in mailboxes
    {
        if psl::domain_str(&destination) == psl::domain_str(domain) {
            continue;
        }
        let name = format!("{domain}._report._dmarc.{destination}");
        let answer = resolver.lookup(&name, RecordType::TXT).await?;
        if records(&answer).next().is_none() {
            return Ok(Some((Code::DmarcRuaNotAuthorised, Some(destination))));
        }
    }
    Ok(None)
}

fn records(answer: &Answer) -> impl Iterator<Item = &str> {
    answer.texts().filter(|text| DmarcRecord::is_one(text))
}

fn name_of(domain: &str) -> String {
    format!("_dmarc.{domain}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_walk_removes_one_label_at_a_time_and_shortens_long_names() {
        let ancestors = |domain| ancestors(domain).collect::<Vec<_>>();

        assert_eq!(ancestors("a.b.test"), ["b.test", "test"]);
        assert_eq!(ancestors("test"), Vec::<&str>::new());
        let long = ancestors("a.b.c.d.e.f.g.h.i.test");
        assert_eq!(long[0], "d.e.f.g.h.i.test");
        assert_eq!(long.len(), 7);
        assert_eq!(ancestors("a.c.d.e.f.g.h.test")[0], "c.d.e.f.g.h.test");
    }
}
