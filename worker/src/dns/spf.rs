//! Who may send a domain's mail (RFC 7208): the structure of the record, not the evaluation of one sender.
//!
//! What we ask for is `include:` of a domain of ours, or `mx` where there is none: then our hosts may send because mail
//! comes to them. `ip4:` and `ip6:` of our hosts do not count, since addresses change without customers' doing.

mod record;
mod walk;

use dezky_shared::domain::check::CheckKind;

use self::walk::{Ours, Walk};
use super::{
    Expectation,
    code::Code,
    finding::{Finding, Seen},
    mx,
    resolver::{RecordType, Resolver, normalise},
};

pub(super) async fn check(resolver: &impl Resolver, expectation: &Expectation) -> Finding {
    let domain = expectation.domain.as_str();
    let mut seen = Seen::default();
    let answer = match resolver.lookup(domain, RecordType::TXT).await {
        Ok(answer) => answer,
        Err(failure) => return seen.fails(failure),
    };
    seen.add_texts(domain, &answer, record::is_spf);
    let mut texts = answer.texts().filter(|text| record::is_spf(text));
    let text = match (texts.next(), texts.next()) {
        (None, _) => return seen.says(Code::SpfMissing),
        (Some(text), None) => text,
        (Some(_), Some(_)) => return seen.says(Code::SpfMultiple),
    };
    let record = match record::parse(text) {
        Ok(record) => record,
        Err(term) => return seen.says_about(Code::SpfSyntax, term),
    };

    let hosts = mx::expected_hosts(expectation.records_for(CheckKind::Mx));
    let include = expectation.spf_include.as_deref().map(normalise);
    let ours = match &include {
        Some(include) => Ours::Include(include),
        None => Ours::Exchanges {
            domain,
            hosts: &hosts,
        },
    };
    let mut walk = Walk::new(resolver, ours);
    if let Err(stop) = walk.follow(domain, &record, true).await {
        return seen.says_about(stop.code, stop.about);
    }
    seen.says(match walk {
        Walk {
            passes_all: true, ..
        } => Code::SpfPassAll,
        Walk { is_ours: false, .. } => Code::SpfNotAuthorised,
        Walk { has_ptr: true, .. } => Code::SpfPtr,
        _ => Code::SpfOk,
    })
}
