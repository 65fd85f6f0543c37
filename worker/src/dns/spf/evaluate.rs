//! SPF evaluator: the `check_host()` function of RFC 7208 for one client.
//!
//! Two kinds of clients are evaluated. For an address of ours the result is what receivers compute, limits included. The
//! other kind is a stranger, which represents every other sender: terms whose name depends on the client or the message
//! do not match it and are not void, because another sender has another name.

use std::net::IpAddr;

use futures::future::{BoxFuture, join_all};

use super::{
    macros::{DomainSpec, Expansion, MAX_NAME_LENGTH, Variables, nibbles},
    record::{self, Directive, Mechanism, PrefixLengths, Qualifier, SpfRecord},
};
use crate::dns::{
    code::Code,
    resolver::{Answer, RecordType, Resolver, normalise},
};

/// The limits of RFC 7208, sections 4.6.4 and 5.5.
pub(super) const MAX_LOOKUPS: usize = 10;
const MAX_VOID_LOOKUPS: usize = 2;
pub(super) const MAX_EXCHANGES: usize = 10;
const MAX_REVERSE_NAMES: usize = 10;

/// An SMTP client that sends mail for the domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) address: IpAddr,
    /// Not one of ours.
    pub(super) is_stranger: bool,
}

/// Verdict of receivers on a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// Fail, softfail or neutral.
    NotPass,
    /// The result differs from message to message.
    PerMessage,
}

/// A result without an error.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Evaluation {
    pub(super) verdict: Verdict,
    /// The term of the domain's own record that decided.
    pub(super) term: Option<String>,
    /// A `ptr` mechanism was evaluated.
    pub(super) uses_ptr: bool,
}

/// `permerror` or `temperror`, and the term or name that caused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EvaluationError {
    pub(super) code: Code,
    pub(super) subject: String,
}

impl EvaluationError {
    pub(super) fn new(code: Code, subject: &str) -> Self {
        Self {
            code,
            subject: subject.to_owned(),
        }
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.code == Code::SpfTemperror
    }
}

/// Whether a mechanism matches the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    /// It depends on the message.
    PerMessage,
    /// It depends on the message, which may also turn out to be an error.
    PerMessageOrError,
}

impl From<bool> for Match {
    fn from(matches: bool) -> Self {
        if matches { Self::Yes } else { Self::No }
    }
}

pub(super) struct Evaluator<'a, R> {
    resolver: &'a R,
    client: Client,
    sender_domain: &'a str,
    lookups: usize,
    void_lookups: usize,
    /// The domains whose records are being evaluated, outermost first.
    path: Vec<String>,
    uses_ptr: bool,
}

impl<'a, R: Resolver> Evaluator<'a, R> {
    /// Evaluates the record of `domain` for `client`.
    pub(super) async fn run(
        resolver: &'a R,
        domain: &'a str,
        record: &SpfRecord,
        client: Client,
    ) -> Result<Evaluation, EvaluationError> {
        let mut evaluator = Self {
            resolver,
            client,
            sender_domain: domain,
            lookups: 0,
            void_lookups: 0,
            path: Vec::new(),
            uses_ptr: false,
        };
        let (verdict, directive) = evaluator.check_host(domain, record).await?;
        Ok(Evaluation {
            verdict,
            term: directive.map(|directive| directive.term.clone()),
            uses_ptr: evaluator.uses_ptr,
        })
    }

