//! Follows an SPF record through everything it refers to, as a receiver does whose sender matches nothing: so all of
//! it counts. Whether a way leads to us is found on the way.

use futures::future::BoxFuture;

use super::record::{self, Kind, Mechanism, SpfRecord, Target};
use crate::dns::{
    code::Code,
    resolver::{Answer, RecordType, Resolver},
};

/// The limits of RFC 7208, section 4.6.4.
const LOOKUPS: usize = 10;
const VOID_LOOKUPS: usize = 2;
const EXCHANGES: usize = 10;

/// What lets us send.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ours<'a> {
    /// An `include:` of this domain, or a `redirect=` to it.
    Include(&'a str),
    /// `mx` of the customer's domain, or `a:` of each of the hosts that its MX should name.
    Exchanges {
        domain: &'a str,
        hosts: &'a [String],
    },
}

/// Why a receiver could not follow it to the end, and at which term or domain.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) code: Code,
    pub(super) about: String,
}

pub(super) struct Walk<'a, R> {
    resolver: &'a R,
    ours: Ours<'a>,
    lookups: usize,
    void_lookups: usize,
    /// The domains whose records are being followed, outermost first.
    path: Vec<String>,
    /// The hosts of ours that an `a:` lets send.
    hosts: Vec<String>,
    pub(super) is_ours: bool,
    pub(super) passes_all: bool,
    pub(super) has_ptr: bool,
}

impl<'a, R: Resolver> Walk<'a, R> {
    pub(super) fn new(resolver: &'a R, ours: Ours<'a>) -> Self {
        Self {
            resolver,
            ours,
            lookups: 0,
            void_lookups: 0,
            path: Vec::new(),
            hosts: Vec::new(),
            is_ours: false,
            passes_all: false,
            has_ptr: false,
        }
    }

    /// Follows the record of `domain`. `passes`: who matches in it may send.
    pub(super) fn follow<'b>(
        &'b mut self,
        domain: &'b str,
        record: &'b SpfRecord,
        passes: bool,
    ) -> BoxFuture<'b, Result<(), Stop>> {
        Box::pin(async move {
            self.path.push(domain.to_owned());
            for mechanism in &record.mechanisms {
                if mechanism.kind == Kind::All {
                    self.passes_all |= passes && mechanism.passes;
                    // What stands behind it, and `redirect=`, is never looked at.
                    self.path.pop();
                    return Ok(());
                }
                self.mechanism(domain, mechanism, passes).await?;
            }
            if let Some(target) = &record.redirect {
                self.count(domain)?;
                self.refer(target, passes).await?;
            }
            self.path.pop();
            Ok(())
        })
    }

    async fn mechanism(
        &mut self,
        domain: &str,
        mechanism: &Mechanism,
        passes: bool,
    ) -> Result<(), Stop> {
        let passes = passes && mechanism.passes;
        if mechanism.kind != Kind::Address {
            self.count(domain)?;
        }
        match &mechanism.kind {
            // A name with macros is another for every mail.
            Kind::All
            | Kind::Address
            | Kind::Exists(Target::Macro)
            | Kind::A(Some(Target::Macro))
            | Kind::Mx(Some(Target::Macro)) => {}
            Kind::Ptr => self.has_ptr = true,
            Kind::Include(target) => self.refer(target, passes).await?,
            Kind::Exists(Target::Name(name)) => {
                let answer = self.ask(name, RecordType::A).await?;
                self.count_void(name, answer.values.is_empty())?;
            }
            Kind::A(Some(Target::Name(name))) => self.hosts(name, passes).await?,
            Kind::A(None) => self.hosts(domain, passes).await?,
            Kind::Mx(Some(Target::Name(name))) => self.exchanges(name, passes).await?,
            Kind::Mx(None) => self.exchanges(domain, passes).await?,
        }
        Ok(())
    }

    /// `include:` and `redirect=`.
    async fn refer(&mut self, target: &Target, passes: bool) -> Result<(), Stop> {
        let Target::Name(name) = target else {
            return Ok(());
        };
        if passes && matches!(self.ours, Ours::Include(ours) if ours == name) {
            self.is_ours = true;
        }
        if self.path.contains(name) {
            return Err(stop(Code::SpfLoop, name));
        }
        let answer = self.ask(name, RecordType::TXT).await?;
        let mut texts = answer.texts().filter(|text| record::is_spf(text));
        let (Some(text), None) = (texts.next(), texts.next()) else {
            return Err(stop(Code::SpfIncludeBroken, name));
        };
        let Ok(record) = record::parse(text) else {
            return Err(stop(Code::SpfIncludeBroken, name));
        };
        self.follow(name, &record, passes).await
    }

    async fn hosts(&mut self, name: &str, passes: bool) -> Result<(), Stop> {
        if passes && let Ours::Exchanges { hosts, .. } = self.ours {
            self.hosts.push(name.to_owned());
            self.is_ours |= !hosts.is_empty() && hosts.iter().all(|host| self.hosts.contains(host));
        }
        let v4 = self.ask(name, RecordType::A).await?;
        let is_void =
            v4.values.is_empty() && self.ask(name, RecordType::AAAA).await?.values.is_empty();
        self.count_void(name, is_void)
    }

    async fn exchanges(&mut self, name: &str, passes: bool) -> Result<(), Stop> {
        if passes && matches!(self.ours, Ours::Exchanges { domain, .. } if domain == name) {
            self.is_ours = true;
        }
        let answer = self.ask(name, RecordType::MX).await?;
        if answer.values.len() > EXCHANGES {
            return Err(stop(Code::SpfTooManyMx, name));
        }
        self.count_void(name, answer.values.is_empty())
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Answer, Stop> {
        let answer = self.resolver.lookup(name, kind).await;
        answer.map_err(|_| stop(Code::SpfTemperror, name))
    }

    fn count(&mut self, domain: &str) -> Result<(), Stop> {
        self.lookups += 1;
        if self.lookups > LOOKUPS {
            return Err(stop(Code::SpfTooManyLookups, domain));
        }
        Ok(())
    }

    fn count_void(&mut self, name: &str, is_void: bool) -> Result<(), Stop> {
        self.void_lookups += usize::from(is_void);
        if self.void_lookups > VOID_LOOKUPS {
            return Err(stop(Code::SpfTooManyVoidLookups, name));
        }
        Ok(())
    }
}

fn stop(code: Code, about: &str) -> Stop {
    Stop {
        code,
        about: about.to_owned(),
    }
}
