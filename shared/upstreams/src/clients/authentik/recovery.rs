//! Recovery links, with which a user chooses a new password.
//!
//! A link grants access to the account, so it never appears in errors or logs. A user has one link at a time: a new one
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
    /// Creates a recovery link valid for `valid_for`, in whole hours, replacing the previous one. Authentik builds it
    /// for the host of our request; it is rewritten to the public host.
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
        let response = self
            .send(Operation::write("create_recovery_link"), request)
            .await?;
        if error::lacks_recovery_flow(&response) {
            return Err(ClientError::UserAction {
                call: response.failed("no recovery flow applies: set one on Authentik's brand"),
                code: ErrorCode::RecoveryFlowMissing,
            });
        }
        self.expect(&response, StatusCode::OK)?;
        // The parser's error could quote the link.
        let made: Made = serde_json::from_slice(&response.body)
            .map_err(|_| response.unreadable("the response contains no link"))?;
        let link = Url::parse(&made.link)
            .map_err(|_| response.unreadable("the link is not a valid URL"))?;
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
    use crate::clients::{
        CALL_TIMEOUT,
        authentik::{AuthentikConfig, DEFAULT_SIGNING_KEY},
    };
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
            signing_key: DEFAULT_SIGNING_KEY.to_owned(),
            timeout: CALL_TIMEOUT,
        };
        let client = Authentik::new(&config, &TrustRoots::default()).unwrap();
        let link = client.create_recovery_link(7, Duration::from_hours(1));
        let link = link.await.unwrap().expose_secret().to_owned();
        link.replace(&server.uri(), "api")
    }

    #[tokio::test]
    async fn a_link_has_the_public_host() {
        let public = link(Some("https://auth.example.com/anything?else")).await;
        let internal = link(None).await;

        let rest = "/if/flow/recovery/?flow_token=0123";
        assert_eq!(public, format!("https://auth.example.com{rest}"));
        assert_eq!(internal, format!("api{rest}"));
    }
}
