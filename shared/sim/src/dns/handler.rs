//! Answers one question.

use std::sync::{Arc, Mutex, PoisonError};

use hickory_proto::{
    op::{Edns, Header, HeaderCounts, Metadata, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::NS},
};
use hickory_server::{
    net::{runtime::Time, xfer::Protocol},
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};

use super::{DnsFault, Question, State, records::Found};

/// The most bytes of an answer by UDP, as is usual since 2020.
const PAYLOAD: u16 = 1232;

pub(super) struct Handler(pub(super) Arc<Mutex<State>>);

impl Handler {
    /// What is to be answered, and what goes wrong with it.
    fn look_up(&self, name: &Name, kind: RecordType, tcp: bool) -> (Found, Option<DnsFault>, bool) {
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
        let answer = (
            state.records.find(name, kind),
            fault.map(|rule| rule.fault),
            state.signed,
        );
        state.questions.push(question);
        answer
    }
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
        let (mut found, fault, signed) = self.look_up(&name, kind, asked.protocol == Protocol::Tcp);
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
            Some(DnsFault::Bogus) if request.metadata.checking_disabled => {}
            Some(DnsFault::ServerFailure | DnsFault::Bogus) => {
                nothing(&mut found);
                metadata.response_code = ResponseCode::ServFail;
            }
            Some(DnsFault::Refused) => {
                nothing(&mut found);
                metadata.response_code = ResponseCode::Refused;
            }
            Some(DnsFault::FormatError) => {
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
