//! What users confirm their sign-in with.

use http::StatusCode;
use reqwest::Method;
use serde::Deserialize;

use super::Authentik;
use crate::clients::{ClientError, Operation};

/// Codes to get back in with. They are no second factor of their own.
const RECOVERY_CODES: &str = "StaticDevice";

impl Authentik {
    /// How many MFA devices a user has. Zero is also what an account without the permission to see them is told.
    ///
    /// The answer is a bare list without pages, and does not say whose the devices are.
    pub async fn count_mfa_devices(&self, user_pk: i64) -> Result<usize, ClientError> {
        let user = user_pk.to_string();
        let request = self
            .http
            .request(Method::GET, "/authenticators/admin/all/")
            .query(&[("user", &user)]);
        let answer = self.send(Operation::read("list_devices"), request).await?;
        self.expect(&answer, StatusCode::OK)?;
        let devices: Vec<Device> = answer.json()?;
        Ok(devices.iter().filter(|device| device.counts()).count())
    }
}

#[derive(Deserialize)]
struct Device {
    r#type: String,
    confirmed: bool,
}

impl Device {
    /// The type is a Python class with its module, whose spelling differs from place to place.
    fn counts(&self) -> bool {
        let class = self.r#type.rsplit('.').next().unwrap_or_default();
        self.confirmed && !class.eq_ignore_ascii_case(RECOVERY_CODES)
    }
}
