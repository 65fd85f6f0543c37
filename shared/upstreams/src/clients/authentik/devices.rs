//! MFA devices of users.

use http::StatusCode;
use reqwest::Method;
use serde::Deserialize;

use super::Authentik;
use crate::clients::{ClientError, Operation};

/// Type of recovery codes, which are not a second factor.
const RECOVERY_CODES: &str = "StaticDevice";

impl Authentik {
    /// Number of a user's MFA devices. Also zero if our account lacks the permission to see them.
    ///
    /// The response is an unpaginated list without user ids.
    pub async fn count_mfa_devices(&self, user_pk: i64) -> Result<usize, ClientError> {
        let user = user_pk.to_string();
        let request = self
            .http
            .request(Method::GET, "/authenticators/admin/all/")
            .query(&[("user", &user)]);
        let response = self.send(Operation::read("list_devices"), request).await?;
        self.expect(&response, StatusCode::OK)?;
        let devices: Vec<Device> = response.json()?;
        Ok(devices.iter().filter(|device| device.counts()).count())
    }
}

#[derive(Deserialize)]
struct Device {
    r#type: String,
    confirmed: bool,
}

impl Device {
    /// The type is a Python class with its module, whose spelling varies between endpoints.
    fn counts(&self) -> bool {
        let class = self.r#type.rsplit('.').next().unwrap_or_default();
        self.confirmed && !class.eq_ignore_ascii_case(RECOVERY_CODES)
    }
}
