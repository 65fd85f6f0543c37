//! Verification of an app: its discovery document, which Authentik serves only for an application with a provider.

use http::StatusCode;
use reqwest::Method;
use serde::Deserialize;

use crate::clients::{ClientError, Operation, authentik::Authentik};
use dezky_shared::queue::error_code::ErrorCode;

impl Authentik {
    /// Verifies that the discovery document of the application is served and names its issuer.
    pub async fn verify_discovery(&self, slug: &str) -> Result<(), ClientError> {
        let root = self.root_url();
        let url = format!("{root}/application/o/{slug}/.well-known/openid-configuration");
        let request = self.http.request_to(Method::GET, &url);
        let operation = Operation::read("get_discovery");
        let response = self.http.send(operation, request).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Err(ClientError::UserAction {
                call: response.failed("the application has no discovery document yet"),
                code: ErrorCode::UpstreamNotReady,
            });
        }
        self.expect(&response, StatusCode::OK)?;
        let discovery: Discovery = response.json()?;
        if discovery
            .issuer
            .ends_with(&format!("/application/o/{slug}/"))
        {
            return Ok(());
        }
        let detail = "the discovery document names another issuer";
        Err(ClientError::Rejected(response.failed(detail)))
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}
