//! The record store of the simulator.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use dezky_shared::domain::check;
use hickory_proto::{
    op::ResponseCode,
    rr::{
        LowerName, Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, MX, PTR, SOA, TXT},
    },
};

/// TTL of records and of negative answers.
const TTL: u32 = 300;
const NEGATIVE_TTL: u32 = 60;
/// The most aliases that are followed.
const MAX_ALIASES: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Records(BTreeMap<LowerName, Vec<Record>>);

/// A lookup result. Negative answers have a SOA record.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) code: ResponseCode,
    pub(super) answers: Vec<Record>,
    pub(super) soa: Option<Record>,
}

impl Records {
    pub(super) fn add(&mut self, record: Record) {
        let records = self.0.entry(LowerName::new(&record.name)).or_default();
        if !records.contains(&record) {
            records.push(record);
        }
    }

    pub(super) fn remove_record(&mut self, record: &Record) {
        if let Some(records) = self.0.get_mut(&LowerName::new(&record.name)) {
            records.retain(|other| other != record);
        }
        self.0.retain(|_, records| !records.is_empty());
    }

    pub(super) fn remove(&mut self, name: &Name, kind: Option<RecordType>) {
        let mut name = name.clone();
        name.set_fqdn(true);
        if let Some(records) = self.0.get_mut(&LowerName::new(&name)) {
            records.retain(|record| kind.is_some_and(|kind| record.record_type() != kind));
        }
        self.0.retain(|_, records| !records.is_empty());
    }

    pub(super) fn all(&self) -> Vec<check::Record> {
        let records = self.0.values().flatten();
        records
            .map(|record| check::Record {
                name: record.name.to_ascii().trim_end_matches('.').to_owned(),
                kind: record.record_type().to_string(),
                value: presented(&record.data),
                check: None,
            })
            .collect()
    }

    /// Looks up a name, following aliases even in a loop.
    pub(super) fn find(&self, name: &Name, kind: RecordType) -> Found {
        let mut answers: Vec<Record> = Vec::new();
        let mut owner = name.clone();
        while answers.len() < MAX_ALIASES {
            let here = self.at(&owner);
            let of = |kind| here.iter().filter(move |it| it.record_type() == kind);
            let asked_for: Vec<Record> = of(kind).cloned().collect();
            if !asked_for.is_empty() {
                answers.extend(asked_for);
                return Found {
                    code: ResponseCode::NoError,
                    answers,
                    soa: None,
                };
            }
            let Some(alias) = of(RecordType::CNAME).next() else {
                return Found {
                    code: if self.exists(&owner) {
                        ResponseCode::NoError
                    } else {
                        ResponseCode::NXDomain
                    },
                    answers,
                    soa: Some(soa()),
                };
            };
            answers.push(alias.clone());
            let RData::CNAME(CNAME(target)) = &alias.data else {
                break;
            };
            owner = target.clone();
        }
        Found {
            code: ResponseCode::NoError,
            answers,
            soa: None,
        }
    }

    /// The records of a name, including those of a wildcard.
    fn at(&self, name: &Name) -> Vec<Record> {
        let mut wildcard = name.clone();
        if let Some(records) = self.0.get(&LowerName::new(name)) {
            return records.clone();
        }
        while !self.exists(name) && !wildcard.base_name().is_root() {
            wildcard = wildcard.base_name();
            let candidate = wildcard.prepend_label("*").unwrap_or_else(|_| Name::root());
            if let Some(records) = self.0.get(&LowerName::new(&candidate)) {
                let mut records = records.clone();
                for record in &mut records {
                    record.name = name.clone();
                }
                return records;
            }
        }
        Vec::new()
    }

    /// Whether the name exists: it or a name below it has records.
    fn exists(&self, name: &Name) -> bool {
        let name = LowerName::new(name);
        self.0.keys().any(|other| name.zone_of(other))
    }
}

/// Parses a record in presentation format.
pub(super) fn parse(name: &str, kind: &str, value: &str) -> anyhow::Result<Record> {
    let absolute = |text: &str| -> anyhow::Result<Name> {
        let mut name =
            Name::from_ascii(text).with_context(|| format!("{text:?} is not a domain name"))?;
        name.set_fqdn(true);
        Ok(name)
    };
    let data = match kind {
        "TXT" => RData::TXT(TXT::from_bytes(value.as_bytes().chunks(255).collect())),
        "MX" => {
            let (preference, host) = value
                .split_once(' ')
                .with_context(|| format!("{value:?} is not a preference and a host name"))?;
            RData::MX(MX::new(preference.parse()?, absolute(host)?))
        }
        "CNAME" => RData::CNAME(CNAME(absolute(value)?)),
        "A" => RData::A(A(value.parse()?)),
        "AAAA" => RData::AAAA(AAAA(value.parse()?)),
        "PTR" => RData::PTR(PTR(absolute(value)?)),
        other => bail!("records of type {other} are not simulated"),
    };
    Ok(Record::from_rdata(absolute(name)?, TTL, data))
}

fn presented(data: &RData) -> String {
    let name = |name: &Name| match name.to_ascii() {
        root if root == "." => root,
        name => name.trim_end_matches('.').to_owned(),
    };
    match data {
        RData::TXT(txt) => String::from_utf8_lossy(&txt.txt_data.concat()).into_owned(),
        RData::MX(mx) => format!("{} {}", mx.preference, name(&mx.exchange)),
        RData::CNAME(CNAME(target)) => name(target),
        other => other.to_string(),
    }
}

fn soa() -> Record {
    let soa = SOA::new(
        Name::root(),
        Name::root(),
        1,
        3600,
        600,
        86_400,
        NEGATIVE_TTL,
    );
    Record::from_rdata(Name::root(), NEGATIVE_TTL, RData::SOA(soa))
}
