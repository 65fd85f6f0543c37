//! SPF check (RFC 7208): the record is evaluated as receivers do, for each of our sending addresses and for strangers.

mod evaluate;
mod macros;
mod record;
mod senders;

use dezky_shared::domain::check::CheckKind;
use futures::future::join_all;

use self::{
    evaluate::{Client, Evaluation, EvaluationError, Evaluator, Verdict, fetch_record},
    senders::{CheckedRecord, STRANGERS, sending_clients},
};
use super::{
    Expectation,
    code::Code,
    evidence::{Evidence, Finding},
    mx,
    near_miss::Format,
    resolver::{RecordType, Resolver, normalise},
};

const FORMAT: Format = Format {
    beginning: "v=spf1 ",
    accepts: record::is_spf,
};

/// Whether a text can follow `include:` (RFC 7208, section 7.1): it ends with a top-level label.
pub(super) fn is_domain_spec(text: &str) -> bool {
    macros::DomainSpec::parse(text).is_some()
}

/// Checks the record that customers include: it can be evaluated, and authorises an address.
pub(super) async fn check_include(resolver: &impl Resolver, include: &str) -> Result<(), Code> {
    let fetched = fetch_record(resolver, include).await;
    let record = fetched.map_err(|error| error.code)?;
    let checked = CheckedRecord {
        domain: include,
        record: &record,
    };
    let senders = sending_clients(resolver, &[], Some(include), checked).await;
    if senders.map_err(|error| error.code)?.is_empty() {
        return Err(Code::SpfSendersUnresolved);
    }
    Ok(())
}

pub(super) async fn check(resolver: &impl Resolver, expectation: &Expectation) -> Finding {
    let domain = expectation.domain.as_str();
    let mut evidence = Evidence::default();
    let answer = match resolver.lookup(domain, RecordType::TXT).await {
        Ok(answer) => answer,
        Err(failure) => return evidence.conclude_failure(failure),
    };
    evidence.add_texts(domain, &answer, |text| FORMAT.resembles(text));
    let mut texts = answer.texts().filter(|text| record::is_spf(text));
    let text = match (texts.next(), texts.next()) {
        (None, _) => {
            let place = (domain, domain);
            FORMAT
                .explain_missing(resolver, place, &answer, &mut evidence)
                .await;
            return evidence.conclude(Code::SpfMissing);
        }
        (Some(text), None) => text,
        (Some(_), Some(_)) => return evidence.conclude(Code::SpfMultiple),
    };
    let record = match record::parse(text) {
        Ok(record) => record,
        Err(term) => return evidence.conclude_about(Code::SpfSyntax, term),
    };

    let hosts = mx::expected_hosts(expectation.records_for(CheckKind::Mx));
    let include = expectation.spf_include.as_deref().map(normalise);
    let checked = CheckedRecord {
        domain,
        record: &record,
    };
    let senders = sending_clients(resolver, &hosts, include.as_deref(), checked).await;
    let (senders, unresolved) = match senders {
        Ok(senders) => (senders, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let clients = senders.into_iter().chain(STRANGERS);
    let evaluations = clients.map(async |client| {
        let evaluation = Evaluator::run(resolver, domain, &record, client).await;
        (client, evaluation)
    });
    let results = Results(join_all(evaluations).await);
    match results.conclude(unresolved) {
        (code, Some(subject)) => evidence.conclude_about(code, subject),
        (code, None) => evidence.conclude(code),
    }
}

/// The evaluation of each client: ours first, then strangers.
struct Results(Vec<(Client, Result<Evaluation, EvaluationError>)>);

impl Results {
    /// The resulting code, and its subject.
    fn conclude(&self, unresolved: Option<EvaluationError>) -> (Code, Option<String>) {
        if let Some(error) = self.errors().find(|error| !error.is_temporary()) {
            return (error.code, Some(error.subject.clone()));
        }
        if let Some((client, _)) = self.ours(Verdict::NotPass).next() {
            return (Code::SpfNotAuthorised, Some(client.address.to_string()));
        }
        let temporary = unresolved
            .as_ref()
            .filter(|error| error.is_temporary())
            .or(self.errors().next());
        if let Some(error) = temporary {
            return (error.code, Some(error.subject.clone()));
        }
        let mut strangers = self.evaluations().filter(|(client, _)| client.is_stranger);
        if let Some((_, passed)) = strangers.find(|(_, it)| it.verdict == Verdict::Pass) {
            return (Code::SpfPassAll, passed.term.clone());
        }
        if let Some((client, _)) = self.ours(Verdict::PerMessage).next() {
            return (Code::SpfPerMessage, Some(client.address.to_string()));
        }
        if self.ours(Verdict::Pass).next().is_none() {
            let name = unresolved.map(|error| error.subject);
            return (Code::SpfSendersUnresolved, name);
        }
        if self.evaluations().any(|(_, it)| it.uses_ptr) {
            return (Code::SpfPtr, None);
        }
        (Code::SpfOk, None)
    }

    fn errors(&self) -> impl Iterator<Item = &EvaluationError> {
        let results = self.0.iter();
        results.filter_map(|(_, result)| result.as_ref().err())
    }

    fn evaluations(&self) -> impl Iterator<Item = (&Client, &Evaluation)> {
        let results = self.0.iter();
        results.filter_map(|(client, result)| Some((client, result.as_ref().ok()?)))
    }

    fn ours(&self, verdict: Verdict) -> impl Iterator<Item = (&Client, &Evaluation)> {
        self.evaluations()
            .filter(move |(client, it)| !client.is_stranger && it.verdict == verdict)
    }
}
