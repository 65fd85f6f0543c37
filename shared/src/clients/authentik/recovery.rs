//! Links with which somebody chooses a new password.
//!
//! Whoever has the link has the account, so it stands in no error and no log. A user has one at a time: a new one
//! replaces it.

use std::time::Duration;

use http::StatusCode;
use reqwest::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use super::{Authentik, refusal};
use crate::{
    clients::{ClientError, Operation},
    failure::ErrorCode,
};

const HOUR: u64 = 60 * 60;

impl Authentik {
    /// Makes a link that is good for `valid_for`, which is whole hours, in place of the one before. Its host is the one
    /// by which Authentik is called.
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
        if refusal::lacks_recovery_flow(&answer) {
            return Err(ClientError::UserAction {
                call: answer.failed("no recovery flow applies: set one on Authentik's brand"),
                code: ErrorCode::RecoveryFlowMissing,
            });
        }
        self.expect(&answer, StatusCode::OK)?;
        // What the reader says of a wrong form could quote the link.
        let made: Made = serde_json::from_slice(&answer.body)
            .map_err(|_| answer.unreadable("there is no link in it"))?;
        Ok(made.link.into())
    }
}

#[derive(Deserialize)]
struct Made {
    link: String,
}
