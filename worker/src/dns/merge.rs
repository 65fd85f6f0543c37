//! Merging: combines the findings of all resolvers into one check.

use dezky_shared::domain::check::{Check, CheckKind, CheckState, Dnssec, Record, ResolverAnswer};

use super::{code::Code, evidence::Finding};

/// The most records that are stored per resolver.
const MAX_RECORDS_PER_RESOLVER: usize = 3;

/// One thing to check.
#[derive(Debug)]
pub(super) struct CheckTarget {
    pub(super) kind: CheckKind,
    pub(super) selector: Option<String>,
    pub(super) expected: Vec<Record>,
}

impl CheckTarget {
    /// Merges the findings. A resolver with an unknown result is outvoted by one with a known result. If some results are
    /// good and others bad, a change is propagating, and the state is unknown. Otherwise the worst result counts.
    ///
    /// Ownership has to be confirmed by every resolver: a spoofed answer to one of them, or a forged signature, would
    /// hand over the mail of the domain.
    pub(super) fn merge(self, findings: &[(&str, Finding)]) -> Check {
        let (code, decisive) = conclude(self.kind, findings);
        // The records of a finding with this code, else of any.
        let witness = findings.iter().find(|(_, finding)| finding.code == code);
        let witness = witness.or(findings.first());
        let message = message(code, decisive);
        Check {
            kind: self.kind,
            selector: self.selector,
            state: code.state(),
            code: code.name().to_owned(),
            message,
            expected: self.expected,
            found: witness
                .map(|(_, finding)| finding.found.clone())
                .unwrap_or_default(),
            ttl: findings.iter().filter_map(|(_, finding)| finding.ttl).min(),
            resolvers: if differ(findings) {
                findings.iter().map(resolver_answer).collect()
            } else {
                Vec::new()
            },
            disagreeing_since: None,
            dnssec: dnssec(findings),
        }
    }
}

/// The sentence of the code, followed by details of the finding.
fn message(code: Code, finding: Option<&Finding>) -> String {
    let mut message = code.sentence().to_owned();
    if let Some(subject) = finding.and_then(|finding| finding.subject.as_ref()) {
        message.push_str(" Details: ");
        message.push_str(subject);
    }
    if let Some(near_miss) = finding.and_then(|finding| finding.near_miss.as_ref()) {
        message.push(' ');
        message.push_str(&near_miss.sentence());
    }
    message
}

/// The code, and the finding that it comes from.
fn conclude<'a>(kind: CheckKind, findings: &'a [(&str, Finding)]) -> (Code, Option<&'a Finding>) {
    let known = || {
        let findings = findings.iter().map(|(_, finding)| finding);
        findings.filter(|finding| finding.code.state() != CheckState::Unknown)
    };
    let bad = known()
        .filter(|finding| finding.code.state().is_bad())
        .count();
    if bad > 0 && bad < known().count() {
        return (Code::Propagating, None);
    }
    let findings = findings.iter().map(|(_, finding)| finding);
    // Ties are broken by the order of configuration.
    let worst = known().min_by_key(|finding| severity_rank(finding.code.state()));
    let unknown = findings
        .filter(|finding| finding.code.state() == CheckState::Unknown)
        .min_by_key(|finding| finding.code != Code::DnssecBogus);
    let decisive = if kind == CheckKind::Ownership && bad == 0 {
        unknown.or(worst)
    } else {
        worst.or(unknown)
    };
    decisive.map_or((Code::Unreachable, None), |finding| {
        (finding.code, Some(finding))
    })
}

/// Lower is worse.
fn severity_rank(state: CheckState) -> u8 {
    match state {
        CheckState::Invalid => 0,
        CheckState::Mismatch => 1,
        CheckState::Missing => 2,
        CheckState::Warning => 3,
        CheckState::Ok => 4,
        CheckState::Unknown => 5,
    }
}

fn differ(findings: &[(&str, Finding)]) -> bool {
    // The order of records has no meaning.
    let key = |finding: &Finding| {
        let mut found = finding.found.clone();
        found.sort_by(|one, other| (&one.name, &one.value).cmp(&(&other.name, &other.value)));
        (finding.code, found)
    };
    let mut keys = findings.iter().map(|(_, finding)| key(finding));
    let first = keys.next();
    keys.any(|key| Some(key) != first)
}

fn resolver_answer((resolver, finding): &(&str, Finding)) -> ResolverAnswer {
    ResolverAnswer {
        resolver: (*resolver).to_owned(),
        state: finding.code.state(),
        code: finding.code.name().to_owned(),
        found: finding
            .found
            .iter()
            .take(MAX_RECORDS_PER_RESOLVER)
            .cloned()
            .collect(),
    }
}

fn dnssec(findings: &[(&str, Finding)]) -> Dnssec {
    let all = || findings.iter().map(|(_, finding)| finding);
    let mut known = all().filter(|finding| finding.code.state() != CheckState::Unknown);
    if all().any(|finding| finding.dnssec == Dnssec::Bogus) {
        Dnssec::Bogus
    } else if all().any(|finding| finding.dnssec == Dnssec::Secure)
        && known.all(|finding| finding.dnssec == Dnssec::Secure)
    {
        Dnssec::Secure
    } else {
        Dnssec::Insecure
    }
}
