//! The protocol: method calls out, their replies in, and what each refusal means.
//!
//! Status 200 only means that the request was understood. A failure is found, in this order, in the HTTP
//! status, in a method reply called `error`, and in the `notCreated`, `notUpdated` and `notDestroyed` of a
//! `/set`. Free text of the server goes into an error only where it cannot echo what we sent.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::clients::{ClientError, UpstreamResponse};
use dezky_shared::queue::error_code::ErrorCode;

/// One method call.
pub(super) struct Call {
    method: &'static str,
    arguments: Value,
}

impl Call {
    pub(super) fn new(method: &'static str, arguments: Value) -> Self {
        Self { method, arguments }
    }
}

/// A request body with these calls; each is known by its position.
pub(super) fn request(calls: &[Call]) -> Value {
    let calls: Vec<Value> = calls
        .iter()
        .enumerate()
        .map(|(position, call)| json!([call.method, call.arguments, position.to_string()]))
        .collect();
    json!({ "using": ["urn:ietf:params:jmap:core", "urn:stalwart:jmap"], "methodCalls": calls })
}

/// Takes the value at `path` in the reply of the call at `position` for an argument.
pub(super) fn result_of(position: usize, method: &'static str, path: &'static str) -> Value {
    json!({ "resultOf": position.to_string(), "name": method, "path": path })
}

/// The replies to all calls of a request, none of them an error.
pub(super) struct Reply<const N: usize> {
    answer: UpstreamResponse,
    arguments: [Value; N],
}

impl<const N: usize> Reply<N> {
    /// Reads an answer to a request with `N` calls.
    pub(super) fn read(answer: UpstreamResponse) -> Result<Self, ClientError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            method_responses: Vec<(String, Value, String)>,
        }

        if !answer.status.is_success() {
            return Err(refused_request(&answer));
        }
        let replies = answer.json::<Body>()?.method_responses;
        if let Some((_, error, _)) = replies.iter().find(|(method, ..)| method == "error") {
            return Err(refused_call(&answer, error));
        }
        let arguments: Vec<Value> = replies
            .into_iter()
            .map(|(_, arguments, _)| arguments)
            .collect();
        match arguments.try_into() {
            Ok(arguments) => Ok(Self { answer, arguments }),
            Err(_) => Err(answer.unreadable("not one reply for each call")),
        }
    }

    /// What the `/get` at `position` found.
    pub(super) fn list<T: DeserializeOwned>(&self, position: usize) -> Result<Vec<T>, ClientError> {
        #[derive(Deserialize)]
        struct Got<T> {
            list: Vec<T>,
        }
        Ok(self.parse::<Got<T>>(position)?.list)
    }

    /// How many ids the `/query` at `position` gave.
    pub(super) fn count(&self, position: usize) -> Result<usize, ClientError> {
        #[derive(Deserialize)]
        struct Found {
            ids: Vec<String>,
        }
        Ok(self.parse::<Found>(position)?.ids.len())
    }

    fn parse<T: DeserializeOwned>(&self, position: usize) -> Result<T, ClientError> {
        T::deserialize(&self.arguments[position])
            .map_err(|error| self.answer.unreadable(&error.to_string()))
    }

    /// The error that a refusal of one object is, where the caller has no use for it.
    pub(super) fn refused(&self, refusal: &SetError) -> ClientError {
        let call = self.answer.failed(&refusal.describe());
        match refusal.kind.as_str() {
            "primaryKeyViolation" | "objectIsLinked" => ClientError::Conflict(call),
            "forbidden" => ClientError::Permission(call),
            // It was there a moment ago: whoever tries again looks again.
            "notFound" => ClientError::Unavailable(call),
            "invalidPatch" if refusal.description == "Invalid domain name" => {
                ClientError::UserAction {
                    call,
                    code: ErrorCode::DomainInvalid,
                }
            }
            _ => ClientError::Rejected(call),
        }
    }
}

impl Reply<1> {
    /// The id of the one object that was to be created, or why it was not.
    pub(super) fn created(&self) -> Result<Result<String, SetError>, ClientError> {
        #[derive(Deserialize)]
        struct Created {
            id: String,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Set {
            created: BTreeMap<String, Created>,
            not_created: BTreeMap<String, SetError>,
        }
        let set: Set = self.parse(0)?;
        match (
            set.created.into_values().next(),
            set.not_created.into_values().next(),
        ) {
            (Some(created), _) => Ok(Ok(created.id)),
            (None, Some(refusal)) => Ok(Err(refusal)),
            (None, None) => Err(self.answer.unreadable("neither created nor refused")),
        }
    }

    /// Whether the one object that was to be updated was, or why not.
    pub(super) fn updated(&self) -> Result<Result<(), SetError>, ClientError> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Set {
            updated: BTreeMap<String, Value>,
            not_updated: BTreeMap<String, SetError>,
        }
        let set: Set = self.parse(0)?;
        match set.not_updated.into_values().next() {
            Some(refusal) => Ok(Err(refusal)),
            None if !set.updated.is_empty() => Ok(Ok(())),
            None => Err(self.answer.unreadable("neither updated nor refused")),
        }
    }

