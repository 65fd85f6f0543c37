//! The request handler of the simulator.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hickory_proto::{
    dnssec::{
        Algorithm, DigestType,
        rdata::{DNSSECRData, DS},
    },
    op::{Edns, Header, HeaderCounts, Metadata, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::NS},
};
use hickory_server::{
    net::{runtime::Time, xfer::Protocol},
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};

use super::{DnsFault, DnsFaultRule, Question, State, records::Found};

/// The largest UDP payload, as recommended since 2020.
const PAYLOAD: u16 = 1232;

pub(super) struct Handler(pub(super) Arc<Mutex<State>>);

/// A response before faults are applied, and the fault.
struct Lookup {
    found: Found,
    fault: Option<DnsFault>,
    signed: bool,
    /// Number of earlier queries of this name and type.
    repeats: usize,
}

impl Handler {
    fn look_up(&self, name: &Name, kind: RecordType, tcp: bool) -> Lookup {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = name.to_ascii().to_ascii_lowercase();
        let question = Question {
            name: text.trim_end_matches('.').to_owned(),
            kind,
            tcp,
        };
        let fault = state.faults.iter().rev().find(|rule| {
            let is_name = rule.name.as_ref().is_none_or(|it| *it == question.name);
            is_name && rule.kind.as_ref().is_none_or(|it| *it == kind.to_string())
        });
        let mut lookup = Lookup {
            found: state.records.find(name, kind),
            fault: fault.map(|rule| rule.fault),
            signed: state.signed,
            repeats: state
                .questions
                .iter()
                .filter(|asked| asked.name == question.name && asked.kind == kind)
                .count(),
        };
        if kind == RecordType::DS && state.faults.iter().any(|rule| signs(rule, &question.name)) {
            let digest = vec![0; 32];
            let ds = DS::new(1, Algorithm::ED25519, DigestType::SHA256, digest);
            let data = RData::DNSSEC(DNSSECRData::DS(ds));
            lookup.found.answers = vec![Record::from_rdata(name.clone(), 300, data)];
        }
        state.questions.push(question);
        lookup
    }
}

/// Whether a rule makes a name in `zone` fail validation, so that the zone has to be signed.
fn signs(rule: &DnsFaultRule, zone: &str) -> bool {
    rule.fault == DnsFault::Bogus
        && rule.name.as_ref().is_none_or(|name| {
            let rest = name.strip_suffix(zone);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut responses: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let Ok(asked) = request.request_info() else {
            metadata.response_code = ResponseCode::FormErr;
            return unsent(metadata);
        };
        let (name, kind) = (Name::from(asked.query.name()), asked.query.query_type());
        let Lookup {
            mut found,
            fault,
            signed,
            repeats,
        } = self.look_up(&name, kind, asked.protocol == Protocol::Tcp);
        metadata.recursion_available = true;
        metadata.authentic_data = signed;
        metadata.response_code = found.code;
        let mut authorities = Vec::new();
        let nothing = |found: &mut Found| {
            found.answers.clear();
            found.soa = None;
        };
        match fault {
            None => {}
            Some(DnsFault::Silence) => return unsent(metadata),
            Some(DnsFault::Delay(millis)) => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
            Some(DnsFault::NoSoa) => found.soa = None,
            Some(DnsFault::Duplicates) => found.answers.extend_from_within(..),
            Some(DnsFault::Bogus) if request.metadata.checking_disabled => {}
            Some(DnsFault::ServerFailureFirst(count)) if repeats >= count => {}
            Some(DnsFault::RefusesEdns) if request.edns.is_none() => {}
            Some(DnsFault::ServerFailure | DnsFault::ServerFailureFirst(_) | DnsFault::Bogus) => {
                nothing(&mut found);
                metadata.response_code = ResponseCode::ServFail;
            }
            Some(DnsFault::Refused) => {
                nothing(&mut found);
                metadata.response_code = ResponseCode::Refused;
            }
            Some(DnsFault::FormatError | DnsFault::RefusesEdns) => {
                nothing(&mut found);
                metadata.response_code = ResponseCode::FormErr;
            }
            Some(DnsFault::Lame) => {
                nothing(&mut found);
                metadata.response_code = ResponseCode::NoError;
                let elsewhere = RData::NS(NS(Name::root()));
                authorities.push(Record::from_rdata(Name::root(), 300, elsewhere));
            }
            Some(DnsFault::Clueless) => {
                nothing(&mut found);
                metadata.response_code = ResponseCode::NoError;
                metadata.recursion_available = false;
            }
            Some(DnsFault::Truncated) => {
                nothing(&mut found);
                metadata.truncation = true;
            }
        }
        let mut edns = Edns::new();
        let accepted = request.edns.as_ref().map(Edns::max_payload);
        edns.set_max_payload(accepted.unwrap_or_default().min(PAYLOAD));
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if accepted.is_some() {
            builder.edns(&edns);
        }
        let response = builder.build(metadata, &found.answers, &authorities, &found.soa, []);
        let sent = responses.send_response(response).await;
        sent.unwrap_or_else(|_| unsent(metadata))
    }
}

fn unsent(metadata: Metadata) -> ResponseInfo {
    ResponseInfo::from(Header {
        metadata,
        counts: HeaderCounts::default(),
    })
}
