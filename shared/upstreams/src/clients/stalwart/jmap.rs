//! JMAP protocol: method calls, replies, and error classification.
//!
//! Status 200 only means that the request was understood. Errors are found, in this order, in the HTTP status, in a
//! method reply called `error`, and in the `notCreated`, `notUpdated` and `notDestroyed` of a `/set`. Free text of the
//! server is included in an error only where it cannot echo our request.

mod error;

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub(super) use self::error::{ObjectId, SetError};
use self::error::{classify_method_error, classify_status};
use crate::clients::{ClientError, UpstreamResponse};
use dezky_shared::queue::error_code::ErrorCode;

/// Method call.
pub(super) struct Call {
    method: &'static str,
    arguments: Value,
}

impl Call {
    pub(super) fn new(method: &'static str, arguments: Value) -> Self {
        Self { method, arguments }
    }
}

/// Request body with these calls, each identified by its position.
pub(super) fn request(calls: &[Call]) -> Value {
    let calls: Vec<Value> = calls
        .iter()
        .enumerate()
        .map(|(position, call)| json!([call.method, call.arguments, position.to_string()]))
        .collect();
    json!({ "using": ["urn:ietf:params:jmap:core", "urn:stalwart:jmap"], "methodCalls": calls })
}

/// Result reference: an argument taken from `path` in the reply of the call at `position`.
pub(super) fn result_of(position: usize, method: &'static str, path: &'static str) -> Value {
    json!({ "resultOf": position.to_string(), "name": method, "path": path })
}

/// Replies to all calls of a request, none of them an error.
pub(super) struct Reply<const N: usize> {
    response: UpstreamResponse,
    arguments: [Value; N],
}

impl<const N: usize> Reply<N> {
    /// Parses the response to a request with `N` calls.
    pub(super) fn read(response: UpstreamResponse) -> Result<Self, ClientError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            method_responses: Vec<(String, Value, String)>,
        }

        if !response.status.is_success() {
            return Err(classify_status(&response));
        }
        let replies = response.json::<Body>()?.method_responses;
        if let Some((_, error, _)) = replies.iter().find(|(method, ..)| method == "error") {
            return Err(classify_method_error(&response, error));
        }
        let arguments: Vec<Value> = replies
            .into_iter()
            .map(|(_, arguments, _)| arguments)
            .collect();
        match arguments.try_into() {
            Ok(arguments) => Ok(Self {
                response,
                arguments,
            }),
            Err(_) => {
                Err(response.unreadable("the number of replies differs from the number of calls"))
            }
        }
    }

    /// Objects returned by the `/get` at `position`.
    pub(super) fn list<T: DeserializeOwned>(&self, position: usize) -> Result<Vec<T>, ClientError> {
        #[derive(Deserialize)]
        struct Got<T> {
            list: Vec<T>,
        }
        Ok(self.parse::<Got<T>>(position)?.list)
    }

    /// Result of the `/query` at `position`.
    pub(super) fn found(&self, position: usize) -> Result<Found, ClientError> {
        self.parse(position)
    }

    fn parse<T: DeserializeOwned>(&self, position: usize) -> Result<T, ClientError> {
        T::deserialize(&self.arguments[position])
            .map_err(|error| self.response.unreadable(&error.to_string()))
    }

    /// Error for a set error that the caller does not handle.
    pub(super) fn refused(&self, set_error: &SetError) -> ClientError {
        let call = self.response.failed(&set_error.describe());
        match set_error.kind.as_str() {
            "primaryKeyViolation" | "objectIsLinked" => ClientError::Conflict(call),
            "forbidden" => ClientError::Permission(call),
            // The object was deleted concurrently: a retry looks it up again.
            "notFound" => ClientError::StateChanged(call),
            "invalidPatch" if set_error.description == "Invalid domain name" => {
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
    /// Id of the one created object, or its set error.
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
            (None, Some(set_error)) => Ok(Err(set_error)),
            (None, None) => Err(self.response.unreadable("neither created nor rejected")),
        }
    }

    /// Success of the one update, or its set error.
    pub(super) fn updated(&self) -> Result<Result<(), SetError>, ClientError> {
        let refused = self.not_updated(1)?.into_values().next();
        Ok(refused.map_or(Ok(()), Err))
    }

    /// Set errors of this number of updates, by id.
    pub(super) fn not_updated(
        &self,
        updates: usize,
    ) -> Result<BTreeMap<String, SetError>, ClientError> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Set {
            updated: BTreeMap<String, Value>,
            not_updated: BTreeMap<String, SetError>,
        }
        let set: Set = self.parse(0)?;
        if set.updated.len() + set.not_updated.len() < updates {
            return Err(self.response.unreadable("neither updated nor rejected"));
        }
        Ok(set.not_updated)
    }

    /// Destroyed objects, and the set errors of the others.
    pub(super) fn destroyed(&self) -> Result<Destroyed, ClientError> {
        self.parse(0)
    }
}

