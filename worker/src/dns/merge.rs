//! One check out of what several resolvers said.

use dezky_shared::domain::check::{Check, CheckKind, CheckState, Dnssec, Record, ResolverAnswer};

use super::{code::Code, finding::Finding};

/// The most records that are kept of what each resolver said.
const SAID: usize = 3;

/// What is checked.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) kind: CheckKind,
    pub(super) selector: Option<String>,
    pub(super) expected: Vec<Record>,
}

impl Subject {
    /// Resolvers that could not tell are outvoted by any that could. Where some say that it is in order and some that it
    /// is not, a change is spreading, and nobody can tell yet. Else the worst of them counts.
    ///
    /// Whose a domain is takes the word of all: who deceives one resolver, or signs wrongly, would have another's mail.
    pub(super) fn merge(self, findings: &[(&str, Finding)]) -> Check {
        let (code, about) = conclude(self.kind, findings);
        let message = match about {
            Some(about) => format!("{} It is about: {about}", code.sentence()),
            None => code.sentence().to_owned(),
        };
        // What was found by one who came to this, else by anyone.
        let witness = findings.iter().find(|(_, finding)| finding.code == code);
        let witness = witness.or(findings.first());
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
                findings.iter().map(said).collect()
            } else {
                Vec::new()
            },
            dnssec: dnssec(findings),
        }
    }
}

fn conclude<'a>(kind: CheckKind, findings: &'a [(&str, Finding)]) -> (Code, Option<&'a str>) {
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
    // Of equals the first, so that the order of configuration decides.
    let worst = known().min_by_key(|finding| badness(finding.code.state()));
    let doubt = findings
        .filter(|finding| finding.code.state() == CheckState::Unknown)
        .min_by_key(|finding| finding.code != Code::DnssecBogus);
    let told = if kind == CheckKind::Ownership && bad == 0 {
        doubt.or(worst)
    } else {
        worst.or(doubt)
    };
    told.map_or((Code::Unreachable, None), |finding| {
        (finding.code, finding.about.as_deref())
    })
}

/// Less is worse.
fn badness(state: CheckState) -> u8 {
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
    // The order of records says nothing.
    let key = |finding: &Finding| {
        let mut found = finding.found.clone();
        found.sort_by(|one, other| (&one.name, &one.value).cmp(&(&other.name, &other.value)));
        (finding.code, found)
    };
    let mut keys = findings.iter().map(|(_, finding)| key(finding));
    let first = keys.next();
    keys.any(|key| Some(key) != first)
}

fn said((resolver, finding): &(&str, Finding)) -> ResolverAnswer {
    ResolverAnswer {
        resolver: (*resolver).to_owned(),
        state: finding.code.state(),
        code: finding.code.name().to_owned(),
        found: finding.found.iter().take(SAID).cloned().collect(),
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