    /// Which objects were destroyed, and why the others were not.
    pub(super) fn destroyed(&self) -> Result<Destroyed, ClientError> {
        self.parse(0)
    }
}

/// The reply to a `/set` that destroys.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Destroyed {
    #[serde(default)]
    pub(super) destroyed: Vec<String>,
    #[serde(default)]
    pub(super) not_destroyed: BTreeMap<String, SetError>,
}

/// Why one object of a `/set` was refused.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SetError {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    properties: Vec<String>,
    object_id: Option<ObjectId>,
    #[serde(default)]
    linked_objects: Vec<ObjectId>,
}

/// An object of any type: ids are unique for each type only.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ObjectId {
    pub(super) object: String,
    pub(super) id: String,
}

impl SetError {
    /// Whether there is no such object (any more).
    pub(super) fn is_not_found(&self) -> bool {
        self.kind == "notFound"
    }

    /// The objects that depend on this one, when that is what the refusal is about.
    pub(super) fn dependants(&self) -> Option<&[ObjectId]> {
        (self.kind == "objectIsLinked").then_some(self.linked_objects.as_slice())
    }

    /// The id of the `object` that holds the name already, when that is what the refusal is about.
    pub(super) fn holder(&self, object: &str) -> Option<&str> {
        let holder = self.object_id.as_ref()?;
        (self.kind == "primaryKeyViolation" && holder.object == object).then_some(&holder.id)
    }

    fn describe(&self) -> String {
        let Self {
            kind,
            description,
            properties,
            ..
        } = self;
        format!("{kind} {properties:?} {description}")
    }
}

/// What a status other than success means.
fn refused_request(answer: &UpstreamResponse) -> ClientError {
    /// The members of a problem that are the server's own words: its `detail` can be our whole request.
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Problem {
        #[serde(rename = "type")]
        kind: String,
        limit: String,
    }

    match answer.status.as_u16() {
        400 => {
            let Problem { kind, limit } = serde_json::from_slice(&answer.body).unwrap_or_default();
            let call = answer.failed(&format!("{kind} {limit}"));
            if limit == "maxConcurrentRequests" {
                return ClientError::RateLimited {
                    call,
                    retry_after: None,
                };
            }
            ClientError::Rejected(call)
        }
        // Without a time to wait it is no rate limit but a ban, which has no end.
        429 if answer.retry_after().is_none() => {
            ClientError::Credentials(answer.failed("our address is banned"))
        }
        _ => answer.error(""),
    }
}

