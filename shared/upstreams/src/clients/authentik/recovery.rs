//! Links with which somebody chooses a new password.
//!
//! Whoever has the link has the account, so it stands in no error and no log. A user has one at a time: a new one
//! replaces it.

use std::time::Duration;

use http::StatusCode;
use reqwest::{Method, Url};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use super::{Authentik, error};
use crate::clients::{ClientError, Operation};
use dezky_shared::queue::error_code::ErrorCode;

const HOUR: u64 = 60 * 60;

impl Authentik {
    /// Makes a link that is good for `valid_for`, which is whole hours, in place of the one before. Authentik makes it for
    /// the host by which we call it; people are to call it by its public one.
    pub async fn create_recovery_link(
        &self,
        user_pk: i64,
        valid_for: Duration,
    ) -> Result<SecretString, ClientError> {
        let path = format!("/core/users/{user_pk}/recovery/");
        let hours = valid_for.as_secs() / HOUR;
        let request = self
            .http
            .request(Method::POST, &path)
            .json(&json!({ "token_duration": format!("hours={hours}") }));
        let answer = self
            .send(Operation::write("create_recovery_link"), request)
            .await?;
        if error::lacks_recovery_flow(&answer) {
            return Err(ClientError::UserAction {
                call: answer.failed("no recovery flow applies: set one on Authentik's brand"),
                code: ErrorCode::RecoveryFlowMissing,
            });
        }
        self.expect(&answer, StatusCode::OK)?;
        // What the reader says of a wrong form could quote the link.
        let made: Made = serde_json::from_slice(&answer.body)
            .map_err(|_| answer.unreadable("there is no link in it"))?;
        let link = Url::parse(&made.link).map_err(|_| answer.unreadable("its link is none"))?;
        Ok(String::from(self.in_public(&link)).into())
    }

    fn in_public(&self, link: &Url) -> Url {
        let mut public = self.public_url.clone();
        public.set_path(link.path());
        public.set_query(link.query());
        public.set_fragment(link.fragment());
        public
    }
}

#[derive(Deserialize)]
struct Made {
    link: String,
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

    use super::*;
    use crate::clients::{CALL_TIMEOUT, authentik::AuthentikConfig};
    use dezky_shared::platform::tls::TrustRoots;

    const MADE: &str = "http://authentik:9000/if/flow/recovery/?flow_token=0123";

    async fn link(public_url: Option<&str>) -> String {
        let server = MockServer::start().await;
        let made = ResponseTemplate::new(200).set_body_json(json!({ "link": MADE }));
        Mock::given(path("/core/users/7/recovery/"))
            .respond_with(made)
            .mount(&server)
            .await;
        let config = AuthentikConfig {
            api_url: server.uri(),
            api_token: "token".into(),
            public_url: public_url.map(|url| url.parse().unwrap()),
            timeout: CALL_TIMEOUT,
        };
        let client = Authentik::new(&config, &TrustRoots::default()).unwrap();
        let link = client.create_recovery_link(7, Duration::from_hours(1));
        let link = link.await.unwrap().expose_secret().to_owned();
        link.replace(&server.uri(), "api")
    }

    #[tokio::test]
    async fn a_link_leads_where_people_reach_authentik() {
        let known = link(Some("https://auth.example.com/anything?else")).await;
        let unknown = link(None).await;

        let rest = "/if/flow/recovery/?flow_token=0123";
        assert_eq!(known, format!("https://auth.example.com{rest}"));
        assert_eq!(unknown, format!("api{rest}"));
    }
}