    fn check_host<'b>(
        &'b mut self,
        domain: &'b str,
        record: &'b SpfRecord,
    ) -> BoxFuture<'b, Result<(Verdict, Option<&'b Directive>), EvaluationError>> {
        Box::pin(async move {
            self.path.push(domain.to_owned());
            let mut possible = Vec::new();
            let mut decisive = None;
            for directive in &record.directives {
                let verdict = match directive.qualifier {
                    Qualifier::Pass => Verdict::Pass,
                    _ => Verdict::NotPass,
                };
                match self.matches(domain, &directive.mechanism).await? {
                    Match::No => {}
                    Match::PerMessage => possible.push(verdict),
                    Match::PerMessageOrError => possible.push(Verdict::PerMessage),
                    Match::Yes => {
                        decisive = Some((verdict, Some(directive)));
                        break;
                    }
                }
            }
            let (verdict, directive) = match (decisive, &record.redirect) {
                (Some(decisive), _) => decisive,
                (None, Some(target)) => (self.redirect(domain, target).await?, None),
                (None, None) => (Verdict::NotPass, None),
            };
            self.path.pop();
            // A match that depends on the message does not matter if the result is the same without it.
            let is_certain = possible.iter().all(|possible| *possible == verdict);
            let verdict = if is_certain {
                verdict
            } else {
                Verdict::PerMessage
            };
            Ok((verdict, directive))
        })
    }

    async fn redirect(
        &mut self,
        domain: &str,
        target: &DomainSpec,
    ) -> Result<Verdict, EvaluationError> {
        self.count_lookup(domain)?;
        match self.expand(domain, target).await {
            Some(name) => self.evaluate_other(&name, target.varies()).await,
            None if self.client.is_stranger => Ok(Verdict::NotPass),
            None => Ok(Verdict::PerMessage),
        }
    }

    async fn matches(
        &mut self,
        domain: &str,
        mechanism: &Mechanism,
    ) -> Result<Match, EvaluationError> {
        let target = match mechanism {
            Mechanism::All => return Ok(Match::Yes),
            Mechanism::Network(network) => {
                return Ok(network.contains(&self.client.address).into());
            }
            Mechanism::Include(target) | Mechanism::Exists(target) => Some(target),
            Mechanism::A(target, _) | Mechanism::Mx(target, _) | Mechanism::Ptr(target) => {
                target.as_ref()
            }
        };
        self.count_lookup(domain)?;
        let name = match target {
            None => Some(domain.to_owned()),
            Some(target) => self.expand(domain, target).await,
        };
        let Some(name) = name else {
            return Ok(match mechanism {
                _ if self.client.is_stranger => Match::No,
                Mechanism::Include(_) => Match::PerMessageOrError,
                _ => Match::PerMessage,
            });
        };
        let varies = target.is_some_and(DomainSpec::varies);
        match mechanism {
            Mechanism::Include(_) => self.include(&name, varies).await,
            Mechanism::A(_, prefixes) => self.host(&name, *prefixes, varies).await,
            Mechanism::Mx(_, prefixes) => self.exchanges(&name, *prefixes, varies).await,
            Mechanism::Exists(_) => {
                let answer = self.lookup(&name, RecordType::A).await?;
                self.count_void(&name, answer.values.is_empty(), varies)?;
                Ok((!answer.values.is_empty()).into())
            }
            Mechanism::Ptr(_) => self.reverse(&name).await,
            Mechanism::All | Mechanism::Network(_) => Ok(Match::No),
        }
    }

    async fn include(&mut self, name: &str, varies: bool) -> Result<Match, EvaluationError> {
        Ok(match self.evaluate_other(name, varies).await? {
            Verdict::Pass => Match::Yes,
            Verdict::NotPass => Match::No,
            Verdict::PerMessage => Match::PerMessage,
        })
    }

    /// Evaluates the record that `include:` or `redirect=` refers to.
    async fn evaluate_other(
        &mut self,
        name: &str,
        varies: bool,
    ) -> Result<Verdict, EvaluationError> {
        if self.path.iter().any(|outer| outer == name) {
            return Err(EvaluationError::new(Code::SpfLoop, name));
        }
        let record = match fetch_record(self.resolver, name).await {
            // Another stranger refers to another record.
            Err(_) if varies && self.client.is_stranger => return Ok(Verdict::NotPass),
            record => record?,
        };
        let (verdict, _) = self.check_host(name, &record).await?;
        Ok(verdict)
    }

    async fn host(
        &mut self,
        name: &str,
        prefixes: PrefixLengths,
        varies: bool,
    ) -> Result<Match, EvaluationError> {
        let answer = self.lookup(name, self.address_type()).await?;
        let mut is_void = answer.values.is_empty();
        if is_void && self.client.is_stranger {
            // For strangers of the other address family it is not.
            let other = match self.address_type() {
                RecordType::A => RecordType::AAAA,
                _ => RecordType::A,
            };
            is_void = self.lookup(name, other).await?.values.is_empty();
        }
        self.count_void(name, is_void, varies)?;
        Ok(self.is_among(&answer, prefixes).into())
    }

    async fn exchanges(
        &mut self,
        name: &str,
        prefixes: PrefixLengths,
        varies: bool,
    ) -> Result<Match, EvaluationError> {
        let answer = self.lookup(name, RecordType::MX).await?;
        self.count_void(name, answer.values.is_empty(), varies)?;
        if answer.values.len() > MAX_EXCHANGES {
            return Err(EvaluationError::new(Code::SpfTooManyMx, name));
        }
        let hosts = answer.exchanges().filter(|(_, host)| !host.is_empty());
        let hosts = hosts.map(|(_, host)| self.lookup(host, self.address_type()));
        let mut error = None;
        for addresses in join_all(hosts).await {
            match addresses {
                Ok(addresses) if self.is_among(&addresses, prefixes) => return Ok(Match::Yes),
                Ok(_) => {}
                Err(failed) => error = Some(failed),
            }
        }
        error.map_or(Ok(Match::No), Err)
    }

    /// `ptr`: the client's address has a validated name within the domain.
    async fn reverse(&mut self, domain: &str) -> Result<Match, EvaluationError> {
        self.uses_ptr = true;
        if self.client.is_stranger {
            return Ok(Match::No);
        }
        let Ok(answer) = self.reverse_lookup().await else {
            return Ok(Match::No);
        };
        self.count_void(domain, answer.values.is_empty(), false)?;
        let names = self.validated_names(&answer).await;
        Ok(names.iter().any(|name| is_within(name, domain)).into())
    }

    /// Replaces the macros of a domain-spec; `None` if the name depends on the message.
    async fn expand(&self, domain: &str, target: &DomainSpec) -> Option<String> {
        let mut validated = None;
        if target.needs_validated_name()
            && !self.client.is_stranger
            && let Ok(answer) = self.reverse_lookup().await
        {
            let names = self.validated_names(&answer).await;
            // The domain itself, else a name within it, else any (section 7.3).
            let preference = |name: &&String| (*name != domain, !is_within(name, domain));
            validated = names.iter().min_by_key(preference).cloned();
        }
        let variables = Variables {
            address: self.client.address,
            domain,
            sender_domain: self.sender_domain,
            validated: validated.as_deref(),
        };
        match target.expand(&variables) {
            Expansion::Name(name) => Some(name),
            Expansion::PerMessage => None,
        }
    }

    async fn reverse_lookup(&self) -> Result<Answer, EvaluationError> {
        self.lookup(&reverse_name(self.client.address), RecordType::PTR)
            .await
    }

    /// The names of the client's address that have this address. Those that cannot be looked up are left out.
    async fn validated_names(&self, answer: &Answer) -> Vec<String> {
        let names = answer.names().take(MAX_REVERSE_NAMES);
        let names = names.map(async |name| {
            let addresses = self.lookup(name, self.address_type()).await.ok()?;
            let is_valid = addresses.addresses().any(|it| it == self.client.address);
            is_valid.then(|| normalise(name))
        });
        join_all(names).await.into_iter().flatten().collect()
    }

    fn address_type(&self) -> RecordType {
        match self.client.address {
            IpAddr::V4(_) => RecordType::A,
            IpAddr::V6(_) => RecordType::AAAA,
        }
    }

    fn is_among(&self, answer: &Answer, prefixes: PrefixLengths) -> bool {
        let mut addresses = answer.addresses();
        addresses.any(|address| prefixes.contain(address, self.client.address))
    }

    async fn lookup(&self, name: &str, kind: RecordType) -> Result<Answer, EvaluationError> {
        let answer = self.resolver.lookup(name, kind).await;
        answer.map_err(|_| EvaluationError::new(Code::SpfTemperror, name))
    }

    fn count_lookup(&mut self, domain: &str) -> Result<(), EvaluationError> {
        self.lookups += 1;
        if self.lookups > MAX_LOOKUPS {
            return Err(EvaluationError::new(Code::SpfTooManyLookups, domain));
        }
        Ok(())
    }

    fn count_void(
        &mut self,
        name: &str,
        is_void: bool,
        varies: bool,
    ) -> Result<(), EvaluationError> {
        let is_exempt = varies && self.client.is_stranger;
        // No query is sent for an invalid name.
        let counts = is_void && is_valid_name(name) && !is_exempt;
        self.void_lookups += usize::from(counts);
        if self.void_lookups > MAX_VOID_LOOKUPS {
            return Err(EvaluationError::new(Code::SpfTooManyVoidLookups, name));
        }
        Ok(())
    }
}

/// The record of an included domain, which must have exactly one valid one.
pub(super) async fn fetch_record(
    resolver: &impl Resolver,
    name: &str,
) -> Result<SpfRecord, EvaluationError> {
    let answer = resolver.lookup(name, RecordType::TXT).await;
    let answer = answer.map_err(|_| EvaluationError::new(Code::SpfTemperror, name))?;
    let mut texts = answer.texts().filter(|text| record::is_spf(text));
    match (texts.next(), texts.next()) {
        (Some(text), None) => record::parse(text).ok(),
        _ => None,
    }
    .ok_or_else(|| EvaluationError::new(Code::SpfIncludeBroken, name))
}

fn is_valid_name(name: &str) -> bool {
    let mut labels = name.split('.');
    name.len() <= MAX_NAME_LENGTH && labels.all(|label| (1..=63).contains(&label.len()))
}

fn is_within(name: &str, domain: &str) -> bool {
    let rest = name.strip_suffix(domain);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The name of an address in `in-addr.arpa` or `ip6.arpa`.
fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let labels: Vec<_> = nibbles(address.octets()).rev().collect();
            format!("{}.ip6.arpa", labels.join("."))
        }
    }
}