/// Reply to a `/query`.
#[derive(Debug, Deserialize)]
pub(super) struct Found {
    pub(super) ids: Vec<String>,
    /// Number of matches, if requested.
    #[serde(default)]
    pub(super) total: Option<usize>,
}

/// Reply to a `/set` with `destroy`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Destroyed {
    #[serde(default)]
    pub(super) destroyed: Vec<String>,
    #[serde(default)]
    pub(super) not_destroyed: BTreeMap<String, SetError>,
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

    /// Exchange recorded with a real server, against which the simulator is also tested.
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
        fn response(&self) -> ResponseTemplate {
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

    async fn stalwart_with_response(response: ResponseTemplate) -> (Stalwart, MockServer) {
        let server = MockServer::start().await;
        Mock::given(any())
            .respond_with(response)
            .mount(&server)
            .await;
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

    /// Error of a write that receives this response.
    async fn failure(response: ResponseTemplate) -> Option<ClientError> {
        let (stalwart, _server) = stalwart_with_response(response).await;
        let write = Call::new("x:Any/set", json!({}));
        let reply = match stalwart.call(Operation::write("write"), [write]).await {
            Ok(reply) => reply,
            Err(error) => return Some(error),
        };
        let set_error = ["notCreated", "notUpdated", "notDestroyed"]
            .iter()
            .find_map(|part| reply.arguments[0].get(part)?.as_object()?.values().next())?;
        Some(reply.refused(&serde_json::from_value(set_error.clone()).unwrap()))
    }

    #[tokio::test]
    async fn every_recorded_error_has_the_expected_code() {
        let refusals = recorded();
        let refusals = refusals.iter().filter(|recorded| recorded.means.is_some());

        for set_error in refusals {
            let failure = failure(set_error.response()).await;

            let code = failure.as_ref().map(ClientError::code);
            assert_eq!(code, set_error.means, "{}: {failure:?}", set_error.name);
        }
    }

    #[tokio::test]
    async fn a_rate_limit_carries_its_retry_after() {
        let limits = recorded();
        let limit = limits
            .iter()
            .find(|limit| limit.name == "too many requests");

        let failure = failure(limit.unwrap().response()).await;

        assert!(
            matches!(failure, Some(ClientError::RateLimited { retry_after: Some(wait), .. }) if wait == Duration::from_secs(48))
        );
    }

    #[tokio::test]
    async fn a_response_that_quotes_our_request_is_left_out_of_the_error() {
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
    async fn a_recorded_domain_is_decoded() {
        let answers = recorded();
        let response = answers
            .iter()
            .find(|response| response.name == "looked up as the client does");
        let (stalwart, _server) = stalwart_with_response(response.unwrap().response()).await;

        let domain = stalwart.find_domain("acme.test").await.unwrap().unwrap();

        assert_eq!(domain.id, "c");
        assert!(domain.belongs_to("0199"));
    }

    #[tokio::test]
    async fn every_request_carries_the_key_and_both_capabilities() {
        let empty = json!({ "methodResponses": [["x:Domain/query", { "ids": [] }, "0"]] });
        let (stalwart, server) =
            stalwart_with_response(ResponseTemplate::new(200).set_body_json(empty)).await;

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