/// What a method reply called `error` means.
fn refused_call(answer: &UpstreamResponse, error: &Value) -> ClientError {
    let text = |member: &str| error.get(member).and_then(Value::as_str).unwrap_or("?");
    let kind = text("type");
    match kind {
        // A lost write race, or a store in trouble. Other objects of the same call may have been written.
        "serverUnavailable" | "serverFail" | "serverPartialFail" => {
            ClientError::Unavailable(answer.failed(kind))
        }
        "forbidden" => ClientError::Permission(answer.failed(text("description"))),
        _ => ClientError::Rejected(answer.failed(kind)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

    use super::*;
    use crate::clients::{
        Operation,
        stalwart::{Login, Stalwart, StalwartConfig},
    };
    use dezky_shared::platform::tls::TrustRoots;

    /// An exchange with a real server, as the simulator is held to it.
    #[derive(Deserialize)]
    struct Recorded {
        name: String,
        means: Option<ErrorCode>,
        status: Option<u16>,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        body: Option<Value>,
        #[serde(default)]
        replies: Vec<(String, Value)>,
    }

    impl Recorded {
        fn answer(&self) -> ResponseTemplate {
            let replies = self.replies.iter().enumerate();
            let replies: Vec<Value> = replies
                .map(|(position, (method, reply))| json!([method, reply, position.to_string()]))
                .collect();
            let body = json!({ "methodResponses": replies, "sessionState": "1731e49e" });
            let headers = self
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()));
            ResponseTemplate::new(self.status.unwrap_or(200))
                .set_body_json(self.body.as_ref().unwrap_or(&body))
                .append_headers(headers)
        }
    }

    fn recorded() -> Vec<Recorded> {
        [
            include_str!("../../../../sim/tests/fixtures/stalwart/accounts.json"),
            include_str!("../../../../sim/tests/fixtures/stalwart/domains.json"),
            include_str!("../../../../sim/tests/fixtures/stalwart/limits.json"),
            include_str!("../../../../sim/tests/fixtures/stalwart/removal.json"),
            include_str!("../../../../sim/tests/fixtures/stalwart/requests.json"),
        ]
        .into_iter()
        .flat_map(|file| serde_json::from_str::<Vec<Recorded>>(file).unwrap())
        .collect()
    }

    async fn stalwart_answering(answer: ResponseTemplate) -> (Stalwart, MockServer) {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(answer).mount(&server).await;
        let config = StalwartConfig {
            base_url: server.uri(),
            login: Login::ApiKey("API_secret".to_owned().into()),
            timeout: Duration::from_secs(5),
        };
        (
            Stalwart::new(&config, &TrustRoots::default()).unwrap(),
            server,
        )
    }

    /// What a write fails with when it is answered like this.
    async fn failure(answer: ResponseTemplate) -> Option<ClientError> {
        let (stalwart, _server) = stalwart_answering(answer).await;
        let write = Call::new("x:Any/set", json!({}));
        let reply = match stalwart.call(Operation::write("write"), [write]).await {
            Ok(reply) => reply,
            Err(error) => return Some(error),
        };
        let refusal = ["notCreated", "notUpdated", "notDestroyed"]
            .iter()
            .find_map(|part| reply.arguments[0].get(part)?.as_object()?.values().next())?;
        Some(reply.refused(&serde_json::from_value(refusal.clone()).unwrap()))
    }

    #[tokio::test]
    async fn every_recorded_refusal_means_what_is_noted_beside_it() {
        let refusals = recorded();
        let refusals = refusals.iter().filter(|recorded| recorded.means.is_some());

        for refusal in refusals {
            let failure = failure(refusal.answer()).await;

            let code = failure.as_ref().map(ClientError::code);
            assert_eq!(code, refusal.means, "{}: {failure:?}", refusal.name);
        }
    }

    #[tokio::test]
    async fn a_rate_limit_says_how_long_to_wait() {
        let limits = recorded();
        let limit = limits
            .iter()
            .find(|limit| limit.name == "too many requests");

        let failure = failure(limit.unwrap().answer()).await;

        assert!(
            matches!(failure, Some(ClientError::RateLimited { retry_after: Some(wait), .. }) if wait == Duration::from_secs(48))
        );
    }

    #[tokio::test]
    async fn an_answer_that_quotes_our_request_does_not_get_into_the_error() {
        let quoted = json!({
            "type": "urn:ietf:params:jmap:error:notRequest", "status": 400,
            "detail": "{\"secret\": \"hunter2-hunter2\"}",
        });

        let failure = failure(ResponseTemplate::new(400).set_body_json(quoted))
            .await
            .unwrap();

        let shown = format!("{failure} {failure:?}");
        assert!(shown.contains("notRequest"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[tokio::test]
    async fn a_recorded_domain_is_read() {
        let answers = recorded();
        let answer = answers
            .iter()
            .find(|answer| answer.name == "looked up as the client does");
        let (stalwart, _server) = stalwart_answering(answer.unwrap().answer()).await;

        let domain = stalwart.find_domain("acme.test").await.unwrap().unwrap();

        assert_eq!(domain.id, "c");
        assert!(domain.belongs_to("0199"));
    }

    #[tokio::test]
    async fn every_request_carries_the_key_and_both_capabilities() {
        let empty = json!({ "methodResponses": [["x:Domain/query", { "ids": [] }, "0"]] });
        let (stalwart, server) =
            stalwart_answering(ResponseTemplate::new(200).set_body_json(empty)).await;

        stalwart.check().await.unwrap();

        let requests = server.received_requests().await.unwrap();
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].url.path(), "/jmap");
        assert_eq!(requests[0].headers["authorization"], "Bearer API_secret");
        assert_eq!(
            requests[0].body_json::<Value>().unwrap(),
            json!({
                "using": ["urn:ietf:params:jmap:core", "urn:stalwart:jmap"],
                "methodCalls": [["x:Domain/query", { "limit": 1 }, "0"]],
            })
        );
    }
}
