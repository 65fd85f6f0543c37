//! What receivers do with mail that fails (RFC 9989, and RFC 7489 before it).
//!
//! A domain without a record of its own has that of its organisation, which newer receivers find by walking up the
//! names, and older ones in the public suffix list. What counts is the weaker of what the two find.

mod record;

use dezky_shared::domain::{Dmarc, DmarcPolicy};

use self::record::{DmarcRecord, mailbox};
use super::{
    code::Code,
    finding::{Finding, Seen},
    resolver::{Answer, Failure, RecordType, Resolver},
};

/// A walk skips to this many labels, so that long names cost no more (RFC 9989, section 4.10).
const LABELS: usize = 7;
/// The most addresses of reports that are looked at.
const ADDRESSES: usize = 5;

pub(super) async fn check(resolver: &impl Resolver, domain: &str, expected: &Dmarc) -> Finding {
    let mut seen = Seen::default();
    match find(resolver, domain, expected, &mut seen).await {
        Ok((code, Some(about))) => seen.says_about(code, about),
        Ok((code, None)) => seen.says(code),
        Err(failure) => seen.fails(failure),
    }
}

/// What it comes to, and about what.
type Outcome = (Code, Option<String>);

async fn find(
    resolver: &impl Resolver,
    domain: &str,
    expected: &Dmarc,
    seen: &mut Seen,
) -> Result<Outcome, Failure> {
    let answer = resolver.lookup(&name_of(domain), RecordType::TXT).await?;
    seen.add_texts(&name_of(domain), &answer, DmarcRecord::is_one);
    let mut texts = records(&answer);
    let own = match (texts.next(), texts.next()) {
        (None, _) => return inherited(resolver, domain, expected, seen).await,
        (Some(text), None) => DmarcRecord::parse(text),
        (Some(_), Some(_)) => return Ok((Code::DmarcMultiple, None)),
    };
    let Some(own) = own else {
        return Ok((Code::DmarcPolicyInvalid, None));
    };
    if effective(&own, own.policy) < expected.policy {
        return Ok((Code::DmarcWeakerPolicy, None));
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

/// The policy that receivers of a record in test mode apply.
fn effective(record: &DmarcRecord, policy: DmarcPolicy) -> DmarcPolicy {
    match policy {
        DmarcPolicy::Reject if record.testing => DmarcPolicy::Quarantine,
        DmarcPolicy::Quarantine if record.testing => DmarcPolicy::None,
        policy => policy,
    }
}

/// What the domains above say.
async fn inherited(
    resolver: &impl Resolver,
    domain: &str,
    expected: &Dmarc,
    seen: &mut Seen,
) -> Result<Outcome, Failure> {
    let walked = walk(resolver, domain, seen).await?;
    let organisation = psl::domain_str(domain).filter(|organisation| *organisation != domain);
    let listed = match organisation {
        Some(organisation) => record_at(resolver, organisation, seen).await?,
        None => None,
    };
    let exists = resolver.lookup(domain, RecordType::MX).await?.name_exists;
    let policies = walked.iter().chain(&listed).map(|record| {
        let for_subdomains = record.subdomains.unwrap_or(record.policy);
        let policy = if exists {
            for_subdomains
        } else {
            record.non_existent.unwrap_or(for_subdomains)
        };
        effective(record, policy)
    });
    Ok(match policies.min() {
        None => (Code::DmarcMissing, None),
        Some(policy) if policy < expected.policy => (Code::DmarcWeakerPolicy, None),
        Some(_) => (Code::DmarcInherited, None),
    })
}

/// The record of the organisation, or of the public suffix above it (RFC 9989, section 4.10.1).
async fn walk(
    resolver: &impl Resolver,
    domain: &str,
    seen: &mut Seen,
) -> Result<Option<DmarcRecord>, Failure> {
    let mut nearest_to_root: Option<(&str, DmarcRecord)> = None;
    for ancestor in ancestors(domain) {
        let Some(record) = record_at(resolver, ancestor, seen).await? else {
            continue;
        };
        match record.public_suffix {
            Some(false) => return Ok(Some(record)),
            // The organisation is one label below; without a record there, the public suffix's own holds.
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
    if domain.split('.').count() > LABELS + 1 {
        let dots = domain.rmatch_indices('.').nth(LABELS - 1);
        first = dots.map(|(dot, _)| &domain[dot + 1..]);
    }
    std::iter::successors(first, move |name| parent(name).map(|at| &name[at..]))
}

fn is_child(name: &str, parent: &str) -> bool {
    name.split_once('.').is_some_and(|(_, rest)| rest == parent)
}

/// The one record that receivers heed there. Several count as none.
async fn record_at(
    resolver: &impl Resolver,
    domain: &str,
    seen: &mut Seen,
) -> Result<Option<DmarcRecord>, Failure> {
    let answer = resolver.lookup(&name_of(domain), RecordType::TXT).await?;
    seen.add_texts(&name_of(domain), &answer, DmarcRecord::is_one);
    let mut texts = records(&answer);
    Ok(match (texts.next(), texts.next()) {
        (Some(text), None) => DmarcRecord::parse(text),
        _ => None,
    })
}

/// What is off with the addresses of reports.
async fn reports(
    resolver: &impl Resolver,
    domain: &str,
    record: &DmarcRecord,
    expected: &Dmarc,
) -> Result<Option<Outcome>, Failure> {
    let mut mailboxes = Vec::new();
    for uri in record.rua.iter().take(ADDRESSES) {
        match mailbox(uri) {
            Some(mailbox) => mailboxes.push(mailbox),
            None => return Ok(Some((Code::DmarcRuaInvalid, Some(uri.clone())))),
        }
    }
    if let Some(rua) = &expected.rua {
        let rua = rua
            .strip_prefix("mailto:")
            .unwrap_or(rua)
            .to_ascii_lowercase();
        if !mailboxes.iter().any(|(address, _)| *address == rua) {
            return Ok(Some((Code::DmarcRuaMissing, Some(rua))));
        }
    }
    for (_, destination) in mailboxes {
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
    fn a_walk_goes_up_label_by_label_and_skips_the_far_end_of_long_names() {
        let ancestors = |domain| ancestors(domain).collect::<Vec<_>>();

        assert_eq!(ancestors("a.b.test"), ["b.test", "test"]);
        assert_eq!(ancestors("test"), Vec::<&str>::new());
        let long = ancestors("a.b.c.d.e.f.g.h.i.test");
        assert_eq!(long[0], "d.e.f.g.h.i.test");
        assert_eq!(long.len(), 7);
        assert_eq!(ancestors("a.c.d.e.f.g.h.test")[0], "c.d.e.f.g.h.test");
    }
}
